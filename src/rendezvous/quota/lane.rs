//! The items that wait in one tenant, and whose turn it is there. Does no IO and reads no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::order::{Order, Place};
use crate::rendezvous::{
    fair::Fair,
    origin::{Claimant, Group, Origin},
};

/// The least cost of an item in turns, in bytes. Without it, a sender of single bytes would get almost all turns.
const LEAST_COST: u64 = 1024;

pub(super) type Ticket = u64;
/// The number of a peer's meter.
pub(super) type Peer = u64;
/// A peer at one origin. A peer may have links from several origins.
pub(super) type Flow = (Origin, Peer);

/// The items of a peer.
#[derive(Debug, Default)]
struct Waiting {
    place: Place,
    /// The waiting items, with the cost of each in bytes.
    items: VecDeque<(Ticket, u64)>,
    /// The number of items that have passed and whose links may be about to send the next one.
    served: usize,
    /// Whether the peer is listed as in debt: it has no items, and has had more than its share.
    is_in_debt: bool,
}

impl Waiting {
    /// Returns whether the peer has no items and is not about to send one.
    fn is_done(&self) -> bool {
        self.items.is_empty() && self.served == 0
    }
}

#[derive(Debug, Default)]
struct Peers {
    order: Order<Peer>,
    waiting: BTreeMap<Peer, Waiting>,
}

/// The items of a tenant.
#[derive(Debug, Default)]
pub(super) struct Lane {
    origins: BTreeMap<Origin, Peers>,
    fair: Fair,
    /// Groups that wait for one of their peers to come back with its next item.
    awaited: BTreeSet<Group>,
}

impl Lane {
    /// Adds an item of `bytes` bytes.
    pub(super) fn enter(&mut self, claimant: &Claimant, peer: Peer, ticket: Ticket, bytes: u64) {
        let origin = claimant.origin;
        self.fair.add(claimant);
        let peers = self.origins.entry(origin).or_default();
        let waiting = peers.waiting.entry(peer).or_default();
        waiting.items.push_back((ticket, bytes.max(LEAST_COST)));
        if waiting.items.len() == 1 {
            self.make_ready((origin, peer));
        }
        self.has_come_back(origin);
    }

