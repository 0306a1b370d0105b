//! Whether a link is alive, told from how many bytes went through it. No IO, no clock.

use std::time::{Duration, Instant};

/// What is to be done about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Fine,
    /// Send a pong that nobody asked for: the ping may be stuck where we do not read it.
    Pong,
    /// The peer has said nothing for too long.
    Silent,
    /// The peer has taken nothing for too long.
    Stalled,
}

/// What a look at the link shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vitals {
    /// The bytes read so far.
    pub(super) read: u64,
    /// The bytes written so far.
    pub(super) written: u64,
    /// Whether we read, or wait for room at another link.
    pub(super) reading: bool,
    /// Whether something waits to be written.
    pub(super) writing: bool,
}

#[derive(Debug)]
pub(super) struct Pulse {
    silence: Duration,
    stall: Duration,
    keep_alive: Duration,
    read: u64,
    written: u64,
    last_read: Instant,
    last_written: Instant,
    /// Since when nothing is stuck.
    last_idle: Instant,
}

impl Pulse {
    pub(super) fn new(
        ping_interval: Duration,
        ping_timeout: Duration,
        stall: Duration,
        now: Instant,
    ) -> Self {
        Self {
            silence: ping_interval + ping_timeout,
            stall,
            keep_alive: ping_timeout / 2,
            read: 0,
            written: 0,
            last_read: now,
            last_written: now,
            last_idle: now,
        }
    }

    /// How often to [`check`](Self::check).
    pub(super) fn period(&self) -> Duration {
        (self.keep_alive / 2)
            .min(self.stall / 4)
            .max(Duration::from_millis(5))
    }

    pub(super) fn check(&mut self, vitals: Vitals, now: Instant) -> Beat {
        let heard = vitals.read != self.read;
        // A peer that we do not read is not silent: we do not listen.
        if heard || !vitals.reading {
            self.last_read = now;
        }
        if vitals.written != self.written {
            self.last_written = now;
        }
        if vitals.written != self.written || !vitals.writing {
            self.last_idle = now;
        }
        self.read = vitals.read;
        self.written = vitals.written;

        if now.saturating_duration_since(self.last_read) >= self.silence {
            Beat::Silent
        } else if now.saturating_duration_since(self.last_idle) >= self.stall {
            Beat::Stalled
        } else if (heard || !vitals.reading)
            && !vitals.writing
            && now.saturating_duration_since(self.last_written) >= self.keep_alive
        {
            Beat::Pong
        } else {
            Beat::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE: Vitals = Vitals {
        read: 0,
        written: 0,
        reading: true,
        writing: false,
    };

    /// Checks every second until something is to be done.
    fn first_beat(mut vitals: impl FnMut(u64) -> Vitals) -> (u64, Beat) {
        let start = Instant::now();
        let mut pulse = Pulse::new(25 * SECOND, 20 * SECOND, 60 * SECOND, start);
        (1..200)
            .map(|second| {
                let now = start + SECOND * u32::try_from(second).expect("small");
                (second, pulse.check(vitals(second), now))
            })
            .find(|(_, beat)| *beat != Beat::Fine)
            .unwrap_or((200, Beat::Fine))
    }

    #[test]
    fn a_peer_that_says_nothing_is_silent_after_interval_and_timeout() {
        assert_eq!(first_beat(|_| IDLE), (45, Beat::Silent));
    }

    #[test]
    fn any_byte_counts_as_life() {
        let trickle = |second| Vitals {
            read: second / 40,
            written: second,
            ..IDLE
        };
        assert_eq!(first_beat(trickle), (200, Beat::Fine));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_stalled_however_much_it_says() {
        let stalled = |second| Vitals {
            read: second,
            writing: true,
            ..IDLE
        };
        assert_eq!(first_beat(stalled), (60, Beat::Stalled));
    }

    #[test]
    fn a_peer_that_takes_a_byte_a_minute_is_not_stalled() {
        let slow = |second| Vitals {
            read: second,
            written: second / 59,
            writing: true,
            reading: true,
        };
        assert_eq!(first_beat(slow), (200, Beat::Fine));
    }

    #[test]
    fn a_peer_that_we_do_not_read_gets_pongs_before_it_gives_up() {
        let blocked = |_| Vitals {
            reading: false,
            ..IDLE
        };
        assert_eq!(first_beat(blocked), (10, Beat::Pong));
    }

    #[test]
    fn a_peer_whose_ping_is_stuck_behind_its_data_gets_pongs_too() {
        let uploading = |second| Vitals {
            read: second * 1000,
            ..IDLE
        };
        assert_eq!(first_beat(uploading), (10, Beat::Pong));
    }
}
