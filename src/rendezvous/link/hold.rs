//! Which dials hold up the link that sends on them, and for how long. No IO, no clock.
//!
//! A link is not read while what it sent last has no room where it goes, and so what it sends on other dials waits,
//! too. Each dial owes the time that it has held up its link, and pays with the bytes that found room and with
//! the time in which it held up nothing. So a receiver that trickles owes more and more, and one that is fast owes nothing
//! although its sender is faster.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::rendezvous::registry::FlowId;

/// From how many debts on those are looked for that are paid by now.
const FIRST_SWEEP: usize = 64;

/// How long a dial may hold up its link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) timeout: Duration,
    /// How many bytes pay for a second.
    pub(super) rate: u64,
}

impl Patience {
    fn paid(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000;
        let nanos = nanos.checked_div(self.rate.into()).unwrap_or(u128::MAX);
        // Nobody owes more than the timeout.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    time: Duration,
    /// When it was that much.
    at: Instant,
}

impl Debt {
    fn left(self, now: Instant) -> Duration {
        let free = now.saturating_duration_since(self.at);
        self.time.saturating_sub(free)
    }
}

/// The dial that holds up the link now.
#[derive(Debug, Clone, Copy)]
struct Held {
    flow: FlowId,
    since: Instant,
    owed: Duration,
}

#[derive(Debug)]
pub(super) struct Holds {
    patience: Patience,
    debts: BTreeMap<FlowId, Debt>,
    held: Option<Held>,
    next_sweep: usize,
}

impl Holds {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            debts: BTreeMap::new(),
            held: None,
            next_sweep: FIRST_SWEEP,
        }
    }

    /// A dial holds up the link from now on. So many bytes of it have found room since the last time.
    pub(super) fn begin(&mut self, flow: FlowId, bytes: u64, now: Instant) {
        let debt = self.debts.remove(&flow);
        let owed = debt.map_or(Duration::ZERO, |debt| debt.left(now));
        self.held = Some(Held {
            flow,
            since: now,
            owed: owed.saturating_sub(self.patience.paid(bytes)),
        });
    }

    /// What waited has found room; it has so many bytes.
    pub(super) fn end(&mut self, bytes: u64, now: Instant) {
        let Some(held) = self.held.take() else {
            return;
        };
        let time = held.owed + now.saturating_duration_since(held.since);
        let time = time.saturating_sub(self.patience.paid(bytes));
        if !time.is_zero() {
            self.sweep(now);
            self.debts.insert(held.flow, Debt { time, at: now });
        }
    }

    /// What waited is given up, with its dial.
    pub(super) fn give_up(&mut self) {
        self.held = None;
    }

    /// When the dial that holds up the link has done so for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.held?;
        let left = self.patience.timeout.saturating_sub(held.owed);
        held.since.checked_add(left)
    }

    /// Forgets those that are paid, whenever there are twice as many as were left by the last time.
    fn sweep(&mut self, now: Instant) {
        if self.debts.len() < self.next_sweep {
            return;
        }
        self.debts.retain(|_, debt| !debt.left(now).is_zero());
        self.next_sweep = FIRST_SWEEP.max(self.debts.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const RATE: u64 = 100_000;
    const MILLI: Duration = Duration::from_millis(1);

    fn holds() -> Holds {
        Holds::new(Patience {
            timeout: TIMEOUT,
            rate: RATE,
        })
    }

    /// Has a dial hold up its link for `wait` with items of `bytes`, each followed by others of `free` bytes that find
    /// room at once; when it has done so for too long, if within 1,000 seconds.
    fn cut(bytes: u64, wait: Duration, free: u64) -> Option<Duration> {
        let mut holds = holds();
        let start = Instant::now();
        let mut now = start;
        while now < start + 1000 * Duration::from_secs(1) {
            holds.begin(FlowId(1), free, now);
            let deadline = holds.deadline().expect("it waits");
            if deadline <= now + wait {
                return Some(deadline - start);
            }
            now += wait;
            holds.end(bytes, now);
        }
        None
    }

    #[test]
    fn what_finds_no_room_at_all_is_given_up_after_the_timeout() {
        assert_eq!(cut(1000, Duration::from_secs(3600), 0), Some(TIMEOUT));
        assert_eq!(cut(1000, TIMEOUT - MILLI, 0), Some(TIMEOUT + 10 * MILLI));
    }

    #[test]
    fn a_dial_that_trickles_is_given_up_though_each_item_finds_room_soon() {
        // Half of the rate, in items that wait for a fifth of a second.
        let cut = cut(10_000, 200 * MILLI, 0).expect("too slow");
        assert!(
            (2 * TIMEOUT - 400 * MILLI..=2 * TIMEOUT).contains(&cut),
            "{cut:?}"
        );
    }

    #[test]
    fn a_dial_that_is_fast_enough_may_hold_up_its_link_all_the_time() {
        assert_eq!(cut(20_000, 200 * MILLI, 0), None);
        // Few of its items wait, but all of them count.
        assert_eq!(cut(1000, 200 * MILLI, 20_000), None);
        assert_eq!(cut(1, 4 * TIMEOUT / 5, 1_000_000), None);
    }

    #[test]
    fn time_without_waiting_pays_too() {
        let (mut holds, start) = (holds(), Instant::now());
        let wait = 4 * TIMEOUT / 5;
        holds.begin(FlowId(1), 0, start);
        holds.end(0, start + wait);
        holds.begin(FlowId(1), 0, start + wait + wait / 2);
        let deadline = holds.deadline().expect("it waits");
        assert_eq!(deadline, start + wait + wait / 2 + TIMEOUT - wait / 2);
        holds.give_up();
        assert_eq!((holds.deadline(), holds.debts.len()), (None, 0));
    }

    #[test]
    fn dials_owe_apart_and_those_that_have_paid_are_forgotten() {
        let (mut holds, mut now) = (holds(), Instant::now());
        for n in 0..10_000 {
            holds.begin(FlowId(n), 0, now);
            assert_eq!(holds.deadline(), Some(now + TIMEOUT));
            now += 100 * MILLI;
            holds.end(0, now);
            assert!(holds.debts.len() <= 2 * FIRST_SWEEP);
        }
    }

    #[test]
    fn without_a_rate_any_byte_pays_for_all() {
        let patience = Patience {
            timeout: TIMEOUT,
            rate: 0,
        };
        assert_eq!(patience.paid(1), Duration::from_nanos(u64::MAX));
        let (mut holds, now) = (Holds::new(patience), Instant::now());
        holds.begin(FlowId(1), 0, now);
        holds.end(1, now + TIMEOUT - MILLI);
        assert!(holds.debts.is_empty());
    }
}
