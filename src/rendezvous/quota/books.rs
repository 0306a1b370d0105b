//! What each peer, origin, group and tenant has sent lately and today. Does no IO and reads no clock.

use std::{sync::Arc, time::Instant};

use super::{
    buckets::Buckets,
    days::Days,
    lane::Peer,
    sender::{Sender, Tenant},
    settings::{Quota, QuotaSettings, Whose},
};
use crate::rendezvous::{
    day::Day,
    origin::{Claimant, Group, Origin},
    usage::Meter,
};

#[derive(Debug)]
pub(super) struct Books {
    settings: QuotaSettings,
    peers: Buckets<Peer>,
    /// Origins, counted over all tenants together.
    origins: Buckets<Origin>,
    groups: Buckets<Group>,
    /// The part of an origin's rate in one tenant, while the origin has items waiting in other tenants, too.
    parts: Buckets<(Tenant, Origin)>,
    tenants: Buckets<Tenant>,
    origin_days: Days<Origin>,
    group_days: Days<Group>,
    tenant_days: Days<Tenant>,
}

impl Books {
    pub(super) fn new(settings: QuotaSettings) -> Self {
        Self {
            settings,
            peers: Buckets::default(),
            origins: Buckets::default(),
            groups: Buckets::default(),
            parts: Buckets::default(),
            tenants: Buckets::default(),
            origin_days: Days::default(),
            group_days: Days::default(),
            tenant_days: Days::default(),
        }
    }

    /// Returns when a peer may send again, or `None` if it may now. The same holds for origins, groups and tenants
    /// below.
    pub(super) fn peer_opens(&self, peer: Peer, now: Instant) -> Option<Instant> {
        self.peers.opens(peer, now)
    }

    /// Returns until when a peer is paying for what it has sent, if that is remembered.
    pub(super) fn peer_pays_until(&self, peer: Peer) -> Option<Instant> {
        self.peers.until(peer)
    }

    pub(super) fn origin_opens(
        &self,
        tenant: Tenant,
        origin: Origin,
        now: Instant,
    ) -> Option<Instant> {
        let whole = self.origins.opens(origin, now);
        whole.max(self.parts.opens((tenant, origin), now))
    }

    pub(super) fn group_opens(&self, group: Group, now: Instant) -> Option<Instant> {
        self.groups.opens(group, now)
    }

    pub(super) fn tenant_opens(&self, tenant: Tenant, now: Instant) -> Option<Instant> {
        self.tenants.opens(tenant, now)
    }

    /// Returns whether the peers of an origin wait for each other, because they share a rate.
    pub(super) fn is_shared(&self) -> bool {
        self.is_by_tenant() || self.settings.origin.per_second().is_some()
    }

    /// Returns whether the origins of a tenant wait for each other, because they share a rate.
    pub(super) fn is_by_tenant(&self) -> bool {
        self.settings.tenant.per_second().is_some()
    }

    /// Charges a sender for `bytes` bytes. `others` is the number of other tenants in which its origin waits with
    /// items, too.
    pub(super) fn charge(
        &mut self,
        sender: &Sender,
        bytes: u64,
        others: u64,
        now: Instant,
        today: Day,
    ) {
        let (tenant, claimant) = (sender.tenant(), sender.claimant());
        let origin = claimant.origin;
        if let Some(rate) = self.settings.peer.per_second() {
            self.peers.charge(sender.peer(), bytes, rate, now);
        }
        let of_origin = self.settings.origin;
        if let Some(rate) = of_origin.per_second() {
            let rate = rate.saturating_mul(claimant.weight.into());
            self.origins.charge(origin, bytes, rate, now);
            if others > 0 {
                let part = (rate / (others + 1)).max(1);
                self.parts.charge((tenant, origin), bytes, part, now);
            }
        }
        if of_origin.per_day().is_some() {
            self.origin_days.count(origin, bytes, today);
        }
        // An IPv4 address is its own group, so its bytes are counted already.
        if let Origin::V6(_) = origin {
            let group = origin.group();
            if let Some(rate) = of_origin.per_second() {
                let rate = rate.saturating_mul(claimant.group_limit.into());
                self.groups.charge(group, bytes, rate, now);
            }
            if of_origin.per_day().is_some() {
                self.group_days.count(group, bytes, today);
            }
        }
        let of_tenant = self.settings.tenant;
        if let Some(rate) = of_tenant.per_second() {
            self.tenants.charge(tenant, bytes, rate, now);
        }
        // A peer's bytes of the day are counted by its meter.
        if of_tenant.per_day().is_some() {
            self.tenant_days.count(tenant, bytes, today);
        }
    }

    /// Returns whose daily quota is spent, of those that apply to this peer in this tenant.
    pub(super) fn spent(
        &self,
        claimant: &Claimant,
        meter: Option<&Arc<Meter>>,
        tenant: Tenant,
        today: Day,
    ) -> Option<Whose> {
        let of_origin = self.settings.origin;
        let is_spent = |quota: Quota, weight: u32, sent: &dyn Fn() -> u64| {
            let most = quota
                .per_day()
                .map(|most| most.saturating_mul(weight.into()));
            most.is_some_and(|most| sent() >= most)
        };
        let (origin, group) = (claimant.origin, claimant.origin.group());
        let by_peer = || meter.map_or(0, |meter| meter.sent_on(today));
        let by_origin = || self.origin_days.sent(origin, today);
        let by_group = || self.group_days.sent(group, today);
        let by_tenant = || self.tenant_days.sent(tenant, today);
        if is_spent(self.settings.peer, 1, &by_peer) {
            Some(Whose::Peer)
        } else if is_spent(of_origin, claimant.weight, &by_origin)
            || is_spent(of_origin, claimant.group_limit, &by_group)
        {
            Some(Whose::Origin)
        } else {
            is_spent(self.settings.tenant, 1, &by_tenant).then_some(Whose::Tenant)
        }
    }
}
