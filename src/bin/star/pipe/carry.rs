//! Carries both directions of a pipe, each to its own end.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use tokio::{sync::watch, time::timeout};

use super::{
    PipeError,
    frame::{DATA, Frame, Reader, WINDOW, Writer},
    streams::{Input, Output, Progress},
};
use crate::{output::words, stop::Stop};

/// The bytes written out after which the other end is notified.
const TELL: u64 = WINDOW / 32;
/// How long this end waits for the other end to take its last frames, and to send its own.
const GOODBYE: Duration = Duration::from_secs(5);

/// The progress of the transfer, for those who display it.
#[derive(Debug, Default)]
pub struct Moved {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// Whether the other end was told that nothing more is sent.
    ended: AtomicBool,
    /// Whether the other end was told that all that it sent has been written out.
    done: AtomicBool,
}

/// A pipe with both its ends.
pub struct Carry<R, W> {
    pub reader: Reader<R>,
    pub writer: Writer<W>,
    pub input: Input,
    pub output: Output,
    pub moved: Arc<Moved>,
}

/// What the other end has reported about our input.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    written: u64,
    is_done: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Carry<R, W> {
    /// Carries both directions until each has ended and both ends have written everything out.
    ///
    /// # Errors
    /// If anything fails before that. The other end is notified if possible.
    pub async fn run(mut self, stop: &mut Stop) -> Result<(), PipeError> {
        let (taken, takes) = watch::channel(Taken::default());
        let sending = Sending {
            writer: &mut self.writer,
            input: self.input,
            progress: self.output.progress(),
            takes,
            moved: &self.moved,
            sent: 0,
            told: 0,
            is_unsent: false,
            is_cut: false,
        };
        let carried = tokio::select! {
            // Frames of the other end are handled first, because they explain why it stops reading.
            biased;
            never = receive(&mut self.reader, &self.output, &taken, &self.moved) => match never {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
            sent = sending.run(stop) => sent,
        };
        // This end is finished or has failed. The other end may still need it until it has finished, too.
        let goodbye = async {
            self.writer.close().await;
            self.reader.closed().await;
        };
        tokio::select! {
            _ = timeout(GOODBYE, goodbye) => {}
            () = stop.wanted() => {}
        }
        carried
    }
}

/// Handles the frames of the other end as long as this end sends, so that a lost connection is noticed.
async fn receive<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    output: &Output,
    taken: &watch::Sender<Taken>,
    moved: &Moved,
) -> Result<Infallible, PipeError> {
    let progress = output.progress();
    let (mut received, mut is_ended) = (0, false);
    loop {
        let next = reader.next().await;
        if next.is_err() && taken.borrow().is_done && moved.done.load(Relaxed) {
            // The other end has finished and closes the stream. This end has finished, too.
            return std::future::pending().await;
        }
        match next? {
            Frame::Data(data) if !is_ended => {
                received += data.len() as u64;
                if received - progress.borrow().written > WINDOW + DATA as u64 {
                    return Err(PipeError::Protocol("it sent more data than it may"));
                }
                output.push(data);
                moved.received.store(received, Relaxed);
            }
            Frame::End(count) if !is_ended && count == received => {
                is_ended = true;
                output.end();
            }
            Frame::Written(written) if written <= moved.sent.load(Relaxed) => {
                taken.send_modify(|taken| taken.written = written.max(taken.written));
            }
            Frame::Done
                if moved.ended.load(Relaxed)
                    && taken.borrow().written == moved.sent.load(Relaxed) =>
            {
                taken.send_modify(|taken| taken.is_done = true);
            }
            Frame::Failed(why) => return Err(PipeError::Peer(words(why))),
            _ => return Err(PipeError::Protocol("it sent an unexpected frame")),
        }
    }
}

/// The sending half of a pipe.
struct Sending<'a, W> {
    writer: &'a mut Writer<W>,
    input: Input,
    progress: watch::Receiver<Progress>,
    takes: watch::Receiver<Taken>,
    moved: &'a Moved,
    sent: u64,
    /// The bytes written out that were reported to the other end.
    told: u64,
    /// Whether something was written since the last flush.
    is_unsent: bool,
    /// Whether a frame was abandoned in the middle, so that nothing can follow it.
    is_cut: bool,
}

