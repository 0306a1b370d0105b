//! How long nothing but pings has crossed the connections with a peer through rendezvous.

use std::time::Duration;

use web_time::Instant;

use crate::activity::Seen;

#[derive(Debug)]
pub(super) struct Quiet {
    since: Instant,
    seen: Option<Seen>,
}

impl Quiet {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            seen: None,
        }
    }

    /// Compares the counters with those of the last call. `streams` says whether streams other than those of pings were
    /// open all the time: a message on such a stream may have the length of a ping. Returns how long the connections
    /// have been quiet.
    pub(super) fn look(&mut self, now: Instant, seen: Option<Seen>, streams: bool) -> Duration {
        let quiet = match (self.seen, seen) {
            (Some(before), Some(seen)) => {
                seen.other == before.other && (seen.pings == before.pings || !streams)
            }
            // On the first call, or for connections of another transport, the answer is unknown.
            _ => false,
        };
        self.seen = seen;
        if !quiet {
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);

    /// Returns the result of each call, in ticks.
    fn looks(looks: &[(u64, u64, bool)]) -> Vec<u32> {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        let looks = (1..).zip(looks);
        looks
            .map(|(tick, &(pings, other, streams))| {
                let seen = Some(Seen { pings, other });
                let quiet = quiet.look(start + tick * TICK, seen, streams);
                u32::try_from(quiet.as_millis() / TICK.as_millis()).expect("few")
            })
            .collect()
    }

    #[test]
    fn bytes_end_the_quiet() {
        let crossed = [(0, 9, true), (0, 9, true), (0, 9, true), (0, 10, true)];
        assert_eq!(looks(&crossed), [0, 1, 2, 0]);
    }

    #[test]
    fn pings_do_not_while_no_other_stream_is_open() {
        let crossed = [(0, 9, false), (62, 9, false), (124, 9, false)];
        assert_eq!(looks(&crossed), [0, 1, 2]);
    }

    #[test]
    fn what_nobody_counts_is_not_quiet() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        for tick in 1..9 {
            let quiet = quiet.look(start + tick * TICK, None, false);
            assert_eq!(quiet, Duration::ZERO);
        }
    }

    #[test]
    fn what_is_as_long_as_a_ping_may_be_of_an_open_stream() {
        let crossed = [(0, 9, true), (62, 9, true), (62, 9, true)];
        assert_eq!(looks(&crossed), [0, 0, 1]);
    }
}
