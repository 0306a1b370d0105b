//! WebSocket (RFC 6455), for what goes over a link: whole messages, no extensions.
//!
//! A crate of its own would do, and one did. What it cost was measured: a read buffer of 8 KiB for
//! each idle link, memory fresh from the system for each item, two reads an item, and a header and a mask for
//! each copy of what goes to every link. [`reader`] and [`writer`] are built around those;
//! `benches/README.md` has the figures.
//!
//! [`upgrade`](mod@upgrade) is the client's side of the opening handshake; the server's is in `rendezvous::http`.

mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod mask;
mod reader;
pub(crate) mod upgrade;
mod writer;

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use self::{frame::MAX_CONTROL, reader::Reader, writer::Writer};
use crate::{buffer::Buffer, protocol::excerpt};

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Masks what it sends.
    Client,
    /// Takes only what is masked.
    #[cfg_attr(
        not(feature = "rendezvous-server"),
        allow(dead_code, reason = "only the rendezvous serves")
    )]
    Server,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseCode(u16);

impl CloseCode {
    pub(crate) const NORMAL: Self = Self(1000);
    #[cfg(feature = "rendezvous-server")]
    pub(crate) const GOING_AWAY: Self = Self(1001);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1002);
    pub(crate) const INVALID_DATA: Self = Self(1007);
    #[cfg(feature = "rendezvous-server")]
    pub(crate) const POLICY_VIOLATION: Self = Self(1008);
    pub(crate) const MESSAGE_TOO_BIG: Self = Self(1009);

    /// A code that may be sent: RFC 6455, section 7.4, and the registry that it sets up.
    fn received(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// What a connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// UTF-8.
    Text(Bytes),
    Binary(Bytes),
    /// It is answered without the reader's doing.
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<(CloseCode, String)>),
}

impl Message {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into())
    }

    /// The text of a text message.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// How many bytes of text or data it has.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(data) | Self::Binary(data) | Self::Ping(data) | Self::Pong(data) => {
                data.len()
            }
            Self::Close(_) => 0,
        }
    }
}

/// A violation of RFC 6455 by the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// A frame has bits set that only extensions use, and none was agreed on.
    #[error("a frame with reserved bits")]
    ReservedBits,
    /// A frame has a type that there is not.
    #[error("a frame of unknown type {0}")]
    Opcode(u8),
    /// A control frame is too long, or one of several.
    #[error("a control frame that is too long, or not whole")]
    Control,
    /// A length takes more bytes than it needs, or cannot be one.
    #[error("a frame with a malformed length")]
    Length,
    /// A client must mask its frames, a server must not.
    #[error("a frame is masked that must not be, or the other way round")]
    Mask,
    /// A frame continues a message that was not begun.
    #[error("a continuation of nothing")]
    Continuation,
    /// A message begins before the last one has ended.
    #[error("a message within another")]
    Interrupted,
    /// A text, or the reason of a close, is not UTF-8.
    #[error("a text that is not UTF-8")]
    Utf8,
    /// A close frame has a code that must not be sent, or half of one.
    #[error("a malformed close code")]
    CloseCode,
}

impl WebSocketError {
    /// What the other end is told.
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            Self::Utf8 => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Violation(#[from] WebSocketError),
    #[error("a message of {len} bytes; at most {max} are accepted")]
    TooLong { len: usize, max: usize },
}

/// A connection after the opening handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    io: S,
    reader: Reader,
    writer: Writer,
    /// The payload of the last ping that is not answered. Older ones need not be: section 5.5.3.
    ping: Option<Bytes>,
    /// The code that the other end has closed with.
    closed: Option<Option<CloseCode>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// One where `read` was read already, and no message may be longer than `limit` bytes.
    pub(crate) fn new(io: S, role: Role, limit: usize, read: BytesMut) -> Self {
        Self {
            io,
            reader: Reader::new(role, limit, read),
            writer: Writer::new(role),
            ping: None,
            closed: None,
        }
    }

    /// How many bytes were received so far: the sign of life that a long message gives before it is
    /// complete.
    pub(crate) fn received(&self) -> u64 {
        self.reader.read()
    }

    /// How many bytes of memory it holds of unfinished messages, and of what is not written.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn held(&self) -> usize {
        self.reader.held() + self.writer.queued()
    }

    /// How many bytes were handed to the system so far.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn sent(&self) -> u64 {
        self.writer.written()
    }

    /// The next message; `None` when the other end has hung up. Nothing comes after a close or an
    /// error.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, ReadError>>> {
        if self.closed.is_some() {
            return Poll::Ready(None);
        }
        let next = ready!(self.reader.poll_next(&mut self.io, cx));
        match &next {
            Some(Ok(Message::Ping(payload))) => self.ping = Some(payload.clone()),
            Some(Ok(Message::Close(close))) => {
                self.closed = Some(close.as_ref().map(|(code, _)| *code));
            }
            _ => {}
        }
        Poll::Ready(next)
    }

    /// The same as a future. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, ReadError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Queues a message, to be [flushed](Self::poll_flush).
    pub(crate) fn send(&mut self, message: Message) {
        self.writer.push(message);
    }

    /// Queues a binary message. Of a client, that saves a copy.
    pub(crate) fn send_buffer(&mut self, data: Buffer) {
        self.writer.push_buffer(data);
    }

    /// Queues messages of a server that were [encoded](encode) before.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn send_encoded(&mut self, frames: Bytes) {
        self.writer.push_encoded(frames);
    }

    /// How many bytes are queued.
    pub(crate) fn queued(&self) -> usize {
        self.writer.queued()
    }

    /// Writes all that is queued, and the answer to a ping.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.writer.poll_flush(&mut self.io, cx))?;
            match self.ping.take() {
                Some(payload) => self.writer.push(Message::Pong(payload)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends a close frame behind all that is queued, with the other end's own code if it has closed,
    /// and ends our direction.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        let close = match self.closed {
            Some(code) => code.map(|code| (code, String::new())),
            None => {
                // The code takes two bytes.
                Some((code, excerpt(reason, MAX_CONTROL - 2)))
            }
        };
        self.ping = None;
        // It is not to be held while the other end takes its time.
        self.reader.clear();
        self.send(Message::Close(close));
        std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        self.io.shutdown().await
    }

    /// [Closes](Self::close), and takes what the other end still sends until it hangs up, as a server does
    /// when it has our close frame. To drop a TCP stream that holds unread data would throw that frame away.
    pub(crate) async fn finish(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.close(code, reason).await?;
        let mut discarded = [0; 4096];
        while self.io.read(&mut discarded).await? > 0 {}
        Ok(())
    }
}

/// Appends the frame of a server's text message, for [`WebSocket::send_encoded`].
#[cfg(feature = "rendezvous-server")]
pub(crate) fn encode_text(text: &str, frames: &mut Vec<u8>) {
    let header = frame::Header {
        fin: true,
        opcode: frame::Opcode::Text,
        mask: None,
        len: text.len(),
    };
    header.encode(frames);
    frames.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod conformance_tests;
