//! Whether the service is out of reach, where everybody is let in meanwhile. No IO, no clock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long nobody waits for a service that was out of reach. Then it is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// When it was out of reach last, if it has not answered since.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<Instant>>);

impl Outage {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it need not be asked: it was out of reach a moment ago.
    pub fn is_on(&self, now: Instant) -> bool {
        let last = *self.lock();
        last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }

    pub fn is_there(&self, now: Instant) {
        *self.lock() = Some(now);
    }

    /// It has answered something.
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
