//! What waits in one tenant, and whose turn it is there. No IO, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::order::{Order, Place};
use crate::rendezvous::{
    fair::Fair,
    origin::{Claimant, Group, Origin},
};

/// What even the smallest item costs in turns: whoever sends single bytes is not to have all of them.
const LEAST_COST: u64 = 1024;

pub(super) type Ticket = u64;
/// The number of a peer's meter.
pub(super) type Peer = u64;
/// A peer at an origin: it may have links at several.
pub(super) type Flow = (Origin, Peer);

/// The items of a peer.
#[derive(Debug, Default)]
struct Waiting {
    place: Place,
    /// With what each costs.
    items: VecDeque<(Ticket, u64)>,
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

/// The items of a tenant.
#[derive(Debug, Default)]
pub(super) struct Lane {
    origins: BTreeMap<Origin, Peers>,
    fair: Fair,
    /// Groups that wait for one of theirs to come back with its next item.
    awaited: BTreeSet<Group>,
}

impl Lane {
    /// An item of so many bytes waits from now on.
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

    /// An item that waited is gone.
    pub(super) fn drop_item(&mut self, flow: Flow, ticket: Ticket) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.items.retain(|(other, _)| *other != ticket);
        }
        self.go_on(flow);
    }

    /// The link of an item that has passed has come back, or does not come now.
    pub(super) fn end_turn(&mut self, flow: Flow) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.served = waiting.served.saturating_sub(1);
        }
        self.go_on(flow);
    }

    /// An item is forgotten that was not to pass.
    pub(super) fn go_on(&mut self, flow: Flow) {
        let (origin, _) = flow;
        self.make_ready(flow);
        self.has_come_back(origin);
        self.fair.remove(origin);
    }

    /// Whether something of an origin waits for its turn.
    pub(super) fn wants(&self, origin: Origin) -> bool {
        self.fair.wants(origin)
    }

    /// The origin whose turn it is.
    pub(super) fn first_origin(&self) -> Option<Origin> {
        self.fair.first()
    }

    /// The peer whose turn it is at an origin.
    pub(super) fn first_peer(&self, origin: Origin) -> Option<Peer> {
        self.origins.get(&origin)?.order.first()
    }

    /// What a peer has at the head of its items.
    pub(super) fn first_item(&self, (origin, peer): Flow) -> Option<Ticket> {
        let waiting = self.origins.get(&origin)?.waiting.get(&peer)?;
        waiting.items.front().map(|(ticket, _)| *ticket)
    }

    /// The first item of a peer has had its turn. If it is to be handed on, its bytes count, and its link may be about to
    /// come with the next one if others wait for that.
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

    /// Nothing of an origin passes for now.
    pub(super) fn rest_origin(&mut self, origin: Origin) {
        self.fair.rest(origin);
    }

    /// An origin has room again.
    pub(super) fn wake_origin(&mut self, origin: Origin) {
        let peers = self.origins.get(&origin);
        if peers.is_some_and(|peers| !peers.order.is_empty()) {
            self.fair.want(origin);
        }
    }

    /// Nothing of a group passes for now.
    pub(super) fn hold(&mut self, group: Group) {
        self.fair.hold(group);
    }

    /// The next turn of a group is that of a peer whose link is about to come back.
    pub(super) fn await_next(&mut self, group: Group) {
        self.awaited.insert(group);
        self.fair.hold(group);
    }

    /// A group has room again.
    pub(super) fn release(&mut self, group: Group) {
        if !self.awaited.contains(&group) {
            self.fair.release(group);
        }
    }

    /// One of those that an origin's group waits for has come back, or does not come now.
    fn has_come_back(&mut self, origin: Origin) {
        if self.awaited.remove(&origin.group()) {
            self.fair.release(origin.group());
        }
    }

    /// A peer may have something that may pass, or something else than before.
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

    /// A peer has nothing that may pass.
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

    /// Whether a peer has nothing, and its links are not about to go on.
    pub(super) fn is_done(&self, (origin, peer): Flow) -> bool {
        let peers = self.origins.get(&origin);
        let waiting = peers.and_then(|peers| peers.waiting.get(&peer));
        waiting.is_some_and(Waiting::is_done)
    }

    /// Whether it is new that a peer is among those in debt.
    pub(super) fn note_debt(&mut self, flow: Flow) -> bool {
        let waiting = self.waiting_of(flow);
        waiting.is_some_and(|waiting| !std::mem::replace(&mut waiting.is_in_debt, true))
    }

    /// A peer is not among those in debt any more.
    pub(super) fn end_debt(&mut self, flow: Flow) {
        if let Some(waiting) = self.waiting_of(flow) {
            waiting.is_in_debt = false;
        }
    }

    /// Whether a peer that has nothing would gain by being forgotten.
    pub(super) fn has_debt(&self, flow: Flow) -> bool {
        let (origin, peer) = flow;
        let peers = self.origins.get(&origin).filter(|_| self.is_done(flow));
        let place = |peers: &'_ Peers| {
            let waiting = peers.waiting.get(&peer);
            waiting.is_some_and(|waiting| peers.order.has_debt(&waiting.place))
        };
        peers.is_some_and(place)
    }

    /// How many peers are remembered that have nothing; nothing else may be left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        assert!(self.fair.is_empty() && self.awaited.is_empty());
        self.origins.values().map(|peers| peers.waiting.len()).sum()
    }

    /// Forgets a peer that has nothing.
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
