//! The rate at which a WebSocket sends, measured from outside. The browser does not report it, so it must be polled.

use std::time::Duration;

use web_time::Instant;

/// The amount that may wait in the browser without a pause in sending, in bytes.
pub(super) const BUFFERED: u64 = 64 * 1024;
/// The maximum of that amount in a hidden page, in bytes.
const MOST_BUFFERED: u64 = 4 * 1024 * 1024;
/// The time between two measurements of the rate.
const SAMPLE: Duration = Duration::from_millis(100);
/// If nothing was sent for this long, the polls become less and less frequent.
const STUCK: Duration = Duration::from_millis(20);
/// The shortest time for which a timer is useful.
const SHORTEST: Duration = Duration::from_millis(4);
/// The lateness of the timers of a hidden page, plus a small margin.
const HIDDEN: Duration = Duration::from_millis(1200);
/// The longest time between two polls.
const LONGEST: Duration = Duration::from_secs(1);

/// The measurements.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The time of the last measurement of the rate, and the number of bytes that had been sent by then.
    sample: Option<(Instant, u64)>,
    /// The rate in bytes per second.
    rate: Option<u64>,
    /// The time at which the number of sent bytes last grew, and that number.
    last: Option<(Instant, u64)>,
}

impl Pace {
    /// Records that `sent` bytes were sent until now, while more wait.
    pub(super) fn note(&mut self, sent: u64, now: Instant) {
        if self.last.is_none_or(|(_, last)| last < sent) {
            self.last = Some((now, sent));
        }
        let (since, before) = *self.sample.get_or_insert((now, sent));
        let time = now.saturating_duration_since(since);
        if time >= SAMPLE {
            let bytes = u128::from(sent.saturating_sub(before)) * 1_000_000;
            let rate = bytes / time.as_micros().max(1);
            self.rate = u64::try_from(rate).ok().filter(|rate| *rate > 0);
            self.sample = Some((now, sent));
        }
    }

    /// Records that nothing waits.
    pub(super) fn rest(&mut self) {
        self.sample = None;
        self.last = None;
    }

    /// Returns how many bytes may wait in the browser. In a hidden page this is the amount that is sent until a timer
    /// fires, unless it is very large.
    pub(super) fn buffered(&self, is_hidden: bool) -> u64 {
        let ahead = self.rate.filter(|_| is_hidden);
        let ahead = ahead.map(|rate| over(rate, HIDDEN));
        let ahead = ahead.filter(|ahead| *ahead <= MOST_BUFFERED);
        ahead.unwrap_or_default().max(BUFFERED)
    }

    /// Returns when to poll again, with `queued` bytes waiting: after this time, or at once (`None`), which costs
    /// processor time.
    pub(super) fn pause(&self, queued: u64, is_hidden: bool, now: Instant) -> Option<Duration> {
        let (since, _) = self.last?;
        let stuck = now.saturating_duration_since(since);
        let patience = if is_hidden { LONGEST / 2 } else { STUCK };
        if stuck >= patience {
            return Some(stuck.min(LONGEST));
        }
        let rate = self.rate?;
        let buffered = self.buffered(is_hidden);
        if is_hidden {
            // With little data ahead, the timer would fire when nothing is left to send.
            return (buffered > BUFFERED).then_some(LONGEST);
        }
        let more = u128::from(queued.saturating_sub(buffered)) * 1_000_000;
        let micros = u64::try_from(more / u128::from(rate)).unwrap_or(u64::MAX);
        let half = Duration::from_micros(micros) / 2;
        (half >= SHORTEST).then_some(half.min(LONGEST))
    }
}

/// Returns the number of bytes that this rate sends in this time.
fn over(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_millis() / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUED: u64 = 256 * 1024;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Returns the measurements after a second at this rate.
    fn at(rate: u64) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..=100 {
            pace.note(rate * n / 100, start + ms(10 * n));
        }
        (pace, start + ms(1000))
    }

    #[test]
    fn a_fast_line_is_asked_at_once_and_a_slow_one_by_a_timer() {
        let (fast, now) = at(200_000_000);
        assert_eq!(fast.pause(QUEUED, false, now), None);
        assert_eq!(fast.pause(QUEUED, true, now), None);
        let (slow, now) = at(1_000_000);
        // 192 KiB more than may wait, and half of the time that they take.
        let half = Duration::from_micros(192 * 1024 / 2);
        assert_eq!(slow.pause(QUEUED, false, now), Some(half));
        assert_eq!(slow.pause(QUEUED, true, now), Some(LONGEST));
        let unknown = Pace::default();
        assert_eq!(unknown.pause(QUEUED, false, now), None);
    }

    #[test]
    fn a_hidden_page_has_as_much_ahead_as_is_sent_until_a_timer_fires() {
        let (slow, _) = at(1_000_000);
        assert_eq!(slow.buffered(true), 1_200_000);
        assert_eq!(slow.buffered(false), BUFFERED);
        let (fast, _) = at(200_000_000);
        assert_eq!(fast.buffered(true), BUFFERED);
        assert_eq!(Pace::default().buffered(true), BUFFERED);
        let (crawling, _) = at(1000);
        assert_eq!(crawling.buffered(true), BUFFERED);
    }

    #[test]
    fn what_does_not_move_is_asked_for_less_and_less_often() {
        let (pace, now) = at(200_000_000);
        let pause = |stuck| pace.pause(QUEUED, false, now + ms(stuck));
        assert_eq!(
            [19, 20, 300, 90_000].map(pause),
            [None, Some(ms(20)), Some(ms(300)), Some(LONGEST)]
        );
        assert_eq!(pace.pause(QUEUED, true, now + ms(300)), None);
        assert_eq!(pace.pause(QUEUED, true, now + ms(500)), Some(ms(500)));
    }

    #[test]
    fn a_pause_in_what_is_sent_does_not_count() {
        let (mut pace, now) = at(1_000_000);
        pace.rest();
        let later = now + ms(60_000);
        pace.note(2_000_000, later);
        assert_eq!(pace.rate, Some(1_000_000));
        assert_eq!(pace.pause(QUEUED, false, later + ms(50)), Some(ms(50)));
    }
}
