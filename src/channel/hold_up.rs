//! The time for which a connection has held up its link because it was not read.

use std::time::Duration;

use web_time::Instant;

/// The shortest hold-up that counts. A fast reader that is slower than its sender causes many shorter ones.
const SHORTEST: Duration = Duration::from_millis(100);
/// A hold-up is forgotten after this many times its length.
const FORGOTTEN: u32 = 10;

/// The time for which a connection has recently held up its link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HoldUps {
    held: Duration,
    until: Option<Instant>,
}

impl HoldUps {
    /// Returns for how long the link was held up, without the part that is forgotten by `now`.
    pub(crate) fn held(&self, now: Instant) -> Duration {
        let since = self
            .until
            .map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        self.held.saturating_sub(since / FORGOTTEN)
    }

    /// Adds a hold-up of the link.
    pub(crate) fn add(&mut self, since: Instant, until: Instant) {
        let length = until.saturating_duration_since(since);
        if length >= SHORTEST {
            self.held = self.held(since).saturating_add(length);
            self.until = Some(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn hold_ups_add_up_and_are_forgotten() {
        let start = Instant::now();
        let mut hold_ups = HoldUps::default();
        assert_eq!(hold_ups.held(start), ms(0));
        hold_ups.add(start, start + ms(2000));
        assert_eq!(hold_ups.held(start + ms(2000)), ms(2000));
        hold_ups.add(start + ms(3000), start + ms(4000));
        assert_eq!(hold_ups.held(start + ms(4000)), ms(2900));
        assert_eq!(hold_ups.held(start + ms(33_000)), ms(0));
    }

    #[test]
    fn a_reader_that_is_slow_for_ever_holds_up_more_and_more_and_a_fast_one_nothing() {
        let start = Instant::now();
        let (mut slow, mut fast) = (HoldUps::default(), HoldUps::default());
        for n in 0..100 {
            let from = start + ms(200) * n;
            slow.add(from, from + ms(150));
            fast.add(from, from + ms(50));
        }
        let end = start + ms(200) * 100;
        assert_eq!(fast.held(end), ms(0));
        assert!(slow.held(end) > ms(14_000), "{:?}", slow.held(end));
    }
}
