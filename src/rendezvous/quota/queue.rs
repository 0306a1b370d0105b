//! Who waits for a quota, and whose turn it is. No IO, no clock.
//!
//! An item passes when the quotas of its peer, its origin and all together have room for it. Those that share a quota take
//! turns by the bytes that they have sent: peers within an origin, and origins by their weight. Each sender waits with one
//! item, and reads the next one only when that has passed; so whoever has its turn keeps it until it has come back
//! or has no more to send. Otherwise a sender of large items would get a turn for each small item of the others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use super::{
    Quota, QuotaSettings, Whose,
    buckets::Buckets,
    days::Days,
    order::{Order, Place},
};
use crate::rendezvous::{
    day::Day,
    fair::Fair,
    origin::{Claimant, Group, Origin},
    usage::Meter,
};

/// How much is done with the lock held.
const AT_ONCE: usize = 64;
/// How many peers are remembered that have nothing to send, and have had more than their share.
const MAX_IN_DEBT: usize = 16 * 1024;
/// How many of those are looked at whenever another comes to it.
const LOOKS: usize = 4;

pub(super) type Ticket = u64;
/// The number of a peer's meter.
type Peer = u64;

/// Who sends.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    claimant: Claimant,
    meter: Arc<Meter>,
}

impl Sender {
    pub(super) fn new(claimant: &Claimant, meter: Arc<Meter>) -> Self {
        Self {
            claimant: *claimant,
            meter,
        }
    }

    fn flow(&self) -> Flow {
        (self.claimant.origin, self.meter.number())
    }
}

/// A peer at an origin: it may have links at several.
type Flow = (Origin, Peer);

/// Who has a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Peer(Peer),
    Origin(Origin),
    Group(Group),
    Tenant,
}

/// Who is looked at again when a quota has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parked {
    Flow(Flow),
    Origin(Origin),
    Group(Group),
    Tenant,
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

/// The items of a peer.
#[derive(Debug, Default)]
struct Waiting {
    place: Place,
    items: VecDeque<Ticket>,
    /// How many have passed whose links may be about to send the next one.
    served: usize,
    /// Whether it is among those that have nothing and have had more than their share.
    is_in_debt: bool,
}

impl Waiting {
    /// Whether it has nothing, and is not about to have something.
    fn is_done(&self) -> bool {
        self.items.is_empty() && self.served == 0
    }
}

#[derive(Debug, Default)]
struct Peers {
    order: Order<Peer>,
    waiting: BTreeMap<Peer, Waiting>,
}

