//! Whether a link is alive, judged by the number of bytes that went through it. Does no IO and reads no clock.

use std::time::{Duration, Instant};

/// What has to be done about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing has to be done.
    Nothing,
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
pub(super) struct LinkState {
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
pub(super) struct Liveness {
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

impl Liveness {
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

    pub(super) fn check(&mut self, state: LinkState, now: Instant) -> Due {
        let heard = state.read != self.read;
        // A peer that is not read is not silent: its bytes may wait on the way.
        if heard || !state.reading {
            self.last_read = now;
        }
        if state.written != self.written {
            self.last_written = now;
        }
        if state.written != self.written || !state.writing {
            self.last_idle = now;
        }
        self.read = state.read;
        self.written = state.written;
        let slow = self.is_slow(state, now);

        if now.saturating_duration_since(self.last_read) >= self.silence {
            Due::Silent
        } else if now.saturating_duration_since(self.last_idle) >= self.drain.stall {
            Due::Stalled
        } else if slow {
            Due::Slow
        } else if (heard || !state.reading)
            && !state.writing
            && now.saturating_duration_since(self.last_written) >= self.keep_alive
        {
            Due::Pong
        } else {
            Due::Nothing
        }
    }

    /// Returns whether the peer has held up others for a whole stall timeout and taken too little in that time. A peer
    /// that holds up nobody may be as slow as it likes.
    fn is_slow(&mut self, state: LinkState, now: Instant) -> bool {
        let (since, written) = self.holding_since;
        let time = now.saturating_duration_since(since);
        if state.holds_up && time < self.drain.stall {
            return false;
        }
        self.holding_since = (now, state.written);
        let least = self.drain.rate as f64 * time.as_secs_f64();
        state.holds_up && (state.written.saturating_sub(written) as f64) < least
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
    const IDLE: LinkState = LinkState {
        read: 0,
        written: 0,
        reading: true,
        writing: false,
        holds_up: false,
    };

    /// Checks every second until something has to be done; returns the second and the result.
    fn first_due(mut state: impl FnMut(u64) -> LinkState) -> (u64, Due) {
        let start = Instant::now();
        let mut liveness = Liveness::new(25 * SECOND, 20 * SECOND, DRAIN, start);
        (1..200)
            .map(|second| {
                let now = start + SECOND * u32::try_from(second).expect("small");
                (second, liveness.check(state(second), now))
            })
            .find(|(_, due)| *due != Due::Nothing)
            .unwrap_or((200, Due::Nothing))
    }

    #[test]
    fn a_peer_that_says_nothing_is_silent_after_interval_and_timeout() {
        assert_eq!(first_due(|_| IDLE), (45, Due::Silent));
    }

    #[test]
    fn any_byte_counts_as_life() {
        let trickle = |second| LinkState {
            read: second / 40,
            written: second,
            ..IDLE
        };
        assert_eq!(first_due(trickle), (200, Due::Nothing));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_stalled_however_much_it_says() {
        let stalled = |second| LinkState {
            read: second,
            writing: true,
            ..IDLE
        };
        assert_eq!(first_due(stalled), (60, Due::Stalled));
    }

    #[test]
    fn a_peer_that_takes_a_byte_a_minute_is_not_stalled() {
        let slow = |second| LinkState {
            read: second,
            written: second / 59,
            writing: true,
            ..IDLE
        };
        assert_eq!(first_due(slow), (200, Due::Nothing));
    }

    /// A peer that takes `bytes` bytes every 20 seconds.
    fn trickle(bytes: u64) -> impl Fn(u64) -> LinkState {
        move |second| LinkState {
            read: second,
            written: second / 20 * bytes,
            writing: true,
            holds_up: true,
            ..IDLE
        }
    }

    #[test]
    fn a_peer_that_holds_others_up_must_take_its_least_rate() {
        assert_eq!(first_due(trickle(1500)), (60, Due::Slow));
        assert_eq!(first_due(trickle(2000)), (200, Due::Nothing));
    }

    #[test]
    fn a_peer_that_now_and_then_holds_up_nobody_may_trickle() {
        let sometimes = |second| LinkState {
            holds_up: second % 50 != 0,
            ..trickle(1)(second)
        };
        assert_eq!(first_due(sometimes), (200, Due::Nothing));
    }

    #[test]
    fn a_peer_that_we_do_not_read_gets_pongs_before_it_gives_up() {
        let blocked = |_| LinkState {
            reading: false,
            ..IDLE
        };
        assert_eq!(first_due(blocked), (10, Due::Pong));
    }

    #[test]
    fn a_peer_whose_ping_is_stuck_behind_its_data_gets_pongs_too() {
        let uploading = |second| LinkState {
            read: second * 1000,
            ..IDLE
        };
        assert_eq!(first_due(uploading), (10, Due::Pong));
    }
}
