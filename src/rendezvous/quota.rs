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

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub(super) use self::pass::Pass;
use self::queue::{Queue, Sender, Tenant};
use super::{
    day::{Day, until_tomorrow},
    origin::Claimant,
    usage::Meter,
};

/// A bound on how much a peer, an origin or a tenant may send. By default there is no bound.
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Config, Quota};
///
/// let quota = Quota::default()
///     .with_bytes_per_second(1024 * 1024)
///     .with_bytes_per_day(10 * 1024 * 1024 * 1024);
/// let config = Config::default().with_peer_quota(quota);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    per_second: Option<u64>,
    per_day: Option<u64>,
}

impl Quota {
    /// Sets the number of bytes a second, at least one. An item passes when the items before it are paid for. So within
    /// any period, a sender may exceed the rate by an eighth of a second's worth and one item.
    #[must_use]
    pub fn with_bytes_per_second(mut self, bytes: u64) -> Self {
        self.per_second = Some(bytes.max(1));
        self
    }

    /// Sets the number of bytes a day, at least one. A day begins at midnight in UTC. The item that reaches the number
    /// still passes whole.
    #[must_use]
    pub fn with_bytes_per_day(mut self, bytes: u64) -> Self {
        self.per_day = Some(bytes.max(1));
        self
    }

    fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

/// The quotas of a configuration.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QuotaSettings {
    pub(crate) peer: Quota,
    pub(crate) origin: Quota,
    pub(crate) tenant: Quota,
}

impl QuotaSettings {
    pub(crate) fn are_unlimited(&self) -> bool {
        self.peer.is_unlimited() && self.origin.is_unlimited() && self.tenant.is_unlimited()
    }
}

/// The kind of sender that a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Peer,
    Origin,
    Tenant,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "a peer",
            Self::Origin => "an address",
            Self::Tenant => "this rendezvous",
        })
    }
}

/// An error: a quota for the day is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) whose: Whose,
    /// The number of seconds until the day ends.
    pub(crate) after: u64,
}

/// The quotas of a server and the items that wait for them, as one of its tenants sees them.
#[derive(Debug)]
pub(crate) struct Quotas {
    tenant: Tenant,
    queue: Arc<Mutex<Queue>>,
}

impl Quotas {
    /// Creates the quotas of these settings; `None` if the settings have no bound.
    pub(super) fn new(settings: QuotaSettings) -> Option<Arc<Self>> {
        if settings.tenant.per_day.is_some() && settings.origin.per_day.is_none() {
            tracing::warn!(
                "one address may spend what all others may send in a day: it has no quota of its own"
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

impl Spent {
    fn new(whose: Whose, left: Duration) -> Self {
        let after = crate::protocol::refusal::whole_seconds(left);
        Self { whose, after }
    }
}
