//! Remembers whether the service is out of reach, for operators who let everyone in meanwhile. No I/O, no clock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long the service is not asked after it was out of reach. Then it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// The time at which the service was last found out of reach; `None` if it has answered since.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<Instant>>);

impl Outage {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the service need not be asked, because it was out of reach a moment ago.
    pub fn is_on(&self, now: Instant) -> bool {
        let last = *self.lock();
        last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }

    /// Records that the service is out of reach.
    pub fn is_there(&self, now: Instant) {
        *self.lock() = Some(now);
    }

    /// Records that the service has answered.
    pub fn is_over(&self) {
        *self.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_a_second_or_until_it_answers() {
        let (outage, now) = (Outage::default(), Instant::now());
        assert!(!outage.is_on(now));
        outage.is_there(now);
        assert!(outage.is_on(now + PAUSE / 2));
        assert!(!outage.is_on(now + PAUSE));
        outage.is_there(now + PAUSE);
        assert!(outage.is_on(now + PAUSE));
        outage.is_over();
        assert!(!outage.is_on(now + PAUSE));
    }
}
