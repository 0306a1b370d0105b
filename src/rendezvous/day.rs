//! Days, from midnight to midnight in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The length of a day in seconds. The system's time has no leap seconds.
const SECONDS: u64 = 24 * 60 * 60;

/// A day, as the number of days since 1970. Any time before 1970 counts as the first day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(u64);

impl Day {
    /// Returns the day at `now`.
    pub(crate) fn of(now: SystemTime) -> Self {
        Self(since_1970(now).as_secs() / SECONDS)
    }

    /// Returns whether this day is before `other` by more than one day. One day does not count, because the clock may
    /// have been read just before midnight.
    pub(crate) fn is_before(self, other: Self) -> bool {
        self.0 + 1 < other.0
    }
}

/// Returns the time from `now` until the next day begins.
pub(crate) fn until_tomorrow(now: SystemTime) -> Duration {
    let since = since_1970(now);
    let begun = Duration::from_secs(since.as_secs() / SECONDS * SECONDS);
    Duration::from_secs(SECONDS).saturating_sub(since.saturating_sub(begun))
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_in_utc() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        // 2024-02-29 23:59:59 UTC.
        let late = at(1_709_251_199);
        assert_eq!(Day::of(late), Day(19_782));
        assert_eq!(until_tomorrow(late), Duration::from_secs(1));
        let next = at(1_709_251_200);
        assert_eq!(Day::of(next), Day(19_783));
        assert_eq!(until_tomorrow(next), Duration::from_secs(86_400));
    }

    #[test]
    fn before_1970_it_is_the_first_day() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Day::of(before), Day(0));
        assert_eq!(until_tomorrow(before), Duration::from_secs(86_400));
    }
}
