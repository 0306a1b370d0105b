//! A bounded table of how much each peer has sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::Meter;
use crate::rendezvous::day::Day;

#[derive(Debug)]
struct Entry<A> {
    meter: Arc<Meter>,
    about: A,
    /// The number of times that it has entered and not left.
    seats: usize,
    /// Its rank among the entries that have left.
    rank: (Day, u64),
}

/// Entries that are present, and a bounded number of entries that have left. Of those that have left, the entry that
/// has not sent for the most days is forgotten first, and among these the entry that has sent least on its last day.
#[derive(Debug)]
pub(super) struct Table<K, A> {
    most_left: usize,
    entries: BTreeMap<K, Entry<A>>,
    left: BTreeSet<((Day, u64), K)>,
    next: u64,
}

impl<K: Ord + Clone, A> Table<K, A> {
    /// Creates a table that remembers this many entries that have left.
    pub(super) fn new(most_left: usize) -> Self {
        Self {
            most_left,
            entries: BTreeMap::new(),
            left: BTreeSet::new(),
            next: 0,
        }
    }

    /// Returns a new meter that is not in the table.
    pub(super) fn new_meter(&mut self) -> Arc<Meter> {
        self.next += 1;
        Arc::new(Meter::new(self.next))
    }

    /// Adds an entry, or enters it once more.
    pub(super) fn enter(&mut self, key: &K, about: impl FnOnce() -> A) -> (&Arc<Meter>, &mut A) {
        let next = &mut self.next;
        let entry = self.entries.entry(key.clone()).or_insert_with(|| {
            *next += 1;
            Entry {
                meter: Arc::new(Meter::new(*next)),
                about: about(),
                seats: 0,
                rank: (Day::default(), 0),
            }
        });
        if entry.seats == 0 {
            self.left.remove(&(entry.rank, key.clone()));
        }
        entry.seats += 1;
        (&entry.meter, &mut entry.about)
    }

    /// Notes that an entry has left, perhaps not for the last time.
    pub(super) fn leave(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.seats = entry.seats.saturating_sub(1);
        if entry.seats > 0 {
            return;
        }
        entry.rank = entry.meter.last_day();
        self.left.insert((entry.rank, key.clone()));
        if self.left.len() > self.most_left
            && let Some((_, least)) = self.left.pop_first()
        {
            self.entries.remove(&least);
        }
    }

    /// Calls `look` for at most `most` entries behind `last`, in the order of their keys. Returns the last of them if
    /// there may be more.
    pub(super) fn look_from(
        &self,
        last: Option<&K>,
        most: usize,
        mut look: impl FnMut(&K, &Meter, &A),
    ) -> Option<K> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range((from, Bound::Unbounded));
        let (mut latest, mut seen) = (None, 0);
        for (key, entry) in entries.take(most) {
            look(key, &entry.meter, &entry.about);
            (latest, seen) = (Some(key), seen + 1);
        }
        latest.filter(|_| seen == most).cloned()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
