//! Standard input and standard output. A separate thread serves each of them, because reading and writing may block for
//! ever, and the program must be able to end without waiting for that.

use std::{
    io::{self, Read as _, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};

use super::frame::DATA;

/// The number of pieces of the input that are read ahead.
const AHEAD: usize = 2;
/// The bytes that are written in one call, small enough that progress is reported often.
const PIECE: usize = 256 << 10;

/// Standard input, in pieces. It ends after an error.
pub struct Input {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    /// The bytes that are left in standard input, if it is a file.
    pub len: Option<u64>,
}

impl Input {
    /// Begins to read standard input.
    ///
    /// # Errors
    /// If the system provides no descriptor or no thread.
    pub fn stdin() -> io::Result<Self> {
        let mut stdin = handle::stdin()?;
        let len = handle::len(&stdin);
        let (sender, pieces) = mpsc::channel(AHEAD);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                loop {
                    let mut piece = vec![0; DATA];
                    let read = match stdin.read(&mut piece) {
                        Ok(0) => return,
                        Ok(len) => {
                            piece.truncate(len);
                            Ok(piece)
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => Err(error),
                    };
                    let is_last = read.is_err();
                    if sender.blocking_send(read).is_err() || is_last {
                        return;
                    }
                }
            })?;
        Ok(Self { pieces, len })
    }

    /// Returns the next piece; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        self.pieces.recv().await
    }
}

/// Standard output. Writing to it never blocks; the protocol bounds how much is queued here.
pub struct Output {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// The progress of the output.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The bytes that have been written out.
    pub written: u64,
    /// Whether everything has been written out.
    pub is_done: bool,
    /// The error after which nothing more can be written.
    pub failed: Option<Arc<io::Error>>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Whether nothing more comes.
    is_last: bool,
    /// Whether the output was dropped, so that the rest need not be written.
    is_dropped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps the queued bytes for `empty`, and returns them and whether they are the last. `None` if the output was
    /// dropped.
    fn take(&self, mut empty: Vec<u8>) -> Option<(Vec<u8>, bool)> {
        let mut waiting = self.lock();
        while waiting.bytes.is_empty() && !waiting.is_last && !waiting.is_dropped {
            let waited = self.more.wait(waiting);
            waiting = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.is_dropped {
            return None;
        }
        std::mem::swap(&mut waiting.bytes, &mut empty);
        Some((empty, waiting.is_last))
    }
}

impl Output {
    /// Begins to write standard output.
    ///
    /// # Errors
    /// If the system provides no descriptor or no thread.
    pub fn stdout() -> io::Result<Self> {
        Self::to(handle::stdout()?)
    }

    fn to(target: impl Write + Send + 'static) -> io::Result<Self> {
        let (told, progress) = watch::channel(Progress::default());
        let shared = Arc::<Shared>::default();
        let taken = shared.clone();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || write(target, &taken, &told))?;
        Ok(Self { shared, progress })
    }

    /// Queues these bytes to be written.
    pub fn push(&self, bytes: &[u8]) {
        self.shared.lock().bytes.extend_from_slice(bytes);
        self.shared.more.notify_one();
    }

    /// Marks the end of the output.
    pub fn end(&self) {
        self.shared.lock().is_last = true;
        self.shared.more.notify_one();
    }

    /// Returns a receiver for the progress, now and later.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.shared.lock().is_dropped = true;
        self.shared.more.notify_one();
    }
}

fn write(mut target: impl Write, shared: &Shared, told: &watch::Sender<Progress>) {
    let mut spare = Vec::new();
    while let Some((bytes, is_last)) = shared.take(spare) {
        for piece in bytes.chunks(PIECE) {
            if let Err(error) = target.write_all(piece) {
                told.send_modify(|progress| progress.failed = Some(error.into()));
                return;
            }
            told.send_modify(|progress| progress.written += piece.len() as u64);
        }
        if is_last {
            let flushed = target.flush();
            told.send_modify(|progress| match flushed {
                Ok(()) => progress.is_done = true,
                Err(error) => progress.failed = Some(error.into()),
            });
            return;
        }
        spare = bytes;
        spare.clear();
    }
}

/// Standard input and output without the buffers and locks that [`std`] puts around them.
#[cfg(unix)]
mod handle {
    use std::{fs::File, io, os::fd::AsFd};

    fn file(stream: impl AsFd) -> io::Result<File> {
        Ok(stream.as_fd().try_clone_to_owned()?.into())
    }

    pub fn stdin() -> io::Result<File> {
        file(io::stdin())
    }

    /// Takes over the only handle of standard output, so that it is closed when this is dropped: the program that reads
    /// it must see its end even while the other direction goes on.
    pub fn stdout() -> io::Result<File> {
        let stdout = file(io::stdout())?;
        let nothing = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(nothing)?;
        Ok(stdout)
    }

    /// Returns the number of bytes left in standard input, if it is a file.
    pub fn len(mut stdin: &File) -> Option<u64> {
        let found = stdin.metadata().ok()?;
        let position = io::Seek::stream_position(&mut stdin).ok()?;
        found
            .is_file()
            .then(|| found.len().saturating_sub(position))
    }
}

#[cfg(not(unix))]
mod handle {
    use std::io;

    pub fn stdin() -> io::Result<io::Stdin> {
        Ok(io::stdin())
    }

    pub fn stdout() -> io::Result<io::Stdout> {
        Ok(io::stdout())
    }

    pub fn len(_: &io::Stdin) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that fails after this number of bytes.
    struct Small(usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.0);
            self.0 -= len;
            match len {
                0 => Err(io::ErrorKind::StorageFull.into()),
                len => Ok(len),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn all_is_written_to_the_end() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let output = Output::to(writer).expect("a thread");
        let mut progress = output.progress();
        for byte in 0..100 {
            output.push(&[byte; 1000]);
        }
        output.end();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("all");
        assert_eq!(read.len(), 100_000);
        let done = progress.wait_for(|progress| progress.is_done).await;
        assert_eq!(done.expect("a thread").written, 100_000);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let output = Output::to(Small(10)).expect("a thread");
        let mut progress = output.progress();
        output.push(&[1; 11]);
        let failed = progress
            .wait_for(|progress| progress.failed.is_some())
            .await;
        assert!(!failed.expect("a thread").is_done);
    }
}
