//! A stream that reads more at once than it is asked for.
//!
//! rustls asks for 4 KiB at a time, and each time is a system call. While whole pieces of that size come, this stream
//! reads 64 KiB at once. A link that waits for data, or receives little, has no buffer here. A link that is not read
//! keeps its buffer.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// The number of bytes that are read at once: four whole TLS records.
const AHEAD: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct ReadAhead<S> {
    io: S,
    buffer: Vec<u8>,
    /// The part of the buffer that was not asked for yet.
    ahead: std::ops::Range<usize>,
    /// Whether the last read filled the whole buffer that it was given.
    is_busy: bool,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(io: S) -> Self {
        Self {
            io,
            buffer: Vec::new(),
            ahead: 0..0,
            is_busy: false,
        }
    }

    /// Hands out data that was read ahead.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let ahead = self.buffer.get(self.ahead.clone()).unwrap_or_default();
        let some = ahead.get(..buf.remaining()).unwrap_or(ahead);
        buf.put_slice(some);
        self.ahead.start += some.len();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            let room = buf.remaining();
            if !this.is_busy || room >= AHEAD {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
                this.is_busy = buf.filled().len() - before == room;
                if !this.is_busy {
                    this.buffer = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = std::mem::take(&mut this.buffer);
            buffer.clear();
            buffer.reserve_exact(AHEAD);
            // This future can be dropped at any time without losing data.
            let read = pin!(this.io.read_buf(&mut buffer)).poll(cx);
            // If nothing is there, the buffer is given up. When data comes again, a read without the buffer shows
            // whether it is much.
            this.is_busy = read.is_ready();
            this.ahead = 0..ready!(read)?;
            this.buffer = buffer;
        }
        this.take(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Gives bytes that count up, as many as it holds, and records how much it was asked for.
    struct Source {
        held: usize,
        given: usize,
        asked: Vec<usize>,
    }

    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked.push(buf.remaining());
            if self.held == 0 {
                return Poll::Pending;
            }
            let some = self.held.min(buf.remaining());
            let bytes: Vec<u8> = (self.given..self.given + some).map(|n| n as u8).collect();
            buf.put_slice(&bytes);
            self.held -= some;
            self.given += some;
            Poll::Ready(Ok(()))
        }
    }

    /// Reads in steps of 4 KiB until there is no more, and checks the bytes. Returns how far it has read.
    fn read(stream: &mut ReadAhead<Source>, from: usize) -> usize {
        let mut at = from;
        loop {
            let mut bytes = [0; 4096];
            let mut buf = ReadBuf::new(&mut bytes);
            let mut cx = Context::from_waker(Waker::noop());
            if Pin::new(&mut *stream)
                .poll_read(&mut cx, &mut buf)
                .is_pending()
            {
                return at;
            }
            for byte in buf.filled() {
                assert_eq!(*byte, at as u8);
                at += 1;
            }
        }
    }

    #[test]
    fn much_is_read_at_once_and_what_is_idle_keeps_nothing() {
        let mut stream = ReadAhead::new(Source {
            held: 1_000_000,
            given: 0,
            asked: Vec::new(),
        });
        assert_eq!(read(&mut stream, 0), 1_000_000);
        assert!(stream.io.asked.len() < 20, "{:?}", stream.io.asked);
        assert_eq!(stream.buffer.capacity(), 0);
        stream.io.held = 100;
        assert_eq!(read(&mut stream, 1_000_000), 1_000_100);
        assert_eq!(stream.buffer.capacity(), 0);
        stream.io.asked.clear();
        stream.io.held = 1000;
        assert_eq!(read(&mut stream, 1_000_100), 1_001_100);
        assert_eq!(stream.io.asked, [4096, 4096]);
    }

    #[tokio::test]
    async fn an_end_is_an_end_and_what_is_written_goes_through() {
        let (ours, mut theirs) = tokio::io::duplex(100_000);
        let mut ours = ReadAhead::new(ours);
        ours.write_all(b"hello").await.expect("room");
        theirs.write_all(&[7; 50_000]).await.expect("room");
        let mut hello = [0; 5];
        theirs.read_exact(&mut hello).await.expect("five bytes");
        assert_eq!(&hello, b"hello");
        drop(theirs);
        let mut all = Vec::new();
        ours.read_to_end(&mut all).await.expect("an end");
        assert_eq!(all, [7; 50_000]);
    }
}