/// All who wait, and what they have sent.
#[derive(Debug)]
pub(super) struct Queue {
    settings: QuotaSettings,
    buckets: Buckets<Holder>,
    days: Days<Holder>,
    items: BTreeMap<Ticket, Item>,
    next: Ticket,
    /// Which of them wait.
    waiting: BTreeSet<Ticket>,
    origins: BTreeMap<Origin, Peers>,
    fair: Fair,
    parked: BTreeSet<(Instant, Parked)>,
    /// Groups that wait for one of theirs to come back with its next item.
    awaited: BTreeSet<Group>,
    in_debt: VecDeque<Flow>,
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
            origins: BTreeMap::new(),
            fair: Fair::default(),
            parked: BTreeSet::new(),
            awaited: BTreeSet::new(),
            in_debt: VecDeque::new(),
            keeper: None,
        }
    }

    /// An item of so many bytes waits from now on. Then [`run`](Self::run) is to be called.
    pub(super) fn enter(&mut self, sender: Sender, bytes: u64) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let (origin, peer) = sender.flow();
        self.fair.add(&sender.claimant);
        let peers = self.origins.entry(origin).or_default();
        let waiting = peers.waiting.entry(peer).or_default();
        waiting.items.push_back(ticket);
        let is_first = waiting.items.len() == 1;
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
        if is_first {
            self.make_ready((origin, peer));
        }
        self.has_come_back(origin);
        ticket
    }

    /// An item is gone: it waits no more, or its sender does not go on now. Then [`run`](Self::run) is to be called.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some(item) = self.items.remove(&ticket) else {
            return;
        };
        let (origin, peer) = item.sender.flow();
        if let Some(peers) = self.origins.get_mut(&origin)
            && let Some(waiting) = peers.waiting.get_mut(&peer)
        {
            if self.waiting.remove(&ticket) {
                waiting.items.retain(|other| *other != ticket);
            } else if item.passed == Some(Ok(())) {
                waiting.served = waiting.served.saturating_sub(1);
            }
        }
        self.make_ready((origin, peer));
        self.rest_if_done((origin, peer));
        self.has_come_back(origin);
        self.fair.remove(origin);
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
            is_spent(sent(Holder::Tenant), tenant.per_day, 1).then_some(Whose::Tenant)
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
        if self.park_closed(Holder::Tenant, Parked::Tenant, now) {
            return false;
        }
        let Some(origin) = self.fair.first() else {
            return false;
        };
        let group = origin.group();
        if self.park_closed(Holder::Group(group), Parked::Group(group), now) {
            self.fair.hold(group);
            return true;
        }
        if self.park_closed(Holder::Origin(origin), Parked::Origin(origin), now) {
            self.fair.rest(origin);
            return true;
        }
        let peers = self.origins.get(&origin);
        let Some(peer) = peers.and_then(|peers| peers.order.first()) else {
            self.fair.rest(origin);
            return true;
        };
        let waiting = peers.and_then(|peers| peers.waiting.get(&peer));
        let Some(ticket) = waiting.and_then(|waiting| waiting.items.front().copied()) else {
            return self.await_next(group);
        };
        if self.park_closed(Holder::Peer(peer), Parked::Flow((origin, peer)), now) {
            self.rest((origin, peer));
            return true;
        }
        self.pass(ticket, now, today, woken);
        true
    }

    /// Whether a quota has no room now. Then whoever waits for it is looked at again when it has.
    fn park_closed(&mut self, holder: Holder, parked: Parked, now: Instant) -> bool {
        let opens = self.buckets.opens(holder, now);
        self.parked.extend(opens.map(|at| (at, parked)));
        opens.is_some()
    }

    fn unpark(&mut self, parked: Parked) {
        match parked {
            Parked::Flow(flow) => self.make_ready(flow),
            Parked::Group(group) if !self.awaited.contains(&group) => self.fair.release(group),
            Parked::Origin(origin) => {
                let peers = self.origins.get(&origin);
                if peers.is_some_and(|peers| !peers.order.is_empty()) {
                    self.fair.want(origin);
                }
            }
            Parked::Group(_) | Parked::Tenant => {}
        }
    }

    /// The next turn is that of a peer whose link is about to come back with the next item. Whether others may have theirs.
    fn await_next(&mut self, group: Group) -> bool {
        if self.settings.tenant.per_second.is_some() {
            return false;
        }
        self.awaited.insert(group);
        self.fair.hold(group);
        true
    }

    /// One of those that an origin's group waits for has come back, or does not come now.
    fn has_come_back(&mut self, origin: Origin) {
        if self.awaited.remove(&origin.group()) {
            self.fair.release(origin.group());
        }
    }

    /// An item has its turn.
    fn pass(&mut self, ticket: Ticket, now: Instant, today: Day, woken: &mut Vec<Waker>) {
        let Some(item) = self.items.get(&ticket) else {
            return;
        };
        let (sender, bytes) = (item.sender.clone(), item.bytes);
        let spent = self.spent(&sender.claimant, Some(&sender.meter), today);
        let (origin, peer) = sender.flow();
        let is_shared = self.is_shared();
        if let Some(peers) = self.origins.get_mut(&origin)
            && let Some(waiting) = peers.waiting.get_mut(&peer)
        {
            waiting.items.pop_front();
            if spent.is_none() {
                waiting.served += usize::from(is_shared);
                peers.order.sent(peer, &mut waiting.place, bytes);
            }
        }
        if spent.is_none() {
            self.fair.charge(origin, bytes);
            self.charge(&sender.claimant, peer, bytes, now, today);
        }
        self.make_ready((origin, peer));
        self.rest_if_done((origin, peer));
        self.waiting.remove(&ticket);
        if let Some(item) = self.items.get_mut(&ticket) {
            item.passed = Some(spent.map_or(Ok(()), Err));
            woken.extend(item.waker.take());
        }
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
        }
    }

    fn charge(&mut self, claimant: &Claimant, peer: Peer, bytes: u64, now: Instant, today: Day) {
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
        let holders = [
            (Holder::Peer(peer), of_peer, 1),
            (Holder::Origin(origin), of_origin, claimant.weight),
            (group, of_group, claimant.group_limit),
            (Holder::Tenant, of_tenant, 1),
        ];
        for (holder, quota, weight) in holders {
            if let Some(rate) = quota.per_second {
                let rate = rate.saturating_mul(weight.into());
                self.buckets.charge(holder, bytes, rate, now);
            }
            // A peer's is counted with the peer.
            if quota.per_day.is_some() && holder != Holder::Peer(peer) {
                self.days.count(holder, bytes, today);
            }
        }
    }

    /// A peer may have something that may pass, or something else than before.
    fn make_ready(&mut self, (origin, peer): Flow) {
        let Some(peers) = self.origins.get_mut(&origin) else {
            return;
        };
        if let Some(waiting) = peers.waiting.get_mut(&peer)
            && !waiting.is_done()
        {
            let first = waiting
                .items
                .front()
                .and_then(|first| self.items.get(first));
            let bytes = first.map_or(0, |item| item.bytes);
            peers.order.enter(peer, &mut waiting.place, bytes);
            self.fair.want(origin);
        }
    }

    /// A peer has nothing that may pass.
    fn rest(&mut self, (origin, peer): Flow) {
        let Some(peers) = self.origins.get_mut(&origin) else {
            return;
        };
        if let Some(waiting) = peers.waiting.get_mut(&peer) {
            peers.order.leave(peer, &mut waiting.place);
        }
        if peers.order.is_empty() {
            self.fair.rest(origin);
        }
    }

    /// A peer that has nothing, and whose links are not about to go on, is forgotten when the others have had as much.
    fn rest_if_done(&mut self, flow: Flow) {
        if self
            .waiting_of(flow)
            .is_none_or(|waiting| !waiting.is_done())
        {
            return;
        }
        self.rest(flow);
        self.note_debt(flow);
        for _ in 0..LOOKS {
            let Some(oldest) = self.in_debt.pop_front() else {
                return;
            };
            if let Some(waiting) = self.waiting_of(oldest) {
                waiting.is_in_debt = false;
            }
            if self.has_debt(oldest) && self.in_debt.len() < MAX_IN_DEBT {
                self.note_debt(oldest);
            } else {
                self.forget(oldest);
            }
        }
    }

    fn waiting_of(&mut self, (origin, peer): Flow) -> Option<&mut Waiting> {
        self.origins.get_mut(&origin)?.waiting.get_mut(&peer)
    }

    fn note_debt(&mut self, flow: Flow) {
        if let Some(waiting) = self.waiting_of(flow)
            && !waiting.is_in_debt
        {
            waiting.is_in_debt = true;
            self.in_debt.push_back(flow);
        }
    }

    /// Whether a peer that has nothing would gain by being forgotten.
    fn has_debt(&self, (origin, peer): Flow) -> bool {
        let Some(peers) = self.origins.get(&origin) else {
            return false;
        };
        let waiting = peers.waiting.get(&peer);
        waiting.is_some_and(|waiting| waiting.is_done() && peers.order.has_debt(&waiting.place))
    }

    fn forget(&mut self, (origin, peer): Flow) {
        let Some(peers) = self.origins.get_mut(&origin) else {
            return;
        };
        if peers.waiting.get(&peer).is_some_and(Waiting::is_done) {
            peers.waiting.remove(&peer);
        }
        if peers.waiting.is_empty() {
            self.origins.remove(&origin);
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
