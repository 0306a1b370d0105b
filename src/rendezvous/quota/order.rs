//! Whose turn it is among the peers of an origin, by bytes. No IO, no clock.
//!
//! Each has a point in virtual time at which its next item would be done, and the first is next. Virtual time goes on by what
//! passes, divided by the number of those who share it. So one that has rested, and has a small item, need not wait
//! for a large one of each of the others; and a stranger with many keys gets no more by them than a share for each.

use std::collections::BTreeSet;

/// A byte is so much of virtual time: a part of it counts, too.
const SCALE: u64 = 1 << 10;

/// The order of those who have something.
#[derive(Debug)]
pub(super) struct Order<K> {
    clock: u64,
    /// By when their next item is done, and by when it begins.
    by_due: BTreeSet<(u64, K)>,
    by_begin: BTreeSet<(u64, K)>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self {
            clock: 0,
            by_due: BTreeSet::new(),
            by_begin: BTreeSet::new(),
        }
    }
}

/// Where somebody stands.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Up to where what it has sent reaches.
    done: u64,
    /// When its next item is done, if it has something.
    due: Option<u64>,
}

impl<K: Ord + Copy> Order<K> {
    /// The next item of a key has so many bytes. Of one that it is about to have, nothing is known yet, and it has none.
    pub(super) fn enter(&mut self, key: K, place: &mut Place, bytes: u64) {
        if place.due.is_none() {
            // Who has rested has saved nothing up.
            place.done = place.done.max(self.clock);
        }
        self.put(key, place, bytes.saturating_mul(SCALE));
    }

    fn put(&mut self, key: K, place: &mut Place, time: u64) {
        self.leave(key, place);
        let due = place.done.saturating_add(time);
        place.due = Some(due);
        self.by_due.insert((due, key));
        self.by_begin.insert((place.done, key));
    }

    /// A key has nothing for now.
    pub(super) fn leave(&mut self, key: K, place: &mut Place) {
        if let Some(due) = place.due.take() {
            self.by_due.remove(&(due, key));
            self.by_begin.remove(&(place.done, key));
        }
    }

    /// A key that has something has sent so many bytes. It may be about to have more.
    pub(super) fn sent(&mut self, key: K, place: &mut Place, bytes: u64) {
        let sharing = self.by_due.len().max(1) as u64;
        let time = bytes.saturating_mul(SCALE);
        self.leave(key, place);
        place.done = place.done.saturating_add(time);
        self.put(key, place, 0);
        let earliest = self.by_begin.first().map_or(0, |(begin, _)| *begin);
        self.clock = self.clock.saturating_add(time / sharing).max(earliest);
    }

    pub(super) fn first(&self) -> Option<K> {
        self.by_due.first().map(|(_, key)| *key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_due.is_empty()
    }

    /// Whether a key that has nothing would gain by being forgotten.
    pub(super) fn has_debt(&self, place: &Place) -> bool {
        place.done > self.clock && !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What each of the keys has sent after so many items, if all always have more of their size.
    fn sent(order: &mut Order<u32>, all: &mut [(Place, u64)], items: usize) -> HashMap<u32, u64> {
        let mut sent = HashMap::new();
        for _ in 0..items {
            let first = order.first().expect("somebody has something");
            let (place, size) = &mut all[first as usize];
            order.sent(first, place, *size);
            order.enter(first, place, *size);
            *sent.entry(first).or_default() += *size;
        }
        sent
    }

    #[test]
    fn all_send_the_same_whatever_their_items() {
        let mut order = Order::default();
        let sizes = [1, 10, 1000];
        let mut all = sizes.map(|size| (Place::default(), size));
        for (key, (place, size)) in (0..).zip(&mut all) {
            order.enter(key, place, *size);
        }
        let sent = sent(&mut order, &mut all, 110_100);
        for key in 0..3 {
            assert!(sent[&key].abs_diff(100_000) <= 1000, "{sent:?}");
        }
    }

    #[test]
    fn a_small_item_comes_before_the_large_ones_and_no_number_of_keys_keeps_these_from_their_turn()
    {
        let mut order = Order::default();
        let mut large = [(Place::default(), 1000), (Place::default(), 1000)];
        for (key, (place, size)) in (0..).zip(&mut large) {
            order.enter(key, place, *size);
        }
        let mut strangers = 0;
        for key in 2.. {
            let mut place = Place::default();
            order.enter(key, &mut place, 10);
            if key == 2 {
                assert_eq!(order.first(), Some(2));
            }
            if order.first() != Some(key) {
                break;
            }
            order.sent(key, &mut place, 10);
            order.leave(key, &mut place);
            strangers += 10;
        }
        // A third of three.
        assert!((1000..=3100).contains(&strangers), "{strangers}");
    }

    #[test]
    fn who_has_rested_has_saved_nothing_up() {
        let mut order = Order::default();
        let mut all = [(Place::default(), 10), (Place::default(), 10)];
        order.enter(0, &mut all[0].0, 10);
        sent(&mut order, &mut all, 1000);
        order.enter(1, &mut all[1].0, 10);
        let sent = sent(&mut order, &mut all, 100);
        assert!(sent[&0].abs_diff(500) <= 20, "{sent:?}");
    }
}
