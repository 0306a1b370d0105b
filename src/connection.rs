//! A connection: the byte stream between two peers, through their rendezvous.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

#[cfg(feature = "direct")]
use crate::activity::Crossed;
use crate::{hints::Claim, link::Channel, protocol::stream::StreamError};

/// A reliable, ordered stream of bytes in both directions, as
/// [`AsyncRead`] and [`AsyncWrite`].
///
/// * Small writes are gathered until [`flush`](futures::AsyncWriteExt::flush); full items, of
///   [`Limits::with_item_bytes`](crate::Limits::with_item_bytes), go at once. A flush returns as soon
///   as the data is with the link; a write waits while
///   [`Limits::with_send_bytes`](crate::Limits::with_send_bytes) are ahead of it.
/// * [`close`](futures::AsyncWriteExt::close) ends our direction, after all that was written, and
///   returns once the socket has taken all of it: it waits for the other peer to accept the stream and
///   for the rendezvous to read. It fails if the link is lost before. Reading goes on until the other
///   peer ends its own.
/// * Dropping the connection ends both directions: flushed data is still sent, and the other peer's
///   reads fail with [`ConnectionReset`](io::ErrorKind::ConnectionReset) after it, unless we had
///   closed.
/// * A lost link, a peer that gave up, and a reader that holds up others for
///   [`Config::with_hold_up_timeout`](crate::Config::with_hold_up_timeout), or its link alone for
///   [`Config::with_stall_timeout`](crate::Config::with_stall_timeout), are `ConnectionReset`, with a
///   [`StreamError`] as the inner error; never a silent end. Only peers without [credits](crate::protocol::credit), such as
///   JavaScript nodes, can have a link held up. Writing after our own close is
///   [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///
/// All operations are cancel safe: what a dropped `read` or `write` future reported nothing of did
/// not happen.
///
/// Nothing here is encrypted or authenticated: the rendezvous sees every byte, and vouches for the
/// other peer's address only. Upgrade it, for example with `libp2p-noise`.
#[derive(Debug)]
pub struct Connection {
    channel: Arc<Channel>,
    /// Keeps other dials of the same attempt waiting while this one is upgraded.
    claim: Option<Claim>,
    /// Where its bytes are counted.
    #[cfg(feature = "direct")]
    crossed: Option<Arc<Crossed>>,
}

impl Connection {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        channel.taken();
        Self {
            channel,
            claim: None,
            #[cfg(feature = "direct")]
            crossed: None,
        }
    }

    /// Holds the place of its dial, until the attempt is over or the connection dropped.
    pub(crate) fn hold(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// The same, with its bytes counted there from now on.
    #[cfg(feature = "direct")]
    pub(crate) fn counted(mut self, crossed: Arc<Crossed>) -> Self {
        self.crossed = Some(crossed);
        self
    }

    /// So many bytes were read or written.
    #[cfg(feature = "direct")]
    fn crossed(&self, bytes: usize) {
        if let Some(crossed) = &self.crossed {
            crossed.add(bytes);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.channel.poll_read(cx, buf)).map_err(reset)?;
        #[cfg(feature = "direct")]
        self.crossed(read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.channel.poll_write(cx, buf));
        let written = written.map_err(|error| match error {
            Some(error) => reset(error),
            None => io::Error::new(io::ErrorKind::BrokenPipe, "written after the close"),
        })?;
        #[cfg(feature = "direct")]
        self.crossed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.channel.flush().map_err(reset))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.poll_close(cx).map_err(reset)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channel.dropped();
    }
}

fn reset(error: StreamError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
