//! Who has left lately: an address that comes back is not news to those who have heard of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

/// How many are remembered in all tenants together; beyond that, the first to leave is forgotten first. An address that is forgotten
/// and comes back is announced as a newcomer.
const MAX_GONE: usize = 16 * 1024;

/// What is known of an address that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Up to which join links have been told of it.
    pub(super) told: u64,
    /// When that was.
    pub(super) told_at: Instant,
    /// When it would have been announced again.
    pub(super) due: Instant,
}

/// The least for each of many tenants.
const LEAST_GONE: usize = 256;

#[derive(Debug)]
pub(super) struct Gone {
    most: usize,
    by_address: BTreeMap<Arc<str>, (Left, u64)>,
    /// In the order of leaving; those that have come back since are passed over.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
}

impl Gone {
    /// Those of one of so many tenants.
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            most: (MAX_GONE / tenants.max(1)).max(LEAST_GONE),
            by_address: BTreeMap::new(),
            order: VecDeque::new(),
            next: 0,
        }
    }

    /// An address has left.
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

    /// An address is back; what is known of it, unless that is forgotten.
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
