//! What the registries of all tenants share: how often each origin may join, dial and be refused, and how many links are told
//! what is announced.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    config::Limits,
    origin::Claimant,
    rates::Rates,
    shared::{Name, Shared},
};

/// What is shared. Copies are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Commons {
    /// Its lock is taken after that of a hub, and before no other.
    rates: Arc<Shared<OriginRates>>,
    told: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct OriginRates {
    joins: Rates,
    dials: Rates,
    refusals: Rates,
}

impl Commons {
    pub(super) fn new(limits: &Limits) -> Self {
        let rates = OriginRates {
            joins: Rates::new(limits.origin_join_rate),
            dials: Rates::new(limits.origin_dial_rate),
            refusals: Rates::new(limits.refusal_rate),
        };
        Self {
            rates: Arc::new(Shared::new(Name::Rates, rates)),
            told: Arc::default(),
        }
    }

    /// Whether an origin may join; then it counts.
    pub(super) fn try_join(&self, claimant: &Claimant, now: Instant) -> bool {
        self.rates.lock().joins.try_spend(claimant, now)
    }

    /// Whether an origin may dial; then it counts.
    pub(super) fn try_dial(&self, claimant: &Claimant, now: Instant) -> bool {
        self.rates.lock().dials.try_spend(claimant, now)
    }

    /// Counts a refusal; gives how long the origin is to rest, and no longer than `longest`.
    pub(super) fn refuse(&self, claimant: &Claimant, now: Instant, longest: Duration) -> Duration {
        self.rates.lock().refusals.spend(claimant, now, longest)
    }

    /// How many links of all tenants are told what is announced there.
    pub(super) fn told(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }

    /// A tenant that had so many of them has another number now.
    pub(super) fn set_told(&self, before: usize, now: usize) {
        // Modulo the numbers that there are, as the sum is.
        self.told
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}
