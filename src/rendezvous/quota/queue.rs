//! The items that wait for a quota, and whose turn it is. Does no IO and reads no clock.
//!
//! An item passes when the quotas of its peer, its origin and its tenant have room for it. Those that share a quota
//! take turns by the bytes that they have sent: the peers within an origin, and the origins within a tenant by their
//! weight. Each sender waits with one item, and reads the next one only when that has passed. So a sender keeps its
//! turn until it has come back with the next item or has no more to send. Otherwise a sender of large items would get a
//! turn for each small item of the others.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use super::{
    books::Books,
    lane::{Flow, Lane},
    sender::{Sender, Tenant},
    settings::{QuotaSettings, Whose},
};
use crate::rendezvous::{
    day::Day,
    origin::{Claimant, Group, Origin},
    usage::Meter,
};

pub(super) use super::lane::Ticket;

/// The number of steps that are done while the lock is held.
const AT_ONCE: usize = 64;
/// The number of remembered peers that have nothing to send and have had more than their share.
const MAX_IN_DEBT: usize = 16 * 1024;
/// The number of those that are checked each time a peer runs out of items.
const LOOKS: usize = 4;

/// The number of items of each origin in each tenant.
#[derive(Debug, Default)]
struct Places(BTreeMap<(Origin, Tenant), usize>);

impl Places {
    fn enter(&mut self, origin: Origin, tenant: Tenant) {
        *self.0.entry((origin, tenant)).or_default() += 1;
    }

    fn leave(&mut self, origin: Origin, tenant: Tenant) {
        if let Entry::Occupied(mut items) = self.0.entry((origin, tenant)) {
            *items.get_mut() -= 1;
            if *items.get() == 0 {
                items.remove();
            }
        }
    }

    /// Returns the tenants in which an origin has items.
    fn of(&self, origin: Origin) -> impl Iterator<Item = Tenant> {
        let all = self.0.range((origin, 0)..=(origin, Tenant::MAX));
        all.map(|((_, tenant), _)| *tenant)
    }
}

/// A waiter that is looked at again when its quota has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Parked {
    Flow(Tenant, Flow),
    Origin(Tenant, Origin),
    Group(Tenant, Group),
    Tenant(Tenant),
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The item may pass, or may not pass today.
    Passed(Result<(), Whose>),
    /// The item waits. If there is a time, the item has the timer and has to poll again then.
    Waits(Option<Instant>),
}

#[derive(Debug)]
struct Item {
    sender: Sender,
    bytes: u64,
    waker: Option<Waker>,
    passed: Option<Result<(), Whose>>,
    /// Whether the item was put into a lane.
    has_waited: bool,
}

/// The waiting items of all senders, and what the senders have sent.
#[derive(Debug)]
pub(super) struct Queue {
    books: Books,
    items: BTreeMap<Ticket, Item>,
    next: Ticket,
    /// The tickets of the items that wait.
    waiting: BTreeSet<Ticket>,
    lanes: BTreeMap<Tenant, Lane>,
    /// The lanes that may have something to do.
    open: BTreeSet<Tenant>,
    /// The lane that had its turn last.
    last: Tenant,
    places: Places,
    parked: BTreeSet<(Instant, Parked)>,
    in_debt: VecDeque<(Tenant, Flow)>,
    /// The ticket that has the timer, and the time for which the timer is set.
    keeper: Option<(Ticket, Option<Instant>)>,
}

impl Queue {
    pub(super) fn new(settings: QuotaSettings) -> Self {
        Self {
            books: Books::new(settings),
            items: BTreeMap::new(),
            next: 0,
            waiting: BTreeSet::new(),
            lanes: BTreeMap::new(),
            open: BTreeSet::new(),
            last: 0,
            places: Places::default(),
            parked: BTreeSet::new(),
            in_debt: VecDeque::new(),
            keeper: None,
        }
    }

