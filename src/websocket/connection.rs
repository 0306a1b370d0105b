//! A WebSocket over a byte stream.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

#[cfg(feature = "rendezvous-server")]
use super::frame;
use super::{
    CloseCode, Message, ReadError,
    frame::MAX_CONTROL,
    reader::{Input, Reader, Stream},
    writer::{Output, Writer},
};
use crate::{buffer::Buffer, protocol::excerpt};

/// The end of the connection that we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Masks the frames that it sends.
    Client,
    /// Accepts only masked frames.
    #[cfg_attr(
        not(feature = "rendezvous-server"),
        allow(dead_code, reason = "only the rendezvous is a server")
    )]
    Server,
}

/// A connection after the opening handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    pub(super) io: S,
    reader: Reader,
    writer: Writer,
    /// The payload of the last unanswered ping. Older pings need no answer (RFC 6455, section 5.5.3).
    ping: Option<Bytes>,
    /// The code with which the other end has closed.
    pub(super) closed: Option<Option<CloseCode>>,
}

impl<S: Input + Output> WebSocket<S> {
    /// Creates a WebSocket. `read` contains the bytes that were already read, and `limit` is the maximum length of a
    /// message.
    pub(crate) fn new(io: S, role: Role, limit: usize, read: BytesMut) -> Self {
        Self {
            io,
            reader: Reader::new(role, limit, read),
            writer: Writer::new(role),
            ping: None,
            closed: None,
        }
    }

    /// Creates a WebSocket on which neither end masks. Both ends belong to one operator, and the layer below is
    /// encrypted.
    #[cfg(feature = "cluster")]
    pub(crate) fn unmasked(io: S, limit: usize) -> Self {
        Self {
            io,
            reader: Reader::new(Role::Client, limit, BytesMut::new()),
            writer: Writer::new(Role::Server),
            ping: None,
            closed: None,
        }
    }

    /// Returns the number of bytes received so far. It shows that the other end is alive before a long message is
    /// complete.
    pub(crate) fn received(&self) -> u64 {
        self.reader.read()
    }

    /// Returns the bytes of memory held for unfinished messages and for unwritten data. `reads` says whether the
    /// WebSocket is being read at the moment.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn held(&mut self, reads: bool) -> usize {
        self.reader.held() + self.writer.queued() + self.io.held(reads)
    }

    /// Returns the number of bytes handed to the system so far.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn sent(&self) -> u64 {
        self.writer.written()
    }

    /// Returns whether there is too much unread data. Always `false` here: unread data stays with the other end's
    /// system.
    pub(crate) fn is_overfull(&self) -> bool {
        false
    }

    /// Returns the reason why the remaining received data is useless. Always `None` here, because only reading shows
    /// such a reason.
    pub(crate) fn lost(&self) -> Option<std::io::Error> {
        None
    }

    /// Returns the next message, or `None` when the other end has closed the stream. Nothing comes after a close or an
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

    /// Returns the next message, as a future. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, ReadError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Queues a message, to be [flushed](Self::poll_flush).
    pub(crate) fn send(&mut self, message: Message) {
        self.writer.push(message);
    }

    /// Queues a binary message. For a client, this saves a copy.
    pub(crate) fn send_buffer(&mut self, data: Buffer) {
        self.writer.push_buffer(data);
    }

    /// Queues messages of a server that were already [encoded](encode_text).
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn send_encoded(&mut self, frames: Bytes) {
        self.writer.push_encoded(frames);
    }

    /// Returns the number of queued bytes.
    pub(crate) fn queued(&self) -> usize {
        self.writer.queued()
    }

    /// Writes everything that is queued, and the answer to a ping.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.writer.poll_flush(&mut self.io, cx))?;
            match self.ping.take() {
                Some(payload) => self.writer.push(Message::Pong(payload)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends a close frame after everything that is queued, and ends our direction. If the other end has closed, the
    /// frame repeats its code.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        let close = match self.closed {
            Some(code) => code.map(|code| (code, String::new())),
            None => {
                // The code takes two bytes.
                Some((code, excerpt(reason, MAX_CONTROL - 2)))
            }
        };
        self.ping = None;
        // The memory is not to be held while the other end takes its time.
        self.reader.clear();
        self.send(Message::Close(close));
        std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        std::future::poll_fn(|cx| self.io.poll_shutdown(cx)).await
    }

    /// [Closes](Self::close), and discards what the other end still sends until it closes the stream, as a server does
    /// when it has received our close frame. Dropping a TCP stream with unread data would discard our close frame.
    pub(crate) async fn finish(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.close(code, reason).await?;
        let mut discarded = [0; 4096];
        while Stream(&mut self.io).read(&mut discarded).await? > 0 {}
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
