//! Standard output and standard error, which may be anything: a pipe that nobody reads, a pipe whose reader is gone, a
//! full disk. None of it may stop the server, so a thread of its own writes each of them, and lines that it cannot
//! get rid of are dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait to be written: more than a thousand lines, so that a burst fits.
const ROOM: usize = 256 * 1024;

/// A place to write lines to, which never fails and never waits. Lines that find no room, and those whose write fails,
/// are dropped; their number is told when writing works again.
#[derive(Debug, Clone)]
pub struct Output(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when there is something to write.
    more: Condvar,
    /// Told when there is nothing left to write.
    idle: Condvar,
}

#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    room: usize,
    /// How many lines found no room since the last that did.
    dropped: u64,
    /// The writer has an entry in its hands.
    is_writing: bool,
}

/// A line, and how many before it were dropped.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    dropped: u64,
    line: Vec<u8>,
}

impl Output {
    /// To standard output.
    ///
    /// # Errors
    /// If the system gives no thread, or no descriptor.
    pub fn stdout() -> io::Result<Self> {
        Self::to("stdout", target(io::stdout())?)
    }

    /// To standard error.
    ///
    /// # Errors
    /// If the system gives no thread, or no descriptor.
    pub fn stderr() -> io::Result<Self> {
        Self::to("stderr", target(io::stderr())?)
    }

    pub(super) fn to(name: &str, target: impl Write + Send + 'static) -> io::Result<Self> {
        let output = Self::new(ROOM);
        let shared = output.0.clone();
        // It is never joined: it may be stuck in a write for ever.
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

    /// Writes `text` and the end of a line.
    pub fn line(&self, text: &str) {
        self.0.push(format!("{text}\n").into_bytes());
    }

    /// Waits until all is written, or has been dropped; `patience` at most.
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

/// The formatter of the log writes each line at once.
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

    /// Takes the next entry, for which it waits.
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
        // Once full, it takes nothing until it is half empty: else every second line would tell of a dropped one.
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

/// What the thread has in its hands.
struct Writer<W> {
    target: W,
    /// How many lines were dropped and not told of.
    dropped: u64,
    /// A line was written in part, and nothing since.
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

    /// As [`Write::write_all`], but knows whether a part was written.
    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.target.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else who has the same file may have asked for it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The stream without the lock that [`std`] has around it: while one thread is stuck in a write, nobody else is to
/// wait for that lock.
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
