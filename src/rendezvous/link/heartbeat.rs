//! The heartbeats of Engine.IO 4, where the server sends the heartbeat. Does no IO and reads no clock.
//!
//! This module does not check whether pings are answered. A pong is a byte like any other, and a link on which no byte
//! arrives for a ping interval and a ping timeout is silent to [`Liveness`](super::Liveness).

use std::time::{Duration, Instant};

use crate::protocol::engine_io::Version;

/// The schedule of the pings, if any are to be sent.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    next: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(version: Version, interval: Duration, now: Instant) -> Self {
        let next = match version {
            Version::V3 => None,
            Version::V4 => Some(now + interval),
        };
        Self { interval, next }
    }

    /// Creates a schedule without heartbeat.
    #[cfg(feature = "cluster")]
    pub(super) fn none() -> Self {
        Self {
            interval: Duration::ZERO,
            next: None,
        }
    }

    /// Returns whether a ping is to be sent now; the next one is due an interval later.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.next = Some(now + self.interval);
        }
        is_due
    }

    /// Returns how long to sleep at `now`, if nothing else has to be done for `otherwise`.
    pub(super) fn pause(&self, otherwise: Duration, now: Instant) -> Duration {
        let ping = self.next.map(|next| next.saturating_duration_since(now));
        ping.map_or(otherwise, |ping| ping.min(otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_link_of_version_4_gets_a_ping_each_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V4, 25 * SECOND, start);
        let mut now = start;
        for ping in 1..4 {
            // The sleeps in between are for other work.
            while !heartbeat.poll(now) {
                now += heartbeat.pause(10 * SECOND, now);
            }
            assert_eq!(now, start + 25 * SECOND * ping);
        }
    }

    #[test]
    fn a_link_of_version_3_gets_none() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V3, SECOND, start);
        assert_eq!(heartbeat.pause(10 * SECOND, start), 10 * SECOND);
        assert!(!heartbeat.poll(start + 100 * SECOND));
    }
}
