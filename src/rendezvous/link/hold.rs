//! Which destinations hold up the link that sends to them, and for how long. Does no IO and reads no clock.
//!
//! A link is not read while its last item finds no room at its destination, so everything else that it sends waits,
//! too. Each destination owes a link the time for which it has held up that link. It pays with the bytes that it takes,
//! from any sender, and slowly with the time in which it holds up nothing. So a receiver that trickles owes more and
//! more. A receiver that is fast owes nothing, even if its senders are faster. A new dial to the same receiver changes
//! nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::rendezvous::registry::LinkId;

/// The number of debts from which on those that are paid by now are looked for and forgotten.
const FIRST_SWEEP: usize = 64;
/// The number of seconds without holding up anything that pay for one second of debt.
const FREE: u32 = 10;
/// The number of checks per timeout. A check records what the destination has taken, and whether there is any other
/// dial to hold up.
const LOOKS: u32 = 4;

/// How long a destination may hold up a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) timeout: Duration,
    /// The number of bytes that pay for one second of debt.
    pub(super) rate: u64,
}

impl Patience {
    fn paid(self, bytes: u64) -> Duration {
        if bytes == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000;
        let nanos = nanos.checked_div(self.rate.into()).unwrap_or(u128::MAX);
        // So long a time pays for any debt, because debts are capped at the timeout.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The time that a destination owes a link.
#[derive(Debug, Clone, Copy)]
struct Debt {
    time: Duration,
    /// The time at which the debt was `time`.
    at: Instant,
    /// The number of bytes that the destination had taken by then.
    taken: u64,
}

impl Debt {
    fn left(self, now: Instant) -> Duration {
        let free = now.saturating_duration_since(self.at);
        self.time.saturating_sub(free / FREE)
    }
}

/// The destination that holds up the link at present.
#[derive(Debug, Clone, Copy)]
struct Held {
    to: LinkId,
    /// The time at which the wait began.
    began: Instant,
    /// The time from which on the wait counts, because it holds up other dials.
    minded: Instant,
    debt: Debt,
}

#[derive(Debug)]
pub(super) struct Holds {
    patience: Patience,
    debts: BTreeMap<LinkId, Debt>,
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

    /// Begins a wait: a destination that has taken `taken` bytes so far holds up the link from now on. Returns whether
    /// it still owes something.
    pub(super) fn begin(&mut self, to: LinkId, taken: u64, now: Instant) -> bool {
        let time = self.debts.remove(&to).map_or(Duration::ZERO, |debt| {
            let paid = self.patience.paid(taken.saturating_sub(debt.taken));
            debt.left(now).saturating_sub(paid)
        });
        let debt = Debt {
            time,
            at: now,
            taken,
        };
        self.held = Some(Held {
            to,
            began: now,
            minded: now,
            debt,
        });
        !time.is_zero()
    }

    /// Ends the wait: the parcel has found room, or it is given up.
    pub(super) fn end(&mut self, taken: u64, now: Instant) {
        self.pay(taken, now);
        let Some(Held { to, mut debt, .. }) = self.held.take() else {
            return;
        };
        debt.time = debt.time.min(self.patience.timeout);
        if !debt.time.is_zero() {
            self.sweep(now);
            self.debts.insert(to, debt);
        }
    }

    /// Adds the time since the last check to the debt, and pays with the bytes taken since then. `taken` is the number
    /// of bytes that the destination has taken so far.
    pub(super) fn pay(&mut self, taken: u64, now: Instant) {
        let patience = self.patience;
        if let Some(Held { debt, .. }) = &mut self.held {
            let bytes = taken.saturating_sub(debt.taken);
            let time = debt.time + now.saturating_duration_since(debt.at);
            *debt = Debt {
                time: time.saturating_sub(patience.paid(bytes)),
                at: now,
                taken,
            };
        }
    }

    /// Clears the debt, because until now the wait has held up no other dial.
    pub(super) fn excuse(&mut self, taken: u64, now: Instant) {
        if let Some(held) = &mut self.held {
            held.minded = now;
            held.debt = Debt {
                time: Duration::ZERO,
                at: now,
                taken,
            };
        }
    }

    /// Returns how long the link has been held up by this wait.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        let held = self.held.as_ref();
        held.map_or(Duration::ZERO, |held| {
            now.saturating_duration_since(held.began)
        })
    }

    /// Returns when the wait is to be checked next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let look = self
            .held?
            .debt
            .at
            .checked_add(self.patience.timeout / LOOKS);
        [look, self.deadline()].into_iter().flatten().min()
    }