    /// Adds an item of `bytes` bytes, which waits from now on unless a daily quota is spent. [`run`](Self::run) must be
    /// called next.
    pub(super) fn enter(&mut self, sender: Sender, bytes: u64, today: Day) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let tenant = sender.tenant();
        let spent = self.spent(sender.claimant(), Some(sender.meter()), tenant, today);
        if spent.is_none() {
            let lane = self.lanes.entry(tenant).or_default();
            lane.enter(sender.claimant(), sender.peer(), ticket, bytes);
            self.open.insert(tenant);
            self.places.enter(sender.claimant().origin, tenant);
            self.waiting.insert(ticket);
        }
        let item = Item {
            sender,
            bytes,
            waker: None,
            passed: spent.map(Err),
            has_waited: spent.is_none(),
        };
        self.items.insert(ticket, item);
        ticket
    }

    /// Removes an item that waits no more, or whose sender does not go on now. [`run`](Self::run) must be called next.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let Some(item) = self.items.remove(&ticket).filter(|item| item.has_waited) else {
            return;
        };
        let (tenant, flow) = (item.sender.tenant(), item.sender.flow());
        let waits = self.waiting.remove(&ticket);
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            match item.passed {
                _ if waits => lane.drop_item(flow, ticket),
                Some(Ok(())) => lane.end_turn(flow),
                _ => lane.forget_item(flow),
            }
        }
        self.open.insert(tenant);
        self.places.leave(flow.0, tenant);
        self.rest_if_done(tenant, flow);
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
        }
    }

    /// Lets pass what may pass now, or some of it if that is very much. Returns whether there is more.
    pub(super) fn run(&mut self, now: Instant, today: Day, woken: &mut Vec<Waker>) -> bool {
        let has_more = (0..AT_ONCE).all(|_| self.step(now, today, woken));
        self.keep_time(woken);
        has_more
    }

    /// Returns the state of an item. If it waits, it is woken when the wait is over, or when it has to take over the
    /// timer.
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

    /// Returns whose daily quota is spent, of those that apply to this peer in this tenant.
    pub(super) fn spent(
        &self,
        claimant: &Claimant,
        meter: Option<&Arc<Meter>>,
        of: Tenant,
        today: Day,
    ) -> Option<Whose> {
        self.books.spent(claimant, meter, of, today)
    }

    /// Does the next step, if there is one; returns whether there was one.
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
        let opens = self.books.tenant_opens(tenant, now);
        if self.park(opens, Parked::Tenant(tenant)) || !self.step_in(tenant, now, today, woken) {
            self.open.remove(&tenant);
        }
        true
    }

    /// Does the next step in one tenant, if there is one; returns whether there was one.
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
        let opens = self.books.group_opens(group, now);
        let is_group_closed = self.park(opens, Parked::Group(tenant, group));
        let opens = self.books.origin_opens(tenant, origin, now);
        let is_closed =
            is_group_closed || self.park(opens, Parked::Origin(tenant, origin)) || flow.is_none();
        let parked = flow.filter(|_| ticket.is_some() && !is_closed);
        let parked = parked.filter(|flow| {
            let opens = self.books.peer_opens(flow.1, now);
            self.park(opens, Parked::Flow(tenant, *flow))
        });
        let waits_for_all = self.books.is_by_tenant();
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return false;
        };
        match (flow, ticket) {
            _ if is_group_closed => lane.hold(group),
            _ if is_closed => lane.rest_origin(origin),
            (Some(flow), Some(_)) if parked.is_some() => lane.rest(flow),
            (Some(_), Some(ticket)) => self.pass(ticket, now, today, woken),
            // The next turn belongs to a peer whose link is about to come back with its next item, so all origins wait.
            _ if waits_for_all => return false,
            _ => lane.await_next(group),
        }
        true
    }

    /// Parks a waiter if its quota has no room before `opens`; the waiter is looked at again then. Returns whether it
    /// is parked.
    fn park(&mut self, opens: Option<Instant>, parked: Parked) -> bool {
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

    /// Gives an item its turn: it passes, unless a daily quota is spent.
    fn pass(&mut self, ticket: Ticket, now: Instant, today: Day, woken: &mut Vec<Waker>) {
        let Some(item) = self.items.get(&ticket) else {
            return;
        };
        let (sender, bytes) = (item.sender.clone(), item.bytes);
        let tenant = sender.tenant();
        let spent = self.spent(sender.claimant(), Some(sender.meter()), tenant, today);
        let (flow, is_shared) = (sender.flow(), self.books.is_shared());
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            lane.take_first(flow, spent.is_none(), is_shared);
        }
        if spent.is_none() {
            let others = self.others(flow.0, tenant);
            self.books.charge(&sender, bytes, others, now, today);
        }
        self.rest_if_done(tenant, flow);
        self.waiting.remove(&ticket);
        if let Some(item) = self.items.get_mut(&ticket) {
            item.passed = Some(spent.map_or(Ok(()), Err));
            woken.extend(item.waker.take());
        }
        if self.keeper.is_some_and(|(keeper, _)| keeper == ticket) {
            self.keeper = None;
        }
    }

    /// Returns in how many other tenants an origin has something that waits for its turn.
    fn others(&self, origin: Origin, tenant: Tenant) -> u64 {
        let others = self.places.of(origin).filter(|other| *other != tenant);
        let wants = |other: &Tenant| {
            let lane = self.lanes.get(other);
            lane.is_some_and(|lane| lane.wants(origin))
        };
        others.filter(wants).count() as u64
    }

    /// Takes a peer out of the order if it has no items and its links are not about to go on. The peer is forgotten
    /// when the others have had as much.
    fn rest_if_done(&mut self, tenant: Tenant, flow: Flow) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if !lane.is_done(flow) {
            return;
        }
        lane.rest(flow);
        // The peer may be parked for its own quota.
        if let Some(at) = self.books.peer_pays_until(flow.1) {
            self.parked.remove(&(at, Parked::Flow(tenant, flow)));
        }
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

    /// Makes sure that a waiting item has the timer, and that the timer is set for the first parked waiter.
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
        // The keeper is woken once, and sets the timer when it polls.
        self.keeper = Some((keeper, Some(first)));
        let item = self.items.get_mut(&keeper);
        woken.extend(item.and_then(|item| item.waker.take()));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
