//! The number of bytes that one peer has sent.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::rendezvous::day::Day;

/// The period over which a rate is averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the bytes that one peer has sent. Only the links of the peer take its lock, and, briefly, callers that read
/// it.
#[derive(Debug)]
pub(in crate::rendezvous) struct Meter {
    number: u64,
    sent: Mutex<Sent>,
}

impl Meter {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            sent: Mutex::default(),
        }
    }

    /// Returns a number that no other meter has.
    pub(in crate::rendezvous) fn number(&self) -> u64 {
        self.number
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        // Nothing in there panics halfway through a change.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes that the peer has sent.
    pub(in crate::rendezvous) fn count(&self, bytes: u64, now: Instant, today: Day) {
        self.lock().count(bytes, now, today);
    }

    /// Returns how many bytes the peer has sent today, and how many a second.
    pub(super) fn sent(&self, now: Instant, today: Day) -> (u64, u64) {
        let sent = self.lock();
        (sent.on(today), sent.recent.per_second(now))
    }

    /// Returns how many bytes the peer has sent on that day, if it is the last day on which it has sent anything;
    /// otherwise 0.
    pub(in crate::rendezvous) fn sent_on(&self, day: Day) -> u64 {
        self.lock().on(day)
    }

    /// Returns the last day on which the peer has sent anything, and how many bytes it has sent on that day.
    pub(super) fn last_day(&self) -> (Day, u64) {
        let sent = self.lock();
        (sent.day, sent.bytes)
    }
}

#[derive(Debug, Default)]
struct Sent {
    day: Day,
    /// The number of bytes on that day.
    bytes: u64,
    recent: Recent,
}

impl Sent {
    fn count(&mut self, bytes: u64, now: Instant, today: Day) {
        self.bytes = self.on(today).saturating_add(bytes);
        self.day = today;
        self.recent.count(bytes, now);
    }

    fn on(&self, day: Day) -> u64 {
        if self.day == day { self.bytes } else { 0 }
    }
}

/// The bytes that were sent recently: in the window that has begun, and in the window before.
#[derive(Debug, Default)]
struct Recent {
    begun: Option<Instant>,
    now: u64,
    before: u64,
}

impl Recent {
    fn count(&mut self, bytes: u64, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let time = now.saturating_duration_since(begun);
        if time >= WINDOW {
            let is_next = time < 2 * WINDOW;
            self.before = if is_next { self.now } else { 0 };
            self.now = 0;
            self.begun = Some(if is_next { begun + WINDOW } else { now });
        }
        self.now = self.now.saturating_add(bytes);
    }

    /// Returns the average of the last window's length, on the assumption that the window before was even.
    fn per_second(&self, now: Instant) -> u64 {
        let Some(begun) = self.begun else {
            return 0;
        };
        let time = now.saturating_duration_since(begun).as_secs_f64() / WINDOW.as_secs_f64();
        let bytes = match time {
            ..1.0 => self.before as f64 * (1.0 - time) + self.now as f64,
            time => self.now as f64 * (2.0 - time).max(0.0),
        };
        (bytes / WINDOW.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_steady_rate_is_told_and_is_gone_when_nothing_is_sent() {
        let meter = Meter::new(0);
        let (start, day) = (Instant::now(), Day::of(UNIX_EPOCH));
        assert_eq!(meter.sent(start, day), (0, 0));
        for second in 0..35 {
            meter.count(1000, start + SECOND * second, day);
        }
        let (sent, rate) = meter.sent(start + 35 * SECOND, day);
        assert_eq!(sent, 35_000);
        assert!((900..=1100).contains(&rate), "{rate}");
        assert_eq!(meter.sent(start + 60 * SECOND, day), (35_000, 0));
        meter.count(500, start + 100 * SECOND, day);
        assert_eq!(meter.sent(start + 100 * SECOND, day), (35_500, 50));
    }

    #[test]
    fn what_was_sent_yesterday_does_not_count_today() {
        let meter = Meter::new(0);
        let (start, first) = (Instant::now(), Day::of(UNIX_EPOCH));
        let second = Day::of(UNIX_EPOCH + 24 * 3600 * SECOND);
        meter.count(70, start, first);
        assert_eq!(meter.sent(start, second).0, 0);
        meter.count(3, start, second);
        assert_eq!(meter.sent(start, second).0, 3);
        assert_eq!(meter.last_day(), (second, 3));
    }
}