    /// Returns when the link has been held up for too long: by this one item, or together with what is owed from
    /// before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.held?;
        let timeout = self.patience.timeout;
        let left = timeout.saturating_sub(held.debt.time);
        let in_all = held.debt.at.checked_add(left);
        let by_this = held.minded.checked_add(timeout);
        [in_all, by_this].into_iter().flatten().min()
    }

    /// Forgets debts that are paid, whenever there are twice as many debts as the last sweep left.
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

    /// Has a destination hold up the link for `wait` with items of `bytes`. Each is followed by other items of `free`
    /// bytes in all, which find room at once. Returns after how long the destination has held up the link for too long,
    /// if that happens within 1,000 seconds.
    fn cut(bytes: u64, wait: Duration, free: u64) -> Option<Duration> {
        let mut holds = holds();
        let start = Instant::now();
        let (mut now, mut taken) = (start, 0);
        while now < start + 1000 * Duration::from_secs(1) {
            holds.begin(LinkId(1), taken, now);
            let deadline = holds.deadline().expect("it waits");
            if deadline <= now + wait {
                return Some(deadline - start);
            }
            now += wait;
            taken += bytes;
            holds.end(taken, now);
            taken += free;
        }
        None
    }

    #[test]
    fn what_finds_no_room_at_all_is_given_up_after_the_timeout() {
        assert_eq!(cut(1000, Duration::from_secs(3600), 0), Some(TIMEOUT));
        assert_eq!(cut(1000, TIMEOUT - MILLI, 0), Some(TIMEOUT + 10 * MILLI));
    }

    #[test]
    fn a_receiver_that_trickles_is_given_up_though_each_item_finds_room_soon() {
        // Half of the rate, in items that wait for a fifth of a second each.
        let cut = cut(10_000, 200 * MILLI, 0).expect("too slow");
        assert!(
            (2 * TIMEOUT - 400 * MILLI..=2 * TIMEOUT).contains(&cut),
            "{cut:?}"
        );
    }

    #[test]
    fn a_receiver_that_is_fast_enough_may_hold_up_a_link_all_the_time() {
        assert_eq!(cut(20_000, 200 * MILLI, 0), None);
        // Few of its items wait, but all of them count, each once.
        assert_eq!(cut(1000, 200 * MILLI, 20_000), None);
        assert!(cut(5000, 200 * MILLI, 5000).is_some());
        assert_eq!(cut(1, 4 * TIMEOUT / 5, 1_000_000), None);
    }

    #[test]
    fn what_it_takes_from_others_pays_but_no_item_waits_for_longer_than_the_timeout() {
        let (mut holds, start) = (holds(), Instant::now());
        assert!(!holds.begin(LinkId(1), 500, start));
        assert_eq!(holds.next_look(), Some(start + TIMEOUT / LOOKS));
        let now = start + 4 * TIMEOUT / 5;
        holds.pay(500 + 4 * RATE, now);
        assert_eq!(holds.deadline(), Some(start + TIMEOUT));
        holds.end(500 + 4 * RATE, now);
        assert!(holds.debts.is_empty(), "all is paid");
    }

    #[test]
    fn what_nobody_minded_is_excused() {
        let (mut holds, start) = (holds(), Instant::now());
        holds.begin(LinkId(1), 0, start);
        let now = start + TIMEOUT - MILLI;
        holds.excuse(0, now);
        assert_eq!(holds.deadline(), Some(now + TIMEOUT));
        assert_eq!(holds.waited(now), TIMEOUT - MILLI);
        holds.end(0, now + MILLI);
        assert!(holds.begin(LinkId(1), 0, now + MILLI));
        assert_eq!(holds.deadline(), Some(now + TIMEOUT));
    }

    #[test]
    fn time_without_waiting_pays_a_tenth_and_a_new_dial_nothing() {
        let (mut holds, start) = (holds(), Instant::now());
        holds.begin(LinkId(1), 0, start);
        let now = start + TIMEOUT;
        assert_eq!(holds.deadline(), Some(now));
        // The dial is given up, and the destination is dialled again.
        holds.end(0, now);
        assert!(holds.begin(LinkId(1), 0, now + TIMEOUT));
        assert_eq!(holds.deadline(), Some(now + TIMEOUT + TIMEOUT / 10));
        holds.end(0, now + TIMEOUT);
        assert!(!holds.begin(LinkId(1), 0, now + 20 * TIMEOUT));
        assert_eq!(holds.deadline(), Some(now + 21 * TIMEOUT));
    }

    #[test]
    fn destinations_owe_apart_and_those_that_have_paid_are_forgotten() {
        let (mut holds, mut now) = (holds(), Instant::now());
        for n in 0..10_000 {
            holds.begin(LinkId(n), 0, now);
            assert_eq!(holds.deadline(), Some(now + TIMEOUT));
            now += 100 * MILLI;
            holds.end(0, now);
            assert!(holds.debts.len() <= 2 * FIRST_SWEEP);
        }
    }

    #[test]
    fn without_a_rate_any_byte_pays_for_all_and_nothing_for_nothing() {
        let patience = Patience {
            timeout: TIMEOUT,
            rate: 0,
        };
        assert_eq!(patience.paid(1), Duration::from_nanos(u64::MAX));
        let (mut holds, now) = (Holds::new(patience), Instant::now());
        holds.begin(LinkId(1), 0, now);
        holds.end(1, now + TIMEOUT - MILLI);
        assert!(holds.debts.is_empty());
        holds.begin(LinkId(1), 1, now);
        holds.pay(1, now + TIMEOUT / 2);
        assert_eq!(holds.deadline(), Some(now + TIMEOUT));
    }
}