/// The next thing to do.
enum Next {
    Piece(Option<std::io::Result<Vec<u8>>>),
    Progress,
    Stop,
}

impl<W: AsyncWrite + Unpin> Sending<'_, W> {
    async fn run(mut self, stop: &mut Stop) -> Result<(), PipeError> {
        let failed = match self.send_all(stop).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        if let Some(words) = failed.words().filter(|_| !self.is_cut) {
            let _ = timeout(GOODBYE, self.writer.send(&Frame::Failed(&words))).await;
        }
        Err(failed)
    }

    /// Sends the input and its end, and reports how much output was written out, until that has ended, too. Then waits
    /// until the other end has written everything out.
    async fn send_all(&mut self, stop: &mut Stop) -> Result<(), PipeError> {
        let (mut is_ended, mut is_done) = (false, false);
        while !(is_ended && is_done) {
            match self.next(is_ended, is_done, stop).await? {
                Next::Piece(Some(piece)) => {
                    let piece = piece.map_err(PipeError::Input)?;
                    // This is set before the frame is sent, because the other end may confirm the frame at once.
                    self.sent += piece.len() as u64;
                    self.moved.sent.store(self.sent, Relaxed);
                    self.send(&Frame::Data(&piece), stop).await?;
                }
                Next::Piece(None) => {
                    is_ended = true;
                    // This is set before the frame is sent, because the other end may confirm the frame at once.
                    self.moved.ended.store(true, Relaxed);
                    self.send(&Frame::End(self.sent), stop).await?;
                }
                Next::Progress => is_done = self.tell(stop).await?,
                Next::Stop => return Err(PipeError::Interrupted),
            }
        }
        self.writer.flush().await?;
        tokio::select! {
            () = stop.wanted() => Err(PipeError::Interrupted),
            // The sender of this channel lives as long as this future.
            _ = self.takes.wait_for(|taken| taken.is_done) => Ok(()),
        }
    }

    async fn next(
        &mut self,
        is_ended: bool,
        is_done: bool,
        stop: &mut Stop,
    ) -> Result<Next, PipeError> {
        loop {
            let taken = self.takes.borrow_and_update().written;
            let has_credit = self.sent - taken < WINDOW;
            tokio::select! {
                biased;
                () = stop.wanted() => return Ok(Next::Stop),
                // The channel closes when the output thread ends, which has reported its result by then.
                _ = self.progress.changed(), if !is_done => return Ok(Next::Progress),
                piece = self.input.next(), if !is_ended && has_credit => return Ok(Next::Piece(piece)),
                // No more input is ready, so what was written is flushed.
                flushed = self.writer.flush(), if self.is_unsent => {
                    flushed?;
                    self.is_unsent = false;
                }
                // The sender of this channel lives as long as this future.
                _ = self.takes.changed() => {}
            }
        }
    }

    /// Reports how much was written out, if it is enough to report or all of it. Returns whether it is all.
    async fn tell(&mut self, stop: &mut Stop) -> Result<bool, PipeError> {
        let progress = self.progress.borrow_and_update().clone();
        if let Some(error) = progress.failed {
            return Err(PipeError::Output(error));
        }
        let untold = progress.written - self.told;
        if untold >= TELL || (progress.is_done && untold > 0) {
            self.told = progress.written;
            self.send(&Frame::Written(self.told), stop).await?;
        }
        if progress.is_done {
            self.send(&Frame::Done, stop).await?;
            self.moved.done.store(true, Relaxed);
        }
        Ok(progress.is_done)
    }

    /// Writes a frame. If it cannot be completed, nothing can follow it.
    async fn send(&mut self, frame: &Frame<'_>, stop: &mut Stop) -> Result<(), PipeError> {
        self.is_unsent = true;
        let mut sending = pin!(self.writer.write(frame));
        tokio::select! {
            biased;
            sent = &mut sending => sent,
            () = stop.wanted() => match timeout(GOODBYE, sending).await {
                Ok(Ok(())) => Err(PipeError::Interrupted),
                Ok(Err(error)) => Err(error),
                Err(_) => {
                    self.is_cut = true;
                    Err(PipeError::Interrupted)
                }
            },
        }
    }
}
