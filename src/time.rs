//! Bounds for durations that come from a configuration. With them no sum with a clock overflows, and no timer spins.

use std::time::Duration;

/// The longest duration: 30 years, which counts as never. Longer ones are shortened to it. A clock can represent a sum
/// of several.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Bounds the time that something may take. A timeout of zero ends at once.
pub(crate) fn timeout(duration: Duration) -> Duration {
    duration.min(NEVER)
}

/// Bounds the period of something that is repeated. It is at least `shortest`.
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
        // A peer's lifetime is three intervals, and two lifetimes may be added up.
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
