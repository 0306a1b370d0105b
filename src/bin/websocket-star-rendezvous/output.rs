//! Standard output and standard error. Each may be anything: a pipe that nobody reads, a pipe whose reader is gone, or
//! a file on a full disk. None of these may stop the server. So a separate thread writes each output, and lines that
//! cannot be written are dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// The number of bytes of lines that may wait to be written: more than a thousand lines, so that a burst fits.
const ROOM: usize = 256 * 1024;

/// An output for lines that never fails and never blocks. Lines that find no room in the queue, and lines whose write
/// fails, are dropped. Their number is written as soon as writing works again.
#[derive(Debug, Clone)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when there is something to write.
    more: Condvar,
    /// Notified when there is nothing left to write.
    idle: Condvar,
}

#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    room: usize,
    /// The number of lines dropped because the queue was full, since the last line that was queued.
    dropped: u64,
    /// Whether the writer thread is writing an entry.
    is_writing: bool,
}

/// A line, and the number of lines that were dropped just before it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    dropped: u64,
    line: Vec<u8>,
}

impl Output {
    /// Creates an output for standard output.
    ///
    /// # Errors
    /// If the system provides no thread or no descriptor.
    pub fn stdout() -> io::Result<Self> {
        Self::to("stdout", target(io::stdout())?)
    }

    /// Creates an output for standard error.
    ///
    /// # Errors
    /// If the system provides no thread or no descriptor.
    pub fn stderr() -> io::Result<Self> {
        Self::to("stderr", target(io::stderr())?)
    }

    pub(super) fn to(name: &str, target: impl Write + Send + 'static) -> io::Result<Self> {
        let output = Self::new(ROOM);
        let shared = output.0.clone();
        // The thread is never joined, because it may be stuck in a write for ever.
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || shared.write_to(target))?;
        Ok(output)
    }

    fn new(room: usize) -> Self {
        let queue = Queue {
            entries: VecDeque::new(),
            bytes: 0,
            room,
            dropped: 0,
            is_writing: false,
        };
        Self(Arc::new(Shared {
            queue: Mutex::new(queue),
            more: Condvar::new(),
            idle: Condvar::new(),
        }))
    }

    /// Writes `text` and a newline.
    pub fn line(&self, text: &str) {
        self.0.push(format!("{text}\n").into_bytes());
    }

    /// Waits until every line is written or dropped, but no longer than `patience`.
    pub fn drain(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut queue = self.0.lock();
        while queue.is_busy() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.idle.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The log formatter passes each line in a single write.
impl Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        self.lock().push(line);
        self.more.notify_one();
    }

    /// Waits for the next entry and takes it.
    fn next(&self) -> Entry {
        let mut queue = self.lock();
        queue.is_writing = false;
        loop {
            if let Some(entry) = queue.pop() {
                return entry;
            }
            self.idle.notify_all();
            let waited = self.more.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_to(&self, target: impl Write) {
        let mut writer = Writer::new(target);
        loop {
            writer.write(self.next());
        }
    }
}

impl Queue {
    fn is_busy(&self) -> bool {
        self.is_writing || self.dropped > 0 || !self.entries.is_empty()
    }

    fn push(&mut self, line: Vec<u8>) {
        // Once full, the queue takes nothing until it is half empty. Otherwise every second line would report a dropped
        // one.
        let room = match self.dropped {
            0 => self.room,
            _ => self.room / 2,
        };
        if self.bytes.saturating_add(line.len()) > room {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        let dropped = std::mem::take(&mut self.dropped);
        self.entries.push_back(Entry { dropped, line });
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = match self.entries.pop_front() {
            Some(entry) => entry,
            None if self.dropped > 0 => Entry {
                dropped: std::mem::take(&mut self.dropped),
                line: Vec::new(),
            },
            None => return None,
        };
        self.bytes -= entry.line.len();
        self.is_writing = true;
        Some(entry)
    }
}

/// The state of the writer thread.
struct Writer<W> {
    target: W,
    /// The number of dropped lines that have not been reported yet.
    dropped: u64,
    /// Whether the last line was written only in part.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(target: W) -> Self {
        Self {
            target,
            dropped: 0,
            is_torn: false,
        }
    }

    fn write(&mut self, Entry { dropped, line }: Entry) {
        self.dropped += dropped;
        let lost = u64::from(!line.is_empty());
        if self.tell_dropped().and_then(|()| self.put(&line)).is_err() {
            self.dropped += lost;
        }
    }

    fn tell_dropped(&mut self) -> io::Result<()> {
        if self.dropped > 0 {
            let notice = format!("{} lines could not be written and are lost\n", self.dropped);
            self.put(notice.as_bytes())?;
            self.dropped = 0;
        }
        Ok(())
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    /// Does the same as [`Write::write_all`], but records whether only a part was written.
    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.target.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process with the same open file may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Returns the stream without the lock that [`std`] puts around it: while one thread is stuck in a write, no other
/// thread may have to wait for that lock.
#[cfg(unix)]
fn target(stream: impl std::os::fd::AsFd) -> io::Result<std::fs::File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

#[cfg(not(unix))]
fn target<W: Write>(stream: W) -> io::Result<W> {
    Ok(stream)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
