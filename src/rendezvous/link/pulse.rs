//! Whether a link is alive, judged by the number of bytes that went through it. Does no IO and reads no clock.

use std::time::{Duration, Instant};

/// What has to be done about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing has to be done.
    Fine,
    /// Send an unsolicited pong: the peer's ping may be stuck where it is not read.
    Pong,
    /// The peer has sent nothing for too long.
    Silent,
    /// The peer has taken nothing for too long.
    Stalled,
    /// The peer has taken too little for too long while others waited for it.
    Slow,
}

/// The state of a link at one check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vitals {
    /// The number of bytes read so far.
    pub(super) read: u64,
    /// The number of bytes written so far.
    pub(super) written: u64,
    /// Whether the link is read; `false` while it waits, such as for room at another link.
    pub(super) reading: bool,
    /// Whether something waits to be written.
    pub(super) writing: bool,
    /// Whether others wait for room in this link's outbox.
    pub(super) holds_up: bool,
}

/// What a peer has to take of what is sent to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// How long it may take nothing at all.
    pub(super) stall: Duration,
    /// The least number of bytes a second that it has to take while it holds up others, on the average of that time.
    pub(super) rate: u64,
}

#[derive(Debug)]
pub(super) struct Pulse {
    silence: Duration,
    drain: Drain,
    keep_alive: Duration,
    read: u64,
    written: u64,
    last_read: Instant,
    last_written: Instant,
    /// The last time at which nothing was stuck.
    last_idle: Instant,
    /// The time since which others were held up at every check, and the number of bytes written by then.
    holding_since: (Instant, u64),
}

impl Pulse {
    pub(super) fn new(
        ping_interval: Duration,
        ping_timeout: Duration,
        drain: Drain,
        now: Instant,
    ) -> Self {
        Self {
            silence: ping_interval + ping_timeout,
            drain,
            keep_alive: ping_timeout / 2,
            read: 0,
            written: 0,
            last_read: now,
            last_written: now,
            last_idle: now,
            holding_since: (now, 0),
        }
    }

    /// Returns how often to call [`check`](Self::check).
    pub(super) fn period(&self) -> Duration {
        (self.keep_alive / 2)
            .min(self.drain.stall / 4)
            .max(Duration::from_millis(5))
    }

    pub(super) fn check(&mut self, vitals: Vitals, now: Instant) -> Beat {
        let heard = vitals.read != self.read;
        // A peer that is not read is not silent: its bytes may wait on the way.
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
        let slow = self.is_slow(vitals, now);

        if now.saturating_duration_since(self.last_read) >= self.silence {
            Beat::Silent
        } else if now.saturating_duration_since(self.last_idle) >= self.drain.stall {
            Beat::Stalled
        } else if slow {
            Beat::Slow
        } else if (heard || !vitals.reading)
            && !vitals.writing
            && now.saturating_duration_since(self.last_written) >= self.keep_alive
        {
            Beat::Pong
        } else {
            Beat::Fine
        }
    }

    /// Returns whether the peer has held up others for a whole stall timeout and taken too little in that time. A peer
    /// that holds up nobody may be as slow as it likes.
    fn is_slow(&mut self, vitals: Vitals, now: Instant) -> bool {
        let (since, written) = self.holding_since;
        let time = now.saturating_duration_since(since);
        if vitals.holds_up && time < self.drain.stall {
            return false;
        }
        self.holding_since = (now, vitals.written);
        let least = self.drain.rate as f64 * time.as_secs_f64();
        vitals.holds_up && (vitals.written.saturating_sub(written) as f64) < least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DRAIN: Drain = Drain {
        stall: Duration::from_secs(60),
        rate: 100,
    };
    const IDLE: Vitals = Vitals {
        read: 0,
        written: 0,
        reading: true,
        writing: false,
        holds_up: false,
    };

    /// Checks every second until something has to be done; returns the second and the result.
    fn first_beat(mut vitals: impl FnMut(u64) -> Vitals) -> (u64, Beat) {
        let start = Instant::now();
        let mut pulse = Pulse::new(25 * SECOND, 20 * SECOND, DRAIN, start);
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
            ..IDLE
        };
        assert_eq!(first_beat(slow), (200, Beat::Fine));
    }

    /// A peer that takes `bytes` bytes every 20 seconds.
    fn trickle(bytes: u64) -> impl Fn(u64) -> Vitals {
        move |second| Vitals {
            read: second,
            written: second / 20 * bytes,
            writing: true,
            holds_up: true,
            ..IDLE
        }
    }

    #[test]
    fn a_peer_that_holds_others_up_must_take_its_least_rate() {
        assert_eq!(first_beat(trickle(1500)), (60, Beat::Slow));
        assert_eq!(first_beat(trickle(2000)), (200, Beat::Fine));
    }

    #[test]
    fn a_peer_that_now_and_then_holds_up_nobody_may_trickle() {
        let sometimes = |second| Vitals {
            holds_up: second % 50 != 0,
            ..trickle(1)(second)
        };
        assert_eq!(first_beat(sometimes), (200, Beat::Fine));
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
