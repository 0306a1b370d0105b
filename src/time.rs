//! Bounds for durations that come from a configuration, so that no sum with a clock overflows and no timer spins.

use std::time::Duration;

/// What is longer is cut to this, which is as good as never: 30 years. Clocks hold some of these added up.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// For how long something may take. Zero is over at once.
pub(crate) fn timeout(duration: Duration) -> Duration {
    duration.min(NEVER)
}

/// For what is repeated: at least `shortest`.
pub(crate) fn interval(duration: Duration, shortest: Duration) -> Duration {
    duration.clamp(shortest, NEVER)
}

#[cfg(test)]
mod tests {
    use web_time::Instant;

    use super::*;

    #[test]
    fn no_sum_with_the_longest_duration_overflows() {
        let longest = timeout(Duration::MAX);
        assert_eq!(longest, interval(Duration::MAX, Duration::ZERO));
        // A peer's lifetime is three intervals, two of which may be added up.
        assert!(Instant::now().checked_add(longest * 6).is_some());
        let tokio = tokio::time::Instant::now();
        assert!(tokio.checked_add(longest * 6).is_some());
    }

    #[test]
    fn what_is_in_between_is_left_as_it_is() {
        let second = Duration::from_secs(1);
        assert_eq!(timeout(second), second);
        assert_eq!(timeout(Duration::ZERO), Duration::ZERO);
        assert_eq!(interval(second, second / 10), second);
        assert_eq!(interval(Duration::ZERO, second), second);
    }
}
