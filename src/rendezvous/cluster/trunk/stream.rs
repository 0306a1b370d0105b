//! A stream of HTTP/2, for a WebSocket to go over.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::{io::ReadBuf, sync::OwnedSemaphorePermit};

use super::{FRAME, STREAM_WINDOW};
use crate::{
    rendezvous::cluster::status::TrunkCounts,
    websocket::{Input, Output, Unwritten},
};

/// Both directions of a stream of HTTP/2. To drop it before both have ended cuts it, which the other end learns.
#[derive(Debug)]
pub(in crate::rendezvous::cluster) struct H2Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What has come and is not read.
    read: Bytes,
    counted: Option<Counted>,
}

/// What is counted of a stream.
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

    /// The same, which is counted with its trunk.
    pub(super) fn counted(mut self, counts: Arc<TrunkCounts>, place: OwnedSemaphorePermit) -> Self {
        counts.streams.fetch_add(1, Ordering::Relaxed);
        self.counted = Some(Counted {
            counts,
            is_stalled: false,
            _place: place,
        });
        self
    }

    /// How many bytes of so many may be handed over now: all, unless they do not fit a frame. What comes in two pieces would have to
    /// be copied into one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let wanted = wanted.min(FRAME as usize);
        self.send.reserve_capacity(wanted);
        // It tells of room that is new only.
        while self.send.capacity() < wanted {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(wanted))
    }

    /// Ready when there is something to read, or nothing will be.
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

    /// The other end may send as much again as was read.
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
            // What comes is taken at once.
            true => self.receive.flow_control().used_capacity(),
            // As much may come as there is room for.
            false => STREAM_WINDOW as usize,
        }
    }

    fn take_piece(&mut self, cx: &mut Context<'_>, len: usize) -> Option<Bytes> {
        // An error comes again.
        let is_there = self.poll_piece(cx).is_ready() && self.read.len() == len;
        let is_taken = is_there && len > 0 && self.release(len).is_ok();
        is_taken.then(|| std::mem::take(&mut self.read))
    }
}

/// It takes whole pieces, and hands them to the connection without a copy.
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
        // The connection writes what it has been given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io_error))
    }
}
