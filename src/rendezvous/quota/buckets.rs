//! What has passed lately and is not paid for yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The burst that a key may send at once after a rest, as time at the full rate.
pub(super) const BURST: Duration = Duration::from_millis(125);
/// The largest number of remembered keys that still have to pay. Beyond it, the key that will have paid first is
/// forgotten.
const MOST: usize = 64 * 1024;
/// The number of keys that have paid and are forgotten at once: more than the one that may be remembered anew.
const FORGOTTEN_AT_ONCE: usize = 4;

/// A bucket for each key: the time until which the key pays for what has passed.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    until: BTreeMap<K, Instant>,
    paid: BTreeSet<(Instant, K)>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self {
            until: BTreeMap::new(),
            paid: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Buckets<K> {
    /// Returns when a key may send again, or `None` if it may now.
    pub(super) fn opens(&self, key: K, now: Instant) -> Option<Instant> {
        self.until.get(&key).copied().filter(|until| *until > now)
    }

    /// Returns until when a key pays for what it has sent, if that is remembered.
    pub(super) fn until(&self, key: K) -> Option<Instant> {
        self.until.get(&key).copied()
    }

    /// Charges a key for `bytes` bytes at a rate of `per_second` bytes a second.
    pub(super) fn charge(&mut self, key: K, bytes: u64, per_second: u64, now: Instant) {
        self.forget_paid(now);
        let rested = now.checked_sub(BURST).unwrap_or(now);
        let before = self.until.get(&key).copied();
        let from = before.map_or(rested, |until| until.max(rested));
        let until = from.checked_add(cost(bytes, per_second)).unwrap_or(from);
        if let Some(before) = before {
            self.paid.remove(&(before, key));
        }
        self.until.insert(key, until);
        self.paid.insert((until, key));
    }

    fn forget_paid(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((until, key)) = self.paid.first().copied() else {
                return;
            };
            if until + BURST > now && self.until.len() < MOST {
                return;
            }
            self.paid.pop_first();
            self.until.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

/// Returns how long it takes to pay for `bytes` bytes.
fn cost(bytes: u64, per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn what_has_passed_is_paid_for_before_more_passes() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        assert_eq!(buckets.opens(1, start), None);
        buckets.charge(1, 125, 1000, start);
        assert_eq!(buckets.opens(1, start), None);
        buckets.charge(1, 50, 1000, start);
        assert_eq!(buckets.opens(1, start), Some(start + 50 * MILLI));
        assert_eq!(buckets.opens(2, start), None);
        assert_eq!(buckets.opens(1, start + 50 * MILLI), None);
        // A key that rests for long saves up no more than a burst.
        let later = start + 10_000 * MILLI;
        buckets.charge(1, 225, 1000, later);
        assert_eq!(buckets.opens(1, later), Some(later + 100 * MILLI));
    }

    #[test]
    fn whoever_has_paid_is_forgotten_and_there_are_never_too_many() {
        let mut buckets = Buckets::default();
        let start = Instant::now();
        for key in 0..2 * MOST {
            buckets.charge(key, 1 + key as u64, 1, start);
        }
        assert_eq!(buckets.len(), MOST);
        assert!(buckets.opens(2 * MOST - 1, start).is_some());
        let later = start + Duration::from_secs(1_000_000);
        for key in 0..MOST {
            buckets.charge(key, 1, 1, later);
        }
        assert!(buckets.until.values().all(|until| *until > later));
    }

    #[test]
    fn no_numbers_are_too_large() {
        let mut buckets = Buckets::default();
        let now = Instant::now();
        for (bytes, rate) in [(u64::MAX, 0), (u64::MAX, 1), (0, u64::MAX)] {
            buckets.charge(1, bytes, rate, now);
            buckets.charge(1, bytes, rate, now);
        }
    }
}
