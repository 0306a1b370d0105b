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
use crate::{channel::Channel, hints::Claim, protocol::stream::StreamError};

/// A reliable, ordered stream of bytes in both directions, as [`AsyncRead`] and [`AsyncWrite`].
///
/// * Small writes are collected until [`flush`](futures::AsyncWriteExt::flush). Full items, of
///   [`Limits::with_item_bytes`](crate::Limits::with_item_bytes), are sent at once. A flush returns as soon as the link
///   has the data. A write waits while [`Limits::with_send_bytes`](crate::Limits::with_send_bytes) are ahead of it.
/// * [`close`](futures::AsyncWriteExt::close) ends our direction after all written data. It returns once the socket has
///   accepted all of the data, so it waits until the other peer has accepted the stream and the rendezvous reads. It
///   fails if the link is lost before that. Reading continues until the other peer ends its own direction.
/// * Dropping the connection ends both directions. Flushed data is still sent. After that data, the other peer's reads
///   fail with [`ConnectionReset`](io::ErrorKind::ConnectionReset), unless we had closed our direction.
/// * Operations fail with `ConnectionReset`, and with a [`StreamError`] as the inner error, if the link is lost, if the
///   other peer gives up, or if the reader holds up other connections for
///   [`Config::with_hold_up_timeout`](crate::Config::with_hold_up_timeout) or its link alone for
///   [`Config::with_stall_timeout`](crate::Config::with_stall_timeout). None of these is a silent end of the stream. A
///   link can only be held up through peers that do not support [credits](crate::protocol::credit), such as JavaScript
///   nodes. Writing after our own close fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
///
/// All operations are cancel safe: a dropped `read` or `write` future that returned nothing has transferred nothing.
///
/// The connection is neither encrypted nor authenticated. The rendezvous sees every byte, and vouches only for the
/// other peer's address. Upgrade the connection, for example with `libp2p-noise`.
#[derive(Debug)]
pub struct Connection {
    channel: Arc<Channel>,
    /// Keeps other dials of the same attempt waiting while this connection is upgraded.
    claim: Option<Claim>,
    /// The counters of its bytes.
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

    /// Holds the place of the connection's dial until the attempt is over or the connection is dropped.
    pub(crate) fn hold(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// Returns the same connection, whose bytes are counted in `crossed` from now on.
    #[cfg(feature = "direct")]
    pub(crate) fn counted(mut self, crossed: Arc<Crossed>) -> Self {
        self.crossed = Some(crossed);
        self
    }

    /// Counts the bytes that were read or written.
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
            None => io::Error::new(
                io::ErrorKind::BrokenPipe,
                "cannot write: the connection was closed",
            ),
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
