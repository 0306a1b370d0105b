//! Round trips of 64 bytes.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use super::close;
use crate::{
    Result,
    serve::Request,
    subjects::{Dialer, stream::Stream},
};

const PING: usize = 64;
const WARM_UP: usize = 50;

/// A stream for round trips, one after the other. The times are in microseconds.
pub struct Pings {
    stream: Stream,
}

impl Pings {
    pub async fn open(dialer: &Dialer) -> Result<Self> {
        let stream = dialer.open(Request::Echo).await?;
        Ok(Self { stream })
    }

    async fn time(&mut self) -> Result<f64> {
        let mut ping = [7; PING];
        let started = Instant::now();
        self.stream.write_all(&ping).await?;
        self.stream.flush().await?;
        self.stream.read_exact(&mut ping).await?;
        Ok(started.elapsed().as_secs_f64() * 1e6)
    }

    /// Returns the times of `pings` round trips, after a warm-up.
    pub async fn times(&mut self, pings: usize) -> Result<Vec<f64>> {
        for _ in 0..WARM_UP {
            self.time().await?;
        }
        self.cold(pings).await
    }

    /// Returns the times of `pings` round trips, without a warm-up.
    pub async fn cold(&mut self, pings: usize) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(pings);
        for _ in 0..pings {
            times.push(self.time().await?);
        }
        Ok(times)
    }

    /// Returns the times of as many round trips as fit into a time window, and of at least one.
    pub async fn times_within(&mut self, window: Duration) -> Result<Vec<f64>> {
        let started = Instant::now();
        let mut times = vec![self.time().await?];
        while started.elapsed() < window {
            times.push(self.time().await?);
        }
        Ok(times)
    }

    pub async fn end(mut self) -> Result<()> {
        close(&mut self.stream).await
    }
}
