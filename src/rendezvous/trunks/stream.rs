//! A stream of HTTP/2 that carries a WebSocket.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::{io::ReadBuf, sync::OwnedSemaphorePermit};

use super::terms::{FRAME, STREAM_WINDOW};
use crate::{
    rendezvous::cluster::TrunkCounts,
    websocket::{Input, Output, Unwritten},
};

/// Both directions of a stream of HTTP/2. If it is dropped before both have ended, the stream is cut, and the other end
/// is notified.
#[derive(Debug)]
pub(super) struct H2Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Data that has arrived and was not read yet.
    read: Bytes,
    counted: Option<Counted>,
}

/// The counters of a stream's trunk, and the stream's place on the trunk.
#[derive(Debug)]
struct Counted {
    counts: Arc<TrunkCounts>,
    is_stalled: bool,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn set_stalled(&mut self, is_stalled: bool) {
        if self.is_stalled != is_stalled {
            self.is_stalled = is_stalled;
            let stalled = &self.counts.stalled;
            match is_stalled {
                true => stalled.fetch_add(1, Ordering::Relaxed),
                false => stalled.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set_stalled(false);
        self.counts.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl H2Stream {
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            read: Bytes::new(),
            counted: None,
        }
    }

    /// Returns the stream, counted with its trunk from now on.
    pub(super) fn counted(mut self, counts: Arc<TrunkCounts>, place: OwnedSemaphorePermit) -> Self {
        counts.streams.fetch_add(1, Ordering::Relaxed);
        self.counted = Some(Counted {
            counts,
            is_stalled: false,
            _place: place,
        });
        self
    }

    /// Waits until the wanted bytes can be sent in one piece, and returns how many they are: all, or a whole frame if
    /// they do not fit one. The other end would have to copy two pieces into one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let wanted = wanted.min(FRAME as usize);
        self.send.reserve_capacity(wanted);
        // `poll_capacity` only reports new room, so the room that is there already is checked first.
        while self.send.capacity() < wanted {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(wanted))
    }

    /// Ready when there is something to read, or when there will be nothing more.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(data)) => self.read = data,
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Allows the other end to send as many bytes again as were read.
    fn release(&mut self, len: usize) -> io::Result<()> {
        if let Some(Counted { counts, .. }) = &self.counted {
            counts.received.fetch_add(len as u64, Ordering::Relaxed);
        }
        self.receive
            .flow_control()
            .release_capacity(len)
            .map_err(io_error)
    }
}

fn io_error(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        false => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}

impl Input for H2Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_piece(cx))?;
        let len = self.read.len().min(to.remaining());
        to.put_slice(self.read.get(..len).unwrap_or_default());
        self.read.advance(len);
        Poll::Ready(self.release(len))
    }

    fn held(&mut self, reads: bool) -> usize {
        match reads {
            // Data is taken as soon as it arrives, so only what has arrived counts.
            true => self.receive.flow_control().used_capacity(),
            // Nothing is taken, so a whole window may arrive.
            false => STREAM_WINDOW as usize,
        }
    }

    fn take_piece(&mut self, cx: &mut Context<'_>, len: usize) -> Option<Bytes> {
        // If this is an error, the next read gets it again.
        let is_there = self.poll_piece(cx).is_ready() && self.read.len() == len;
        let is_taken = is_there && len > 0 && self.release(len).is_ok();
        is_taken.then(|| std::mem::take(&mut self.read))
    }
}

/// Takes whole pieces, and hands them to the connection without a copy.
impl Output for H2Stream {
    fn poll_write(
        &mut self,
        unwritten: &mut Unwritten<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut first = unwritten.first();
        let room = self.poll_room(cx, first.len());
        if let Some(counted) = &mut self.counted {
            counted.set_stalled(room.is_pending());
        }
        let room = ready!(room)?;
        let sent = self.send.send_data(first.split_to(room), false);
        if let Some(Counted { counts, .. }) = &self.counted {
            counts.sent.fetch_add(room as u64, Ordering::Relaxed);
        }
        Poll::Ready(sent.map(|()| room).map_err(io_error))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes by itself what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io_error))
    }
}
