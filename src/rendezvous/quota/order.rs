//! Whose turn it is among the peers of an origin, by bytes. Does no IO and reads no clock.
//!
//! Each peer has a point in virtual time at which its next item would be done; the earliest is next. Virtual time
//! advances by the bytes that pass, divided by the number of peers that share it. So a peer that has rested and has a
//! small item need not wait for a large item of each of the others. A client with many keys gets no more by them than
//! one share for each.

use std::collections::BTreeSet;

/// The units of virtual time for one byte, so that a fraction of a byte counts, too.
const SCALE: u64 = 1 << 10;

/// The order of the keys that have something to send.
#[derive(Debug)]
pub(super) struct Order<K> {
    clock: u64,
    /// The virtual times at which the keys' next items are done.
    by_due: BTreeSet<(u64, K)>,
    /// The virtual times at which the keys' next items begin.
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

/// The position of a key in the order.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The virtual time up to which reaches what the key has sent.
    done: u64,
    /// The virtual time at which its next item is done, if it has something to send.
    due: Option<u64>,
}

impl<K: Ord + Copy> Order<K> {
    /// Puts a key into the order, with a next item of `bytes` bytes. That number is 0 if the key is about to have an
    /// item and nothing is known of it yet.
    pub(super) fn enter(&mut self, key: K, place: &mut Place, bytes: u64) {
        if place.due.is_none() {
            // A key that has rested has saved nothing up.
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

    /// Takes a key out of the order, because it has nothing to send for now.
    pub(super) fn leave(&mut self, key: K, place: &mut Place) {
        if let Some(due) = place.due.take() {
            self.by_due.remove(&(due, key));
            self.by_begin.remove(&(place.done, key));
        }
    }

    /// Charges a key that is in the order for the `bytes` bytes of its item. The key stays in the order with 0 bytes:
    /// it may be about to have another item.
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

    /// Returns whether a key that has nothing to send would gain by being forgotten.
    pub(super) fn has_debt(&self, place: &Place) -> bool {
        place.done > self.clock && !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Returns what each key has sent after `items` items, if all keys always have more items of their size.
    fn sent(order: &mut Order<u32>, all: &mut [(Place, u64)], items: usize) -> HashMap<u32, u64> {
        let mut sent = HashMap::new();
        for _ in 0..items {
            let first = order.first().expect("a key has something to send");
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
        // Three keys share, so virtual time advances by a third of what the strangers send: 3,000 bytes of theirs take
        // it to 1,000.
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
