//! A connection in memory. The client's end is not a task: one thread handles all clients that have something to
//! read.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum number of bytes in transit to a client, as in the buffers of a socket.
const ROOM: usize = 256 * 1024;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Inner {
    to_server: Vec<u8>,
    /// The number of bytes of `to_server` that the server has read.
    read: usize,
    to_client: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether the pipe is in the list of pipes that the client has to read.
    is_listed: bool,
    client_is_gone: bool,
    server_is_gone: bool,
}

/// A connection with both directions.
#[derive(Default)]
pub struct Pipe(Mutex<Inner>);

impl Pipe {
    /// Writes to the server.
    pub fn write(&self, bytes: &[u8]) {
        let mut inner = locked(&self.0);
        inner.to_server.extend_from_slice(bytes);
        let reader = inner.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes the bytes that the server has written. Also returns whether the server has closed the connection.
    pub fn take(&self) -> (Vec<u8>, bool) {
        let mut inner = locked(&self.0);
        inner.is_listed = false;
        let bytes = std::mem::take(&mut inner.to_client);
        let writer = inner.writer.take();
        let is_over = inner.server_is_gone;
        drop(inner);
        if let Some(writer) = writer {
            writer.wake();
        }
        (bytes, is_over)
    }

    /// Closes the client's end.
    pub fn close(&self) {
        let mut inner = locked(&self.0);
        inner.client_is_gone = true;
        let wakers = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// The pipes that have something for their clients.
#[derive(Default)]
pub struct Ready {
    list: Mutex<Vec<u32>>,
    some: Condvar,
}

impl Ready {
    fn add(&self, id: u32) {
        let mut list = locked(&self.list);
        list.push(id);
        if list.len() == 1 {
            self.some.notify_one();
        }
    }

    /// Takes all listed pipes. Waits at most `patience` for the first one.
    pub fn take(&self, list: &mut Vec<u32>, patience: Duration) {
        list.clear();
        let held = locked(&self.list);
        let waited = self
            .some
            .wait_timeout_while(held, patience, |list| list.is_empty());
        let (mut held, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *held, list);
    }
}

/// The server's end of a pipe.
pub struct ServerEnd {
    pub pipe: Arc<Pipe>,
    pub ready: Arc<Ready>,
    pub id: u32,
}

impl ServerEnd {
    fn list(&self, inner: &mut Inner) {
        if !std::mem::replace(&mut inner.is_listed, true) {
            self.ready.add(self.id);
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = locked(&self.pipe.0);
        let unread = &inner.to_server[inner.read..];
        if unread.is_empty() {
            if inner.client_is_gone {
                return Poll::Ready(Ok(()));
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let some = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..some]);
        inner.read += some;
        if inner.read == inner.to_server.len() {
            inner.to_server = Vec::new();
            inner.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = locked(&self.pipe.0);
        if inner.client_is_gone {
            return Poll::Ready(Err(gone()));
        }
        let room = ROOM.saturating_sub(inner.to_client.len());
        if room == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(room);
        inner.to_client.reserve_exact(wanted);
        let mut left = wanted;
        for buf in bufs {
            let some = buf.len().min(left);
            inner.to_client.extend_from_slice(&buf[..some]);
            left -= some;
        }
        self.list(&mut inner);
        Poll::Ready(Ok(wanted))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = locked(&self.pipe.0);
        inner.server_is_gone = true;
        self.list(&mut inner);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut inner = locked(&self.pipe.0);
        inner.server_is_gone = true;
        self.list(&mut inner);
    }
}
