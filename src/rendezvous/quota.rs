//! Bounds on how much each peer, each origin and each tenant may send.
//!
//! Bytes count once, where they are sent, and slow down the reading there: an item that may not pass yet waits in its
//! link, one item for each link. [`Queue`] decides whose turn it is, and is pure. No task is needed for the timer: the
//! link whose item has waited longest holds the timer for all of them. When that link has its turn or is gone, another
//! link is woken and takes over the timer.

mod books;
mod buckets;
mod days;
mod lane;
mod order;
mod pass;
mod queue;
mod sender;
mod settings;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

pub(super) use self::pass::Pass;
pub use self::settings::Quota;
pub(crate) use self::settings::{QuotaSettings, Spent, Whose};
use self::{
    queue::Queue,
    sender::{Sender, Tenant},
};
use super::{
    day::{Day, until_tomorrow},
    origin::Claimant,
    usage::Meter,
};

/// The quotas of a server and the items that wait for them, as one of its tenants sees them.
#[derive(Debug)]
pub(crate) struct Quotas {
    tenant: Tenant,
    queue: Arc<Mutex<Queue>>,
}

impl Quotas {
    /// Creates the quotas of these settings; `None` if the settings have no bound.
    pub(super) fn new(settings: QuotaSettings) -> Option<Arc<Self>> {
        if settings.tenant.per_day().is_some() && settings.origin.per_day().is_none() {
            tracing::warn!(
                "one address can spend the whole daily quota, because addresses have no daily quota of their own"
            );
        }
        let quotas = || Self {
            tenant: 0,
            queue: Arc::new(Mutex::new(Queue::new(settings))),
        };
        (!settings.are_unlimited()).then(|| Arc::new(quotas()))
    }

    /// Returns the same quotas for the tenant with this number.
    pub(super) fn of_tenant(&self, number: usize) -> Arc<Self> {
        Arc::new(Self {
            tenant: number,
            queue: self.queue.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in there panics halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item of this many bytes, which waits until it may pass.
    pub(super) fn enter(
        self: &Arc<Self>,
        claimant: &Claimant,
        meter: &Arc<Meter>,
        bytes: usize,
    ) -> Pass {
        let today = Day::of(SystemTime::now());
        let sender = Sender::new(self.tenant, claimant, meter.clone());
        let ticket = self.lock().enter(sender, bytes as u64, today);
        Pass::new(self.clone(), ticket)
    }

    /// Returns which quota for the day is spent now, if one that applies to this peer is.
    pub(super) fn spent(&self, claimant: &Claimant, meter: Option<&Arc<Meter>>) -> Option<Spent> {
        let now = SystemTime::now();
        let whose = self
            .lock()
            .spent(claimant, meter, self.tenant, Day::of(now))?;
        Some(Spent::new(whose, until_tomorrow(now)))
    }
}
