//! Rate-limited logging of warnings that others can cause, so that they cannot fill a disk.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use web_time::Instant;

/// The time after a line in which no further line of the same kind is written.
const PAUSE: Duration = Duration::from_secs(1);

/// One kind of warning, written at most once a second. Each line says how many were left out before it.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    /// Returns how many warnings were left out since the last line if a line may be written at `now`, and `None` if
    /// not.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = |last| now.saturating_duration_since(last) < PAUSE;
        if state.last.is_some_and(is_early) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_is_written_and_tells_how_many_were_left_out() {
        let start = Instant::now();
        let limited = LogLimit::default();
        // 643 warnings in 3.2 s.
        let lines: Vec<_> = (0..643)
            .filter_map(|n| limited.admit(start + Duration::from_millis(n * 5)))
            .collect();
        assert_eq!(lines, [0, 199, 199, 199]);
        // The next line reports the warnings left out after the last one, however late it comes.
        assert_eq!(limited.admit(start + Duration::from_secs(100)), Some(42));
        assert_eq!(limited.admit(start + Duration::from_secs(200)), Some(0));
    }

    #[test]
    fn kinds_do_not_silence_each_other() {
        let (one, other) = (LogLimit::default(), LogLimit::default());
        let now = Instant::now();
        assert_eq!(one.admit(now), Some(0));
        assert_eq!(one.admit(now), None);
        assert_eq!(other.admit(now), Some(0));
    }
}
