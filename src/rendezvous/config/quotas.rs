//! How much may be sent.

use super::{Config, Limits};
use crate::{
    rendezvous::quota::{Quota, QuotaSettings},
    time,
};

impl Config {
    /// How much each peer may send, whichever of its ids it goes by and on however many links. Default: as much as there is
    /// room for.
    ///
    /// The bytes of items count, once, where they are sent; what else belongs to streams counts too, where it is much. What exceeds the bytes a second is not lost: the link is not read
    /// on, but for its heartbeat, its joins and its dials. When the bytes of the day are sent, dials from that peer and to
    /// it are refused, its streams end, and all who are concerned are told why and when to come again. Its link lives.
    ///
    /// What a peer has sent today is remembered when it leaves, for the 10,000 that have sent most. One that is forgotten, which
    /// has sent less than all of these, begins anew. Who has no proof of a key can be anybody, and so begin anew
    /// whenever it likes; so can whoever makes new keys. What they have in common is their address, see
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
    /// What an origin has sent today is remembered for the 10,000 that have sent most.
    #[must_use]
    pub fn with_origin_quota(mut self, quota: Quota) -> Self {
        self.quotas.origin = quota;
        self
    }

    /// The same for all peers of each [tenant](Self::with_tenants) together; without tenants that is everybody. Origins share it
    /// by their [weight](Self::with_origin_weight).
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
