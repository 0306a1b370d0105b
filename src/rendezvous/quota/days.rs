//! What each key has sent today.

use std::collections::{BTreeMap, BTreeSet};

use crate::rendezvous::day::Day;

/// The number of keys that are remembered. Beyond it, a newcomer takes the place of the key that has sent least, and
/// inherits that key's count. So no key can get rid of what has been counted.
const MOST: usize = 20_000;

/// The bytes that each key has sent today.
#[derive(Debug)]
pub(super) struct Days<K> {
    today: Day,
    sent: BTreeMap<K, u64>,
    by_sent: BTreeSet<(u64, K)>,
}

impl<K> Default for Days<K> {
    fn default() -> Self {
        Self {
            today: Day::default(),
            sent: BTreeMap::new(),
            by_sent: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Days<K> {
    /// Returns the number of bytes that a key has sent today.
    pub(super) fn sent(&self, key: K, today: Day) -> u64 {
        let sent = self.sent.get(&key).filter(|_| today == self.today);
        sent.copied().unwrap_or_default()
    }

    /// Counts `bytes` more bytes of a key.
    pub(super) fn count(&mut self, key: K, bytes: u64, today: Day) {
        // A caller that read the clock just before midnight may come after the new day has begun. It does not begin the
        // old day anew.
        if today > self.today || today.is_before(self.today) {
            *self = Self {
                today,
                ..Self::default()
            };
        }
        let mut sent = bytes;
        if let Some(before) = self.sent.get(&key).copied() {
            self.by_sent.remove(&(before, key));
            sent = sent.saturating_add(before);
        } else if self.sent.len() >= MOST
            && let Some((least, forgotten)) = self.by_sent.pop_first()
        {
            self.sent.remove(&forgotten);
            sent = sent.saturating_add(least);
        }
        self.sent.insert(key, sent);
        self.by_sent.insert((sent, key));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn day(n: u64) -> Day {
        Day::of(UNIX_EPOCH + Duration::from_secs(n * 24 * 60 * 60))
    }

    #[test]
    fn each_day_begins_with_nothing() {
        let mut days = Days::default();
        days.count(1, 70, day(3));
        days.count(1, 7, day(3));
        days.count(2, 1, day(3));
        assert_eq!((days.sent(1, day(3)), days.sent(2, day(3))), (77, 1));
        assert_eq!(days.sent(1, day(4)), 0);
        days.count(2, 1, day(4));
        assert_eq!((days.sent(1, day(4)), days.sent(2, day(4))), (0, 1));
    }

    #[test]
    fn a_clock_that_is_looked_at_too_late_begins_no_day() {
        let mut days = Days::default();
        days.count(1, 70, day(3));
        days.count(1, 7, day(2));
        assert_eq!(days.sent(1, day(3)), 77);
        // A clock that was wrong is right again.
        days.count(1, 5, day(1));
        assert_eq!((days.sent(1, day(1)), days.sent(1, day(3))), (5, 0));
    }

    #[test]
    fn whoever_takes_the_place_of_another_takes_what_that_one_has_sent() {
        let mut days = Days::default();
        for key in 0..MOST {
            days.count(key, 100, day(3));
        }
        // Two keys take each other's place again and again.
        for _ in 0..10 {
            days.count(MOST, 10, day(3));
            days.count(MOST + 1, 10, day(3));
        }
        let both = [MOST, MOST + 1].map(|key| days.sent(key, day(3)));
        assert!(both.iter().all(|sent| *sent >= 200), "{both:?}");
        assert_eq!(days.sent.len(), MOST);
    }

    #[test]
    fn many_strangers_drive_out_nobody_who_has_sent_more() {
        let mut days = Days::default();
        days.count(0, 1000, day(3));
        for key in 1..5 * MOST {
            days.count(key, key as u64 % 100, day(3));
        }
        assert_eq!(days.sent.len(), MOST);
        assert_eq!(days.by_sent.len(), MOST);
        assert_eq!(days.sent(0, day(3)), 1000);
    }
}