    /// Removes an item that was still waiting.
    pub(super) fn drop_item(&mut self, flow: Flow, ticket: Ticket) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.items.retain(|(other, _)| *other != ticket);
        }
        self.forget_item(flow);
    }

    /// Ends the turn of an item that has passed: its link has come back, or does not come back now.
    pub(super) fn end_turn(&mut self, flow: Flow) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.served = waiting.served.saturating_sub(1);
        }
        self.forget_item(flow);
    }

    /// Forgets an item, and lets its peer and its group go on.
    pub(super) fn forget_item(&mut self, flow: Flow) {
        let (origin, _) = flow;
        self.make_ready(flow);
        self.has_come_back(origin);
        self.fair.remove(origin);
    }

    /// Returns whether something of an origin waits for its turn.
    pub(super) fn wants(&self, origin: Origin) -> bool {
        self.fair.wants(origin)
    }

    /// Returns the origin whose turn it is.
    pub(super) fn first_origin(&self) -> Option<Origin> {
        self.fair.first()
    }

    /// Returns the peer whose turn it is at an origin.
    pub(super) fn first_peer(&self, origin: Origin) -> Option<Peer> {
        self.origins.get(&origin)?.order.first()
    }

    /// Returns the first item of a peer.
    pub(super) fn first_item(&self, (origin, peer): Flow) -> Option<Ticket> {
        let waiting = self.origins.get(&origin)?.waiting.get(&peer)?;
        waiting.items.front().map(|(ticket, _)| *ticket)
    }

    /// Removes the first item of a peer, which has had its turn. If `is_on`, the item is relayed and its bytes count.
    /// If also `is_awaited`, others wait for the link to come back with its next item.
    pub(super) fn take_first(&mut self, (origin, peer): Flow, is_on: bool, is_awaited: bool) {
        if let Some(peers) = self.origins.get_mut(&origin)
            && let Some(waiting) = peers.waiting.get_mut(&peer)
            && let Some((_, bytes)) = waiting.items.pop_front()
            && is_on
        {
            waiting.served += usize::from(is_awaited);
            peers.order.sent(peer, &mut waiting.place, bytes);
            self.fair.charge(origin, bytes);
        }
        self.make_ready((origin, peer));
    }

    /// Suspends an origin for now.
    pub(super) fn rest_origin(&mut self, origin: Origin) {
        self.fair.rest(origin);
    }

    /// Resumes an origin that has room again.
    pub(super) fn wake_origin(&mut self, origin: Origin) {
        let peers = self.origins.get(&origin);
        if peers.is_some_and(|peers| !peers.order.is_empty()) {
            self.fair.want(origin);
        }
    }

    /// Suspends a group for now.
    pub(super) fn hold(&mut self, group: Group) {
        self.fair.hold(group);
    }

    /// Suspends a group whose next turn belongs to a peer that is about to come back with its next item.
    pub(super) fn await_next(&mut self, group: Group) {
        self.awaited.insert(group);
        self.fair.hold(group);
    }

    /// Resumes a group that has room again, unless it waits for a peer to come back.
    pub(super) fn release(&mut self, group: Group) {
        if !self.awaited.contains(&group) {
            self.fair.release(group);
        }
    }

    /// Resumes the group of an origin if it waited for a peer that has come back, or that does not come back now.
    fn has_come_back(&mut self, origin: Origin) {
        if self.awaited.remove(&origin.group()) {
            self.fair.release(origin.group());
        }
    }

    /// Puts a peer into the order: it may have an item that may pass, or another one than before.
    pub(super) fn make_ready(&mut self, (origin, peer): Flow) {
        let Some(peers) = self.origins.get_mut(&origin) else {
            return;
        };
        if let Some(waiting) = peers.waiting.get_mut(&peer)
            && !waiting.is_done()
        {
            let bytes = waiting.items.front().map_or(0, |(_, bytes)| *bytes);
            peers.order.enter(peer, &mut waiting.place, bytes);
            self.fair.want(origin);
        }
    }

    /// Takes a peer that has nothing that may pass out of the order.
    pub(super) fn rest(&mut self, (origin, peer): Flow) {
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

    fn waiting_of(&mut self, (origin, peer): Flow) -> Option<&mut Waiting> {
        self.origins.get_mut(&origin)?.waiting.get_mut(&peer)
    }

    /// Returns whether a peer has no items and its links are not about to send one.
    pub(super) fn is_done(&self, (origin, peer): Flow) -> bool {
        let peers = self.origins.get(&origin);
        let waiting = peers.and_then(|peers| peers.waiting.get(&peer));
        waiting.is_some_and(Waiting::is_done)
    }

    /// Marks a peer as listed in debt; returns whether it was not before.
    pub(super) fn note_debt(&mut self, flow: Flow) -> bool {
        let waiting = self.waiting_of(flow);
        waiting.is_some_and(|waiting| !std::mem::replace(&mut waiting.is_in_debt, true))
    }

    /// Marks a peer as not listed in debt any more.
    pub(super) fn end_debt(&mut self, flow: Flow) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.is_in_debt = false;
        }
    }

    /// Returns whether a peer without items would gain by being forgotten.
    pub(super) fn has_debt(&self, flow: Flow) -> bool {
        let (origin, peer) = flow;
        let peers = self.origins.get(&origin).filter(|_| self.is_done(flow));
        let place = |peers: &'_ Peers| {
            let waiting = peers.waiting.get(&peer);
            waiting.is_some_and(|waiting| peers.order.has_debt(&waiting.place))
        };
        peers.is_some_and(place)
    }

    /// Returns how many peers without items are remembered. Asserts that nothing else is left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        assert!(self.fair.is_empty() && self.awaited.is_empty());
        self.origins.values().map(|peers| peers.waiting.len()).sum()
    }

    /// Forgets a peer that has no items.
    pub(super) fn forget(&mut self, flow: Flow) {
        let (origin, peer) = flow;
        let is_done = self.is_done(flow);
        let Some(peers) = self.origins.get_mut(&origin) else {
            return;
        };
        if is_done {
            peers.waiting.remove(&peer);
        }
        if peers.waiting.is_empty() {
            self.origins.remove(&origin);
        }
    }
}
