//! The settings of how much may be sent.

use super::{Config, Limits};
use crate::{
    rendezvous::quota::{Quota, QuotaSettings},
    time,
};

impl Config {
    /// Sets how much each peer may send in a tenant, under all its ids and on all its links together. By default there
    /// is no bound.
    ///
    /// The bytes of items count, once, where they are sent. Other bytes of streams (headers, accepts, ends) count each
    /// time that they add up to 16 KiB. Data beyond the bytes a second is not lost: the link is not read any further,
    /// except for its heartbeat. Joins and dials that have been read already are still handled. When the bytes of the
    /// day are spent, dials from that peer and to it are refused, and its streams end. All peers concerned are told why,
    /// and when to come again. The link of the peer stays open.
    ///
    /// What a peer has sent today is remembered when it leaves, for the 10,000 heaviest senders. A peer that is
    /// forgotten has sent less than all of these, and starts again from zero. Without
    /// [proof of keys](Self::with_challenge), each join is a peer of its own. A peer with a new key is also a new peer.
    /// What such peers have in common is their address, see [`with_origin_quota`](Self::with_origin_quota).
    #[must_use]
    pub fn with_peer_quota(mut self, quota: Quota) -> Self {
        self.quotas.peer = quota;
        self
    }

    /// Sets the same for all peers of an origin together, for each unit of its [weight](Self::with_origin_weight). They
    /// share it evenly by bytes, whatever the size of their items and the number of their links. An origin that sends
    /// in several tenants at one time has an equal part of its rate in each.
    ///
    /// What an origin has sent today is remembered for the 20,000 heaviest senders. When another origin sends
    /// something, it takes the place of the one that has sent least, and takes over the bytes of that one.
    #[must_use]
    pub fn with_origin_quota(mut self, quota: Quota) -> Self {
        self.quotas.origin = quota;
        self
    }

    /// Sets the same for all peers of each [tenant](Self::with_tenants) together; without tenants, for all peers.
    /// Origins share it by their [weight](Self::with_origin_weight).
    ///
    /// The quota of a day is not shared: the first senders may spend all of it, unless origins have a quota for the
    /// day, too.
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
    /// Sets the largest age of a link. It is shortened by up to a tenth, so that links that began at the same time do
    /// not all end at the same time. By default there is no largest age. A link is closed when what is queued for it is
    /// written, and the peer is told why. A peer that uses this crate comes back within half a second, but its
    /// connections end.
    #[must_use]
    pub fn with_link_age(mut self, age: std::time::Duration) -> Self {
        self.link_age = Some(time::timeout(age));
        self
    }
}
