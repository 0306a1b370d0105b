//! The quotas that are configured, and what it means that one is spent.

use std::{fmt, time::Duration};

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

    pub(super) fn per_second(self) -> Option<u64> {
        self.per_second
    }

    pub(super) fn per_day(self) -> Option<u64> {
        self.per_day
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

impl Spent {
    pub(super) fn new(whose: Whose, left: Duration) -> Self {
        let after = crate::protocol::refusal::whole_seconds(left);
        Self { whose, after }
    }
}
