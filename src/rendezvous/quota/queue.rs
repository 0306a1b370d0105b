//! Who waits for a quota, and whose turn it is. No IO, no clock.
//!
//! An item passes when the quotas of its peer, its origin and its tenant have room for it. Those that share a quota take
//! turns by the bytes that they have sent: peers within an origin, and origins by their weight within a tenant. Each sender waits with one
//! item, and reads the next one only when that has passed; so whoever has its turn keeps it until it has come back
//! or has no more to send. Otherwise a sender of large items would get a turn for each small item of the others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use super::{
    Quota, QuotaSettings, Whose,
    buckets::Buckets,
    days::Days,
    lane::{Flow, Lane, Peer},
};
use crate::rendezvous::{
    day::Day,
    origin::{Claimant, Group, Origin},
    usage::Meter,
};

pub(super) use super::lane::Ticket;

/// How much is done with the lock held.
const AT_ONCE: usize = 64;
/// How many peers are remembered that have nothing to send, and have had more than their share.
const MAX_IN_DEBT: usize = 16 * 1024;
/// How many of those are looked at whenever another comes to it.
const LOOKS: usize = 4;

/// The number of a tenant.
pub(super) type Tenant = usize;

/// Who sends.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    tenant: Tenant,
    claimant: Claimant,
    meter: Arc<Meter>,
}

impl Sender {
    pub(super) fn new(tenant: Tenant, claimant: &Claimant, meter: Arc<Meter>) -> Self {
        Self {
            tenant,
            claimant: *claimant,
            meter,
        }
    }

    fn flow(&self) -> Flow {
        (self.claimant.origin, self.meter.number())
    }
}

/// Who has a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Peer(Peer),
    Origin(Origin),
    Group(Group),
    Tenant(Tenant),
}

/// A quota as a tenant sees it: what an origin may send in a second is shared by the tenants where it has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Tenant, Holder);

/// In which tenants somebody has items, and how many.
#[derive(Debug)]
struct Places<K>(BTreeMap<(K, Tenant), usize>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Places<K> {
    fn enter(&mut self, who: K, tenant: Tenant) {
        *self.0.entry((who, tenant)).or_default() += 1;
    }

    fn leave(&mut self, who: K, tenant: Tenant) {
        if let Entry::Occupied(mut items) = self.0.entry((who, tenant)) {
            match *items.get() {
                0 | 1 => {
                    items.remove();
                }
                more => {
                    items.insert(more - 1);
                }
            }
        }
    }

    /// In how many tenants; at least one.
    fn count(&self, who: K) -> u64 {
        let all = self.0.range((who, 0)..=(who, Tenant::MAX));
        (all.count() as u64).max(1)
    }
}

/// Who is looked at again when a quota has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parked {
    Flow(Tenant, Flow),
    Origin(Tenant, Origin),
    Group(Tenant, Group),
    Tenant(Tenant),
}

/// What has become of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It may pass, or not today.
    Passed(Result<(), Whose>),
    /// It waits. Then it may have the timer: when it is to look again.
    Waits(Option<Instant>),
}

#[derive(Debug)]
struct Item {
    sender: Sender,
    bytes: u64,
    waker: Option<Waker>,
    passed: Option<Result<(), Whose>>,
}

/// All who wait, and what they have sent.
#[derive(Debug)]
pub(super) struct Queue {
    settings: QuotaSettings,
    buckets: Buckets<Key>,
    days: Days<Holder>,
    items: BTreeMap<Ticket, Item>,
    next: Ticket,
    /// Which of them wait.
    waiting: BTreeSet<Ticket>,
    lanes: BTreeMap<Tenant, Lane>,
    /// The lanes that may have something to do, and the one that was looked at last.
    open: BTreeSet<Tenant>,
    last: Tenant,
    /// In which tenants each origin and each group has items, and how many.
    of_origin: Places<Origin>,
    of_group: Places<Group>,
    parked: BTreeSet<(Instant, Parked)>,
    in_debt: VecDeque<(Tenant, Flow)>,
    /// Who has the timer, and for when it is set.
    keeper: Option<(Ticket, Option<Instant>)>,
}

