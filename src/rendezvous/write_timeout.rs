//! A stream with a time limit for writes: the other end must take something of what is written in time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// A stream that fails a write if the other end has taken nothing of it for too long.
#[derive(Debug)]
pub(super) struct WriteTimeout<S> {
    io: S,
    patience: Duration,
    /// The time limit of the current write; `None` while nothing waits to be taken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    pub(super) fn new(io: S, patience: Duration) -> Self {
        Self {
            io,
            patience,
            deadline: None,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }

    /// Polls `operation`. Returns an error if it has been pending for too long.
    fn within<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        if let Poll::Ready(result) = operation(Pin::new(&mut self.io), cx) {
            self.deadline = None;
            return Poll::Ready(result);
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        deadline
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.within(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.within(cx, |io, cx| io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_in_time() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut ours = WriteTimeout::new(ours, PATIENCE);
        let begun = tokio::time::Instant::now();
        let error = ours.write_all(&[0; 5]).await.expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_something_now_and_then_is_waited_for() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = WriteTimeout::new(ours, PATIENCE);
        let write = async { ours.write_all(&[7; 40]).await };
        let read = async {
            for _ in 0..40 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                assert_eq!(theirs.read_u8().await.expect("a byte"), 7);
            }
        };
        let (written, ()) = tokio::join!(write, read);
        written.expect("all taken");
    }

    #[tokio::test(start_paused = true)]
    async fn reading_is_not_its_concern() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = WriteTimeout::new(ours, PATIENCE);
        let late = async {
            tokio::time::sleep(10 * PATIENCE).await;
            theirs.write_u8(7).await
        };
        let (read, written) = tokio::join!(ours.read_u8(), late);
        assert_eq!((read.expect("a byte"), written.expect("room")), (7, ()));
        drop(ours.into_inner());
    }
}
