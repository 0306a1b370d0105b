//! The bodies of HTTP answers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
#[cfg(feature = "rendezvous")]
use futures::{StreamExt as _, stream::BoxStream};
use hyper::body::{Frame, SizeHint};

/// The body of an answer.
pub(super) enum Body {
    /// The whole body.
    Text(String),
    /// A body that is written as events happen, until the stream ends.
    #[cfg(feature = "rendezvous")]
    Events(BoxStream<'static, Bytes>),
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    #[cfg_attr(
        not(feature = "rendezvous"),
        allow(
            unused_variables,
            reason = "without this feature, the body never waits"
        )
    )]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |data| Some(Ok(Frame::data(data)));
        match self.get_mut() {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(frame(std::mem::take(text).into())),
            #[cfg(feature = "rendezvous")]
            Self::Events(events) => events.poll_next_unpin(cx).map(|data| data.and_then(frame)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            #[cfg(feature = "rendezvous")]
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            #[cfg(feature = "rendezvous")]
            Self::Events(_) => SizeHint::default(),
        }
    }
}
