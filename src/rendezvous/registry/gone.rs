//! Addresses that have left lately. An address that comes back is not news to links that have heard of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

/// The number of addresses that are remembered in all tenants together. Beyond it, the address that left first is
/// forgotten. An address that is forgotten and comes back is announced as a newcomer.
const MAX_GONE: usize = 16 * 1024;

/// What is known of an address that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// The number of the join up to which links have been told of it.
    pub(super) told: u64,
    /// The time of its last announcement.
    pub(super) told_at: Instant,
    /// The time at which it would have been announced again.
    pub(super) due: Instant,
}

/// The least number that each of many tenants remembers.
const LEAST_GONE: usize = 256;

#[derive(Debug)]
pub(super) struct Gone {
    most: usize,
    by_address: BTreeMap<Arc<str>, (Left, u64)>,
    /// The addresses in the order of leaving. Those that have come back since are skipped.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
}

impl Gone {
    /// Creates the list of one of `tenants` tenants.
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            most: (MAX_GONE / tenants.max(1)).max(LEAST_GONE),
            by_address: BTreeMap::new(),
            order: VecDeque::new(),
            next: 0,
        }
    }

    /// Remembers an address that has left.
    pub(super) fn insert(&mut self, address: Arc<str>, left: Left) {
        let number = self.next;
        self.next += 1;
        self.by_address.insert(address.clone(), (left, number));
        self.order.push_back((number, address));
        while self.order.len() > self.most
            && let Some((number, address)) = self.order.pop_front()
        {
            if self
                .by_address
                .get(&address)
                .is_some_and(|(_, n)| *n == number)
            {
                self.by_address.remove(&address);
            }
        }
    }

    /// Returns and forgets what is remembered of an address that is back.
    pub(super) fn take(&mut self, address: &str) -> Option<Left> {
        self.by_address.remove(address).map(|(left, _)| left)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_left_lately_are_remembered_and_not_more() {
        let mut gone = Gone::new(1);
        let told_at = Instant::now();
        let left = |told| Left {
            told,
            told_at,
            due: told_at,
        };
        for told in 0..2 {
            gone.insert("again".into(), left(told));
        }
        assert_eq!(gone.take("again"), Some(left(1)));
        assert_eq!(gone.take("again"), None);
        gone.insert("again".into(), left(2));
        for n in 0..MAX_GONE - 1 {
            gone.insert(n.to_string().into(), left(0));
        }
        assert_eq!(gone.len(), MAX_GONE);
        gone.insert("last".into(), left(0));
        assert_eq!(gone.len(), MAX_GONE);
        assert_eq!(gone.take("again"), None);
        assert!(gone.take("0").is_some());
    }
}
