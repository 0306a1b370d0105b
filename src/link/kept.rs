//! Values that are kept for a rendezvous from one link to the next.

use crate::address::Rendezvous;

/// The maximum number of rendezvous for which values are kept.
pub(super) const MAX_KEPT: usize = 64;

/// One value for each of the most recent rendezvous that have one.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// The most recent entry is the last one.
    latest: Vec<(Rendezvous, T)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { latest: Vec::new() }
    }
}

impl<T> Kept<T> {
    /// Keeps a value, and replaces the value kept for this rendezvous before.
    pub(super) fn put(&mut self, at: &Rendezvous, thing: T) {
        self.take(at);
        if self.latest.len() == MAX_KEPT {
            self.latest.remove(0);
        }
        self.latest.push((at.clone(), thing));
    }

    /// Removes and returns the value kept for this rendezvous.
    pub(super) fn take(&mut self, at: &Rendezvous) -> Option<T> {
        let place = self.latest.iter().position(|(known, _)| known == at)?;
        Some(self.latest.remove(place).1)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.latest.len()
    }

    pub(super) fn get(&self, at: &Rendezvous) -> Option<&T> {
        let mut latest = self.latest.iter();
        latest
            .find(|(known, _)| known == at)
            .map(|(_, thing)| thing)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::tests, *};

    pub(in crate::link) fn rendezvous(number: usize) -> Rendezvous {
        tests::rendezvous(&format!("dns4/n{number}.example/tcp/443/wss"))
    }

    #[test]
    fn as_many_are_kept_as_may_be_and_one_of_each() {
        let mut kept = Kept::default();
        for number in 0..10 * MAX_KEPT {
            kept.put(&rendezvous(number), 0);
            kept.put(&rendezvous(number), number);
        }
        assert_eq!(kept.len(), MAX_KEPT);
        let last = 10 * MAX_KEPT - 1;
        let oldest = last - MAX_KEPT + 1;
        for (number, expected) in [
            (last, Some(last)),
            (oldest, Some(oldest)),
            (oldest - 1, None),
        ] {
            assert_eq!(kept.get(&rendezvous(number)).copied(), expected);
            assert_eq!(kept.take(&rendezvous(number)), expected);
            assert_eq!(kept.get(&rendezvous(number)), None);
        }
    }
}
