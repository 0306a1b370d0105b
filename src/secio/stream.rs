//! The connection after the handshake.

use std::{
    fmt, io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    FrameError, MAX_FRAME,
    frame::{FrameDecoder, HEADER},
    seal::{Opener, Sealer},
};

/// The plaintext bytes of the largest frame that we send. Other implementations accept much more. Small frames let the
/// other side begin before all of a large write has arrived.
const MAX_PLAINTEXT: usize = 64 * 1024;

/// A secured connection: data written at one end is read at the other, and is encrypted and authenticated on the path.
///
/// * Small writes share a frame until [`flush`](futures::AsyncWriteExt::flush), or until the frame has 64 KiB.
/// * [`close`](futures::AsyncWriteExt::close) flushes, and closes the underlying connection.
/// * If the connection ends inside a frame, reads fail with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof). If it ends
///   between two frames, that is a normal end of the stream: secio has no closing message, so a proper end and a cut
///   look the same. A muxer in the middle of something can notice a cut.
/// * If a frame was changed on the path, this read and all further reads fail with
///   [`InvalidData`](io::ErrorKind::InvalidData), with a [`FrameError`] as the inner error.
///
/// All operations are cancel safe.
pub struct Output<S> {
    io: S,
    decoder: FrameDecoder,
    opener: Opener,
    /// The range of the unread plaintext in the decoder.
    plaintext: Range<usize>,
    failed: Option<FrameError>,
    sealer: Sealer,
    outbox: Outbox,
}

impl<S> Output<S> {
    pub(super) fn new(io: S, mut decoder: FrameDecoder, opener: Opener, sealer: Sealer) -> Self {
        decoder.set_max(MAX_FRAME);
        Self {
            io,
            decoder,
            opener,
            plaintext: 0..0,
            failed: None,
            sealer,
            outbox: Outbox::default(),
        }
    }

    /// Returns the range of the next plaintext, which may be empty, if its frame is complete.
    fn open_next(&mut self) -> Result<Option<Range<usize>>, FrameError> {
        let Some(place) = self.decoder.next_frame()? else {
            return Ok(None);
        };
        let start = place.start;
        let len = self.opener.open(self.decoder.get(place))?;
        Ok(Some(start..start + len))
    }
}

impl<S: AsyncRead + Unpin> Output<S> {
    /// Waits until there is plaintext. `false` means the end of the stream.
    fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Err(error.into()));
        }
        while self.plaintext.is_empty() {
            match self.open_next() {
                Ok(Some(plaintext)) => {
                    self.plaintext = plaintext;
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, self.decoder.space()))?;
            self.decoder.filled(read);
            if read == 0 {
                return Poll::Ready(if self.decoder.is_partial() {
                    Err(self.fail(FrameError::Truncated))
                } else {
                    Ok(false)
                });
            }
        }
        Poll::Ready(Ok(true))
    }

    fn fail(&mut self, error: FrameError) -> io::Error {
        self.failed = Some(error);
        error.into()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Output<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() || !ready!(self.poll_plaintext(cx))? {
            return Poll::Ready(Ok(0));
        }
        let len = buf.len().min(self.plaintext.len());
        let place = self.plaintext.start..self.plaintext.start + len;
        buf[..len].copy_from_slice(self.decoder.get(place));
        self.plaintext.start += len;
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncWrite + Unpin> Output<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_drain(Pin::new(&mut self.io), cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Output<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.outbox.is_full() {
            this.outbox.seal(&mut this.sealer);
        }
        if this.outbox.sealed {
            ready!(this.poll_drain(cx))?;
        }
        Poll::Ready(Ok(this.outbox.push(buf)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.outbox.seal(&mut this.sealer);
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// One outgoing frame. It is first filled, then sealed and written.
#[derive(Default)]
struct Outbox {
    /// Before sealing, space for the header and then the plaintext. After sealing, the frame.
    frame: Vec<u8>,
    sealed: bool,
    written: usize,
}

impl Outbox {
    fn is_full(&self) -> bool {
        self.frame.len() >= HEADER + MAX_PLAINTEXT
    }

    fn push(&mut self, data: &[u8]) -> usize {
        if self.frame.is_empty() {
            self.frame.extend_from_slice(&[0; HEADER]);
        }
        let len = data.len().min(HEADER + MAX_PLAINTEXT - self.frame.len());
        self.frame.extend_from_slice(&data[..len]);
        len
    }

    fn seal(&mut self, sealer: &mut Sealer) {
        if self.frame.len() > HEADER && !self.sealed {
            sealer.seal(&mut self.frame);
            self.sealed = true;
        }
    }

    /// Writes the sealed frame. Returns when there is none any more.
    fn poll_drain<S: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sealed {
            let written = ready!(io.as_mut().poll_write(cx, &self.frame[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            if self.written == self.frame.len() {
                self.frame.clear();
                self.sealed = false;
                self.written = 0;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for Output<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
