//! How often something may be done.

use std::time::{Duration, Instant};

/// A rate: a number of times a second in the long run, and a number at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.max(1),
            burst: burst.max(1),
        }
    }

    /// Returns how long it takes to make up for one time.
    pub(crate) fn cost(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    /// Returns how long it takes to make up for a burst.
    pub(crate) fn longest(self) -> Duration {
        self.cost() * self.burst
    }
}

/// What was used of a [`Rate`]: one point in time, however many uses there are to count.
#[derive(Debug, Default)]
pub(super) struct Spent(Option<Instant>);

impl Spent {
    /// Returns whether it may be done at `now`, and counts it if so.
    pub(super) fn try_spend(&mut self, rate: Rate, now: Instant) -> bool {
        let spent_until = self.0.map_or(now, |until| until.max(now)) + rate.cost();
        let fits = spent_until.saturating_duration_since(now) <= rate.longest();
        if fits {
            self.0 = Some(spent_until);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_so_many_a_second() {
        let rate = Rate::new(10, 5);
        let mut spent = Spent::default();
        let start = Instant::now();
        let at_once = (0..20).filter(|_| spent.try_spend(rate, start)).count();
        assert_eq!(at_once, 5);
        let second = (1..=1000).filter(|ms| {
            let now = start + Duration::from_millis(*ms);
            spent.try_spend(rate, now)
        });
        assert_eq!(second.count(), 10);
        let rested = start + Duration::from_secs(60);
        let at_once = (0..20).filter(|_| spent.try_spend(rate, rested)).count();
        assert_eq!(at_once, 5);
    }

    #[test]
    fn no_rate_stops_everything_or_overflows() {
        for rate in [
            Rate::new(0, 0),
            Rate::new(u32::MAX, u32::MAX),
            Rate::new(1, u32::MAX),
        ] {
            assert!(Spent::default().try_spend(rate, Instant::now()));
        }
    }
}
