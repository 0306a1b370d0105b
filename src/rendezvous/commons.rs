//! What the registries of all tenants share: the rates at which each origin may join, dial and be refused, and the
//! number of links that hear announcements.

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

/// What the registries share. Clones share the same state.
#[derive(Debug, Clone)]
pub(crate) struct Commons {
    /// Lock order: taken after the lock of a hub. No other lock is taken while it is held.
    rates: Arc<Shared<OriginRates>>,
    charged_links: Arc<AtomicUsize>,
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
            charged_links: Arc::default(),
        }
    }

    /// Returns whether an origin may join. If so, the join counts.
    pub(super) fn try_join(&self, claimant: &Claimant, now: Instant) -> bool {
        self.rates.lock().joins.try_spend(claimant, now)
    }

    /// Returns whether an origin may dial. If so, the dial counts.
    pub(super) fn try_dial(&self, claimant: &Claimant, now: Instant) -> bool {
        self.rates.lock().dials.try_spend(claimant, now)
    }

    /// Counts a refusal. Returns how long the origin must rest, at most `longest`.
    pub(super) fn refuse(&self, claimant: &Claimant, now: Instant, longest: Duration) -> Duration {
        self.rates.lock().refusals.spend(claimant, now, longest)
    }

    /// Returns the number of links of all tenants for which announcements are charged to the rate.
    pub(super) fn charged_links(&self) -> usize {
        self.charged_links.load(Ordering::Relaxed)
    }

    /// Replaces the part of one tenant in the number that [`charged_links`](Self::charged_links) returns.
    pub(super) fn set_charged_links(&self, before: usize, now: usize) {
        // The sum wraps around, so a wrapped difference is right, too.
        self.charged_links
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}