impl Queue {
    pub(super) fn new(settings: QuotaSettings) -> Self {
        Self {
            settings,
            buckets: Buckets::default(),
            days: Days::default(),
            items: BTreeMap::new(),
            next: 0,
            waiting: BTreeSet::new(),
            lanes: BTreeMap::new(),
            open: BTreeSet::new(),
            last: 0,
            of_origin: Places::default(),
            of_group: Places::default(),
            parked: BTreeSet::new(),
            in_debt: VecDeque::new(),
            keeper: None,
        }
    }

    /// An item of so many bytes waits from now on. Then [`run`](Self::run) is to be called.
    pub(super) fn enter(&mut self, sender: Sender, bytes: u64) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let lane = self.lanes.entry(sender.tenant).or_default();
        lane.enter(&sender.claimant, sender.meter.number(), ticket, bytes);
        self.open.insert(sender.tenant);
        let origin = sender.claimant.origin;
        self.of_origin.enter(origin, sender.tenant);
        self.of_group.enter(origin.group(), sender.tenant);
        self.items.insert(
            ticket,
            Item {
                sender,
                bytes,
                waker: None,
                passed: None,
            },
        );
        self.waiting.insert(ticket);
        ticket
    }

    /// An item is gone: it waits no more, or its sender does not go on now. Then [`run`](Self::run) is to be called.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some(item) = self.items.remove(&ticket) else {
            return;
        };
        let (tenant, flow) = (item.sender.tenant, item.sender.flow());
        let has_waited = self.waiting.remove(&ticket);
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            match item.passed {
                _ if has_waited => lane.drop_item(flow, ticket),
                Some(Ok(())) => lane.end_turn(flow),
                _ => lane.go_on(flow),
            }
        }
        self.open.insert(tenant);
        self.of_origin.leave(flow.0, tenant);
        self.of_group.leave(flow.0.group(), tenant);
        self.rest_if_done(tenant, flow);
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
        }
    }

    /// Lets pass what may pass now; if that is very much, some of it. Whether there is more.
    pub(super) fn run(&mut self, now: Instant, today: Day, woken: &mut Vec<Waker>) -> bool {
        let has_more = (0..AT_ONCE).all(|_| self.step(now, today, woken));
        self.keep_time(woken);
        has_more
    }

    /// What has become of an item. If it waits, it is woken when that is over, or when it is to take over the timer.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &Waker, woken: &mut Vec<Waker>) -> Taken {
        let Some(item) = self.items.get_mut(&ticket) else {
            return Taken::Waits(None);
        };
        if let Some(passed) = item.passed {
            return Taken::Passed(passed);
        }
        match &mut item.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let look = self.parked.first().map(|(at, _)| *at);
        let has_timer = self.keeper.is_none_or(|(keeper, _)| keeper == ticket);
        if has_timer {
            self.keeper = Some((ticket, look));
        }
        self.keep_time(woken);
        Taken::Waits(look.filter(|_| has_timer))
    }

    /// Whose quota for the day is spent, if any that counts for a peer there.
    pub(super) fn spent(
        &self,
        claimant: &Claimant,
        meter: Option<&Arc<Meter>>,
        of: Tenant,
        today: Day,
    ) -> Option<Whose> {
        let QuotaSettings {
            peer,
            origin,
            tenant,
        } = self.settings;
        let is_spent = |sent: u64, quota: Option<u64>, weight: u32| {
            quota.is_some_and(|quota| sent >= quota.saturating_mul(weight.into()))
        };
        let sent = |holder| self.days.sent(holder, today);
        let group = claimant.origin.group();
        let by_peer = meter.map_or(0, |meter| meter.sent_on(today));
        if is_spent(by_peer, peer.per_day, 1) {
            Some(Whose::Peer)
        } else if is_spent(
            sent(Holder::Origin(claimant.origin)),
            origin.per_day,
            claimant.weight,
        ) || is_spent(
            sent(Holder::Group(group)),
            origin.per_day,
            claimant.group_limit,
        ) {
            Some(Whose::Origin)
        } else {
            is_spent(sent(Holder::Tenant(of)), tenant.per_day, 1).then_some(Whose::Tenant)
        }
    }

    /// Whether others wait for what an origin sends.
    fn is_shared(&self) -> bool {
        self.settings.tenant.per_second.is_some() || self.settings.origin.per_second.is_some()
    }

    /// Does the next thing there is to do; whether there was any.
    fn step(&mut self, now: Instant, today: Day, woken: &mut Vec<Waker>) -> bool {
        if let Some((at, parked)) = self.parked.first().copied()
            && at <= now
        {
            self.parked.pop_first();
            self.unpark(parked);
            return true;
        }
        // Tenants take turns.
        let behind = self.open.range(self.last + 1..).next();
        let Some(tenant) = behind.or(self.open.first()).copied() else {
            return false;
        };
        self.last = tenant;
        let whole = Key(tenant, Holder::Tenant(tenant));
        if self.park_closed(whole, Parked::Tenant(tenant), now)
            || !self.step_in(tenant, now, today, woken)
        {
            self.open.remove(&tenant);
        }
        true
    }

    /// The same in a tenant.
    fn step_in(
        &mut self,
        tenant: Tenant,
        now: Instant,
        today: Day,
        woken: &mut Vec<Waker>,
    ) -> bool {
        let lane = self.lanes.get(&tenant);
        let Some(origin) = lane.and_then(Lane::first_origin) else {
            return false;
        };
        let group = origin.group();
        let peer = lane.and_then(|lane| lane.first_peer(origin));
        let flow = peer.map(|peer| (origin, peer));
        let ticket = flow.and_then(|flow| lane?.first_item(flow));
        let of_group = Parked::Group(tenant, group);
        let of_origin = Parked::Origin(tenant, origin);
        let is_group_closed = self.park_closed(Key(tenant, Holder::Group(group)), of_group, now);
        let is_closed = is_group_closed
            || self.park_closed(Key(tenant, Holder::Origin(origin)), of_origin, now)
            || flow.is_none();
        let parked = flow.filter(|_| ticket.is_some() && !is_closed);
        let parked = parked.filter(|(_, peer)| {
            let parked = Parked::Flow(tenant, (origin, *peer));
            self.park_closed(Key(tenant, Holder::Peer(*peer)), parked, now)
        });
        let waits_for_all = self.settings.tenant.per_second.is_some();
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return false;
        };
        match (flow, ticket) {
            _ if is_group_closed => lane.hold(group),
            _ if is_closed => lane.rest_origin(origin),
            (Some(flow), Some(_)) if parked.is_some() => lane.rest(flow),
            (Some(_), Some(ticket)) => self.pass(ticket, now, today, woken),
            // The next turn is that of a peer whose link is about to come back with the next item.
            _ if waits_for_all => return false,
            _ => lane.await_next(group),
        }
        true
    }

    /// Whether a quota has no room now. Then whoever waits for it is looked at again when it has.
    fn park_closed(&mut self, key: Key, parked: Parked, now: Instant) -> bool {
        let opens = self.buckets.opens(key, now);
        self.parked.extend(opens.map(|at| (at, parked)));
        opens.is_some()
    }

    fn unpark(&mut self, parked: Parked) {
        let (Parked::Flow(tenant, _)
        | Parked::Origin(tenant, _)
        | Parked::Group(tenant, _)
        | Parked::Tenant(tenant)) = parked;
        self.open.insert(tenant);
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        match parked {
            Parked::Flow(_, flow) => lane.make_ready(flow),
            Parked::Origin(_, origin) => lane.wake_origin(origin),
            Parked::Group(_, group) => lane.release(group),
            Parked::Tenant(_) => {}
        }
    }

    /// An item has its turn.
    fn pass(&mut self, ticket: Ticket, now: Instant, today: Day, woken: &mut Vec<Waker>) {
        let Some(item) = self.items.get(&ticket) else {
            return;
        };
        let (sender, bytes) = (item.sender.clone(), item.bytes);
        let Sender {
            tenant,
            claimant,
            meter,
        } = &sender;
        let spent = self.spent(claimant, Some(meter), *tenant, today);
        let (flow, is_shared) = (sender.flow(), self.is_shared());
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.take_first(flow, spent.is_none(), is_shared);
        }
        if spent.is_none() {
            self.charge(&sender, bytes, now, today);
        }
        self.rest_if_done(*tenant, flow);
        self.waiting.remove(&ticket);
        if let Some(item) = self.items.get_mut(&ticket) {
            item.passed = Some(spent.map_or(Ok(()), Err));
            woken.extend(item.waker.take());
        }
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
        }
    }

    fn charge(&mut self, sender: &Sender, bytes: u64, now: Instant, today: Day) {
        let (claimant, peer) = (&sender.claimant, sender.meter.number());
        let origin = claimant.origin;
        let group = Holder::Group(origin.group());
        let QuotaSettings {
            peer: of_peer,
            origin: of_origin,
            tenant: of_tenant,
        } = self.settings;
        // An IPv4 address is its own group.
        let of_group = match origin {
            Origin::V4(_) => Quota::default(),
            Origin::V6(_) => of_origin,
        };
        let (of_origins, of_groups) = (
            self.of_origin.count(origin),
            self.of_group.count(origin.group()),
        );
        let holders = [
            (Holder::Peer(peer), of_peer, 1, 1),
            (
                Holder::Origin(origin),
                of_origin,
                claimant.weight,
                of_origins,
            ),
            (group, of_group, claimant.group_limit, of_groups),
            (Holder::Tenant(sender.tenant), of_tenant, 1, 1),
        ];
        for (holder, quota, weight, places) in holders {
            if let Some(rate) = quota.per_second {
                let rate = rate.saturating_mul(weight.into()) / places;
                let key = Key(sender.tenant, holder);
                self.buckets.charge(key, bytes, rate.max(1), now);
            }
            // A peer's is counted with the peer.
            if quota.per_day.is_some() && holder != Holder::Peer(peer) {
                self.days.count(holder, bytes, today);
            }
        }
    }

    /// A peer that has nothing, and whose links are not about to go on, is forgotten when the others have had as much.
    fn rest_if_done(&mut self, tenant: Tenant, flow: Flow) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if !lane.is_done(flow) {
            return;
        }
        lane.rest(flow);
        if lane.note_debt(flow) {
            self.in_debt.push_back((tenant, flow));
        }
        for _ in 0..LOOKS {
            let Some((tenant, oldest)) = self.in_debt.pop_front() else {
                return;
            };
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                continue;
            };
            lane.end_debt(oldest);
            if !lane.has_debt(oldest) || self.in_debt.len() >= MAX_IN_DEBT {
                lane.forget(oldest);
            } else if lane.note_debt(oldest) {
                self.in_debt.push_back((tenant, oldest));
            }
        }
    }

    /// Somebody who waits has the timer, and it is set for what comes first.
    fn keep_time(&mut self, woken: &mut Vec<Waker>) {
        let Some((first, _)) = self.parked.first().copied() else {
            return;
        };
        let keeper = match self.keeper {
            Some((_, Some(set))) if set <= first => return,
            Some((keeper, _)) => keeper,
            None => match self.waiting.first() {
                Some(keeper) => *keeper,
                None => return,
            },
        };
        // It is woken once, and sets the timer then.
        self.keeper = Some((keeper, Some(first)));
        let item = self.items.get_mut(&keeper);
        woken.extend(item.and_then(|item| item.waker.take()));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
