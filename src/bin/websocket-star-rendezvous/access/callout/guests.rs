//! The peers that have joined because the service has let them in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The number of joins of each address. It is two for a moment when a peer joins again.
#[derive(Debug, Default)]
pub struct Guests(Mutex<HashMap<Arc<str>, usize>>);

impl Guests {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a join that was let in, until the returned guard is dropped.
    pub fn enter(self: &Arc<Self>, address: &str) -> Guest {
        let address = Arc::<str>::from(address);
        *self.lock().entry(address.clone()).or_default() += 1;
        Guest {
            guests: self.clone(),
            address,
        }
    }

    pub fn has(&self, address: &str) -> bool {
        self.lock().contains_key(address)
    }
}

/// A guard for a join that was let in. It is dropped when the peer leaves.
#[derive(Debug)]
pub struct Guest {
    guests: Arc<Guests>,
    address: Arc<str>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.lock();
        if let Some(count) = guests.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_there_until_its_last_join_is_over() {
        let guests = Arc::<Guests>::default();
        let first = guests.enter("a");
        let again = guests.enter("a");
        drop(first);
        assert!(guests.has("a") && !guests.has("b"));
        drop(again);
        assert!(!guests.has("a"));
        assert!(guests.lock().is_empty());
    }
}
