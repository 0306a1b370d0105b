//! How often each origin may join, dial and be refused, in all tenants together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{config::Limits, origin::Claimant, rates::Rates};

/// The rates of origins. Copies share them.
#[derive(Debug, Clone)]
pub(crate) struct OriginRates(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    joins: Rates,
    dials: Rates,
    refusals: Rates,
}

impl OriginRates {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            joins: Rates::new(limits.origin_join_rate),
            dials: Rates::new(limits.origin_dial_rate),
            refusals: Rates::new(limits.refusal_rate),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in there panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an origin may join; then it counts.
    pub(super) fn try_join(&self, claimant: &Claimant, now: Instant) -> bool {
        self.lock().joins.try_spend(claimant, now)
    }

    /// Whether an origin may dial; then it counts.
    pub(super) fn try_dial(&self, claimant: &Claimant, now: Instant) -> bool {
        self.lock().dials.try_spend(claimant, now)
    }

    /// Counts a refusal; gives how long the origin is to rest, and no longer than `longest`.
    pub(super) fn refuse(&self, claimant: &Claimant, now: Instant, longest: Duration) -> Duration {
        self.lock().refusals.spend(claimant, now, longest)
    }
}
