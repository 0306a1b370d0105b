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

/// A connection after the opening handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    pub(super) io: S,
    reader: Reader,
    writer: Writer,
    /// The payload of the last ping that is not answered. Older ones need not be: section 5.5.3.
    ping: Option<Bytes>,
    /// The code that the other end has closed with.
    pub(super) closed: Option<Option<CloseCode>>,
}

impl<S: Input + Output> WebSocket<S> {
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

    /// One on which neither end masks: both belong to one operator, and what is below is encrypted.
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

    /// How many bytes were received so far: the sign of life that a long message gives before it is
    /// complete.
    pub(crate) fn received(&self) -> u64 {
        self.reader.read()
    }

    /// How many bytes of memory it holds of unfinished messages, and of what is not written. `reads` tells whether anything is
    /// read at the moment.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn held(&mut self, reads: bool) -> usize {
        self.reader.held() + self.writer.queued() + self.io.held(reads)
    }

    /// How many bytes were handed to the system so far.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn sent(&self) -> u64 {
        self.writer.written()
    }

    /// Whether more is unread than may be. Here that is the other end's: its system waits with it.
    pub(crate) fn is_overfull(&self) -> bool {
        false
    }

    /// Why the rest of what has come is of no use any more. Here only reading tells that.
    pub(crate) fn lost(&self) -> Option<std::io::Error> {
        None
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

    /// Queues messages of a server that were [encoded](encode_text) before.
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
        std::future::poll_fn(|cx| self.io.poll_shutdown(cx)).await
    }

    /// [Closes](Self::close), and takes what the other end still sends until it hangs up, as a server does
    /// when it has our close frame. To drop a TCP stream that holds unread data would throw that frame away.
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
