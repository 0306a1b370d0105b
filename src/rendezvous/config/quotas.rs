//! How much may be sent.

use super::{Config, Limits};
use crate::{
    rendezvous::quota::{Quota, QuotaSettings},
    time,
};

impl Config {
    /// How much each peer may send in a tenant, whichever of its ids it goes by and on however many links. Default: as much as
    /// there is room for.
    ///
    /// The bytes of items count, once, where they are sent. What is said beside them counts each time that it adds up to 16 KiB.
    /// What exceeds the bytes a second is not lost: the link is not read on, but for its heartbeat, and for joins and
    /// dials that have been read. When the bytes of the day are sent, dials from that peer and to
    /// it are refused, its streams end, and all who are concerned are told why and when to come again. Its link lives.
    ///
    /// What a peer has sent today is remembered when it leaves, for the 10,000 that have sent most. One that is forgotten, which
    /// has sent less than all of these, begins anew. Without [proof of keys](Self::with_challenge), each join is a peer of its
    /// own. Whoever makes new keys is a new peer, too. What they have in common is their address, see
    /// [`with_origin_quota`](Self::with_origin_quota).
    #[must_use]
    pub fn with_peer_quota(mut self, quota: Quota) -> Self {
        self.quotas.peer = quota;
        self
    }

    /// The same for all peers of an origin together, for each unit of its [weight](Self::with_origin_weight). They share it
    /// evenly by bytes, whatever the size of their items and the number of their links. An origin that sends in several tenants at
    /// one time has an equal part of its rate in each.
    ///
    /// What an origin has sent today is remembered for the 20,000 that have sent most. One that is not among them, and sends
    /// something, takes over what the least of them has sent.
    #[must_use]
    pub fn with_origin_quota(mut self, quota: Quota) -> Self {
        self.quotas.origin = quota;
        self
    }

    /// The same for all peers of each [tenant](Self::with_tenants) together; without tenants that is everybody. Origins share it
    /// by their [weight](Self::with_origin_weight).
    ///
    /// What may be sent in a day is no share: whoever comes first may spend it, unless origins have a quota for the day, too.
    #[must_use]
    pub fn with_tenant_quota(mut self, quota: Quota) -> Self {
        self.quotas.tenant = quota;
        self
    }

    pub(crate) fn quotas(&self) -> QuotaSettings {
        self.quotas
    }
}

impl Limits {
    /// How old a link may become, less up to a tenth of that, so that those that began at the same time do not all end at the
    /// same time. Default: as old as it likes. It is closed when what is queued for it is written, and tells why. A node of this
    /// crate comes back within half a second. Its connections end.
    #[must_use]
    pub fn with_link_age(mut self, age: std::time::Duration) -> Self {
        self.link_age = Some(time::timeout(age));
        self
    }
}
