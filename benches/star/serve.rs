//! The side of the dialled peer. The first nine bytes of a stream are the dialer's request, and the peer answers with
//! one byte, so that the measured time does not include the setup of the stream.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::{echo::echo, subjects::stream::Stream};

/// The number of bytes to read and write at a time.
pub const CHUNK: usize = 64 * 1024;
/// The number of bytes that the slow reader reads in a second.
pub const SLOW: usize = 1024 * 1024;

/// A request to the other end.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// Read to the end, then end. The bytes are added to the [`counter`] with this number.
    Sink(u64),
    /// Send everything back.
    Echo,
    /// Read 1 MiB a second.
    Slow,
    /// Read nothing until the [`counter`] with this number is not 0 any more, then read to the end.
    Nothing(u64),
}

impl Request {
    pub fn encode(self) -> [u8; 9] {
        let (kind, counter) = match self {
            Self::Sink(counter) => (b's', counter),
            Self::Echo => (b'e', 0),
            Self::Slow => (b'l', 0),
            Self::Nothing(counter) => (b'n', counter),
        };
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&counter.to_be_bytes());
        bytes
    }

    fn decode(bytes: [u8; 9]) -> io::Result<Self> {
        let [kind, counter @ ..] = bytes;
        match kind {
            b's' => Ok(Self::Sink(u64::from_be_bytes(counter))),
            b'e' => Ok(Self::Echo),
            b'l' => Ok(Self::Slow),
            b'n' => Ok(Self::Nothing(u64::from_be_bytes(counter))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The numbers of bytes that the sinks of this process have read, by counter number.
static COUNTERS: Mutex<Option<HashMap<u64, Arc<AtomicU64>>>> = Mutex::new(None);

/// Returns the counter with this number. Counter 0 is for streams that need no count.
pub fn counter(number: u64) -> Arc<AtomicU64> {
    let mut counters = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    let counters = counters.get_or_insert_default();
    counters.entry(number).or_default().clone()
}

/// Returns the number of an unused counter.
pub fn next_counter() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Serves one stream to its end.
pub async fn serve(mut stream: Stream) -> io::Result<()> {
    let mut request = [0; 9];
    stream.read_exact(&mut request).await?;
    let request = Request::decode(request)?;
    stream.write_all(b"r").await?;
    stream.flush().await?;
    match request {
        Request::Sink(number) => sink(&mut stream, &counter(number)).await?,
        Request::Echo => echo(&mut stream, CHUNK).await?,
        Request::Slow => slow(&mut stream).await?,
        Request::Nothing(number) => {
            wait_for(&counter(number)).await;
            sink(&mut stream, &counter(0)).await?;
        }
    }
    stream.close().await
}

async fn sink(stream: &mut Stream, counter: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => counter.fetch_add(n as u64, Ordering::Relaxed),
        };
    }
}

async fn wait_for(counter: &AtomicU64) {
    while counter.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn slow(stream: &mut Stream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let start = Instant::now();
    let mut read = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => read += n,
        }
        let due = Duration::from_secs_f64(read as f64 / SLOW as f64);
        tokio::time::sleep_until(start + due).await;
    }
}
