//! Streams that are always full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{MIB, close};
use crate::{
    Result,
    serve::{self, CHUNK, Request},
    subjects::{Dialer, stream::Stream},
};

/// Streams that are written to as fast as they take data, until this is dropped or ended.
pub struct Bulk {
    stop: Arc<AtomicBool>,
    counters: Vec<Arc<AtomicU64>>,
    writers: JoinSet<Result<()>>,
}

impl Bulk {
    /// Opens a stream from each of the dialers.
    pub async fn start<'a>(dialers: impl IntoIterator<Item = &'a Dialer>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut counters = Vec::new();
        let mut streams = Vec::new();
        for dialer in dialers {
            let number = serve::next_counter();
            streams.push(dialer.open(Request::Sink(number)).await?);
            counters.push(serve::counter(number));
        }
        let mut writers = JoinSet::new();
        for stream in streams {
            writers.spawn(write_until(stream, stop.clone()));
        }
        Ok(Self {
            stop,
            counters,
            writers,
        })
    }

    /// Returns what is read of each stream while a future runs. The bytes are counted at the reader, so that bytes in
    /// a buffer on the way do not count.
    pub async fn during<T>(&self, other: impl Future<Output = T>) -> (T, Read) {
        let count = |counter: &Arc<AtomicU64>| counter.load(Ordering::Relaxed);
        let read = || self.counters.iter().map(count);
        let (before, started): (Vec<u64>, _) = (read().collect(), Instant::now());
        let done = other.await;
        let (after, took) = (read(), started.elapsed());
        let bytes = after.zip(before).map(|(after, before)| after - before);
        let read = Read {
            bytes: bytes.collect(),
            took,
        };
        (done, read)
    }

    /// Ends all streams, and waits until the other side has read them.
    pub async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// The bytes that were read of several streams.
pub struct Read {
    bytes: Vec<u64>,
    took: Duration,
}

impl Read {
    /// Returns the rate of all streams together, in MiB/s.
    pub fn rate(&self) -> f64 {
        let total: u64 = self.bytes.iter().sum();
        total as f64 / MIB / self.took.as_secs_f64()
    }

    /// Returns whether nothing was read of some stream.
    pub fn has_starved(&self) -> bool {
        self.bytes.contains(&0)
    }

    /// Returns the smallest share divided by the largest.
    pub fn share(&self) -> f64 {
        let smallest = self.bytes.iter().min().copied().unwrap_or_default();
        let largest = self.bytes.iter().max().copied().unwrap_or_default();
        smallest as f64 / largest as f64
    }
}

pub async fn write_until(mut stream: Stream, stop: Arc<AtomicBool>) -> Result<()> {
    let data = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&data).await?;
    }
    close(&mut stream).await
}
