//! Peers at other nodes of the cluster: how they are dialled, and how they are announced.
//!
//! A peer here dials a peer at another node over a *way*: an outgoing link to that node, one for each pair of a
//! client's link and a node. At the other end of the way is a *guest*: a link like any other, except that its peer has
//! joined elsewhere. To either registry, a dial is one between two of its own links.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::Unbounded,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::super::challenge::{Check, Nonces};
use super::{
    Action, Announced, DeadlineKind, DialEnd, Link, LinkId, Refusal, Registry,
    sample::Sample,
    turns::{Called, Turn},
};
use crate::{
    protocol::{
        event::{DialId, Event},
        nonce::Stamp,
    },
    rendezvous::{
        cluster::{Clock, GuestCheck, JoinProof, NodeId, NodeNumber, PeerRecord},
        origin::{Claimant, Origin},
    },
    words::Words,
};

/// The largest number of addresses that are announced to a link, those of its own node first. More would be of no use
/// to it, and all of them are announced again and again.
const MAX_TOLD: usize = 8_000;
/// How long a way without dials stays open.
const IDLE_WAY: Duration = Duration::from_secs(60);
/// The number of addresses that get a turn at once when there is room.
const FILLED_AT_ONCE: usize = 16;
/// The id of no link. It stands for the link of a peer at another node.
const NO_LINK: LinkId = LinkId(u64::MAX);

/// The purpose of a link.
#[derive(Debug, Default)]
pub(super) enum Kind {
    /// A client's link.
    #[default]
    Client,
    /// An outgoing link to another node, for dials from the link `from`.
    Way {
        from: LinkId,
        node: NodeNumber,
        /// Addresses of `from` that the node has been told of.
        told: BTreeSet<Arc<str>>,
        /// Addresses about which the node has not answered yet, by acknowledgement.
        asked: BTreeMap<u64, Arc<str>>,
    },
    /// A link from another node, for dials from one of the links there.
    Guest { node: NodeId },
}

/// A way that still has to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewWay {
    pub(crate) way: LinkId,
    pub(crate) node: NodeNumber,
    /// The origin of the client that the way is for.
    pub(crate) claimant: Claimant,
}

/// What the other nodes have to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    Joined(Arc<PeerRecord>, Stamp),
    Left(Arc<str>),
}

#[derive(Debug)]
struct Remote {
    node: NodeNumber,
    /// The stamp of its join at that node.
    stamp: Stamp,
    /// Its position among the peers of its node.
    place: usize,
    /// The turn in which it is announced next, if it is announced at present.
    turn: Option<Turn>,
}

/// The peers at other nodes.
#[derive(Debug)]
pub(super) struct Remotes {
    by_address: BTreeMap<Arc<str>, Remote>,
    by_node: Sample,
    /// Addresses that are not announced at present, in the order in which they will be. Those that are gone are
    /// skipped.
    rest: VecDeque<Arc<str>>,
    announced: usize,
    /// The counter from which links get their numbers.
    numbers: Arc<AtomicU64>,
    /// The tenant's name; `None` for the default tenant.
    tenant: Option<Arc<str>>,
    clock: Clock,
}

fn origin(node: NodeNumber) -> Origin {
    Origin::Node(node.0)
}

impl Remotes {
    pub(super) fn new(numbers: Arc<AtomicU64>, tenant: Option<Arc<str>>, clock: Clock) -> Self {
        Self {
            clock,
            by_address: BTreeMap::new(),
            by_node: Sample::default(),
            rest: VecDeque::new(),
            announced: 0,
            numbers,
            tenant,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    fn node_of(&self, address: &str) -> Option<NodeNumber> {
        self.by_address.get(address).map(|remote| remote.node)
    }

    fn next_link(&self) -> LinkId {
        LinkId(self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    fn remove(&mut self, address: &str) -> Option<(Arc<str>, Remote)> {
        let (address, remote) = self.by_address.remove_entry(address)?;
        if let Some(moved) = self.by_node.remove(origin(remote.node), remote.place)
            && let Some(moved) = self.by_address.get_mut(&moved)
        {
            moved.place = remote.place;
        }
        Some((address, remote))
    }
}

impl Registry {
    /// Makes this the registry of one node of a cluster. Its ways get their numbers from `numbers`.
    pub(crate) fn with_cluster(
        mut self,
        numbers: Arc<AtomicU64>,
        tenant: Option<Arc<str>>,
        clock: Clock,
    ) -> Self {
        self.settings.nonces = Nonces::of_node(clock.clone());
        self.remotes = Some(Box::new(Remotes::new(numbers, tenant, clock)));
        self
    }

    /// Returns how many peers are joined at other nodes.
    pub(crate) fn remote_peers(&self) -> usize {
        self.remotes.as_ref().map_or(0, |remotes| remotes.len())
    }

    /// Returns how many of these peers are not announced at present.
    pub(crate) fn unannounced(&self) -> usize {
        self.remotes
            .as_ref()
            .map_or(0, |remotes| remotes.len() - remotes.announced)
    }

    /// Marks a link as a guest: another node has opened it for a client there.
    pub(crate) fn handle_guest(&mut self, link: LinkId, node: NodeId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.kind = Kind::Guest { node };
        }
    }

    /// Returns what has to be checked when a link that is not a client's asks to join: for a guest, the address with
    /// its proof. `None` if the link is a client's.
    pub(super) fn join_as_guest(
        &self,
        link: LinkId,
        address: &str,
        record: &str,
        ack: u64,
    ) -> Option<Result<Check, Refusal>> {
        let remotes = self.remotes.as_ref()?;
        match &self.links.get(&link)?.kind {
            Kind::Client => None,
            Kind::Way { .. } => Some(Err(Refusal::NotAuthorized)),
            Kind::Guest { node } => Some(Ok(Check::Guest(GuestCheck {
                address: address.to_owned(),
                ack,
                record: record.to_owned(),
                tenant: remotes.tenant.clone(),
                node: node.clone(),
                clock: remotes.clock.clone(),
            }))),
        }
    }

    /// Returns whether no later join of the address is known, here or elsewhere. A node keeps the proofs of all peers
    /// that once joined there, so an old proof shows nothing.
    pub(super) fn is_newest(&self, address: &str, stamp: Stamp) -> bool {
        let here = self.peers.record(address).map(|(_, own)| *own);
        let remotes = self.remotes.as_ref();
        let there = remotes.and_then(|remotes| remotes.by_address.get(address));
        let latest = here
            .into_iter()
            .chain(there.map(|remote| remote.stamp))
            .max();
        latest.is_none_or(|latest| latest <= stamp)
    }

    /// Adds an address to a guest, which has proved that its peer has joined at its node.
    pub(super) fn guest_joined(&mut self, link: LinkId, address: String, ack: u64) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if let Some(deadline) = state.first_join.take() {
            self.deadlines
                .remove(&(deadline, DeadlineKind::FirstJoin(link)));
        }
        state.joins.insert(address.into());
        self.answer(link, ack, Ok(()));
    }

    /// Handles the join of a peer at another node. If the peer has joined here as well, the later join counts.
    pub(crate) fn handle_found(
        &mut self,
        address: Arc<str>,
        node: NodeNumber,
        stamp: Stamp,
        now: Instant,
    ) {
        // The node that published it may not keep to the rules for addresses, nor to those of its tenant.
        if !self.may_join(&address) {
            return;
        }
        let mut is_known = false;
        if let Some(owner) = self.peers.owner(&address) {
            is_known = true;
            if self
                .peers
                .record(&address)
                .is_none_or(|(_, own)| *own >= stamp)
            {
                // The join here counts. The other node does not know of it yet.
                return;
            }
            self.leave_address(owner, &address);
            self.forget_peer(&address);
            let event = Event::Displaced {
                address: address.to_string(),
            };
            self.send(owner, event.encode(None));
            tracing::debug!(from = %owner, peer = %Words(&address), "a peer has moved to another node");
        }
        is_known |= self.forget_remote(&address);
        let claimant = Claimant::of_node(node);
        let Some(remotes) = &mut self.remotes else {
            return;
        };
        let place = remotes.by_node.add(&claimant, address.clone());
        // A peer that has only moved is not announced as a newcomer.
        let is_announced = remotes.announced < MAX_TOLD.saturating_sub(self.peers.len());
        let turn = match is_announced {
            true if is_known => {
                let due = now + self.turns.interval();
                Some(self.turns.add_known(&claimant, address.clone(), due))
            }
            true => Some(self.turns.add_news(&claimant, address.clone(), now)),
            false => {
                remotes.rest.push_back(address.clone());
                None
            }
        };
        remotes.announced += usize::from(turn.is_some());
        let remote = Remote {
            node,
            stamp,
            place,
            turn,
        };
        remotes.by_address.insert(address, remote);
        if is_announced && self.joined <= super::FEW {
            self.announce(now);
        }
    }

    /// Handles a peer at another node that has left.
    pub(crate) fn handle_lost(&mut self, address: &str) {
        self.forget_remote(address);
    }

    /// Forgets a peer at another node; returns whether it was known.
    pub(super) fn forget_remote(&mut self, address: &str) -> bool {
        let Some(remotes) = &mut self.remotes else {
            return false;
        };
        let Some((_, remote)) = remotes.remove(address) else {
            return false;
        };
        if let Some(turn) = remote.turn {
            remotes.announced -= 1;
            self.turns.remove(origin(remote.node), turn);
        }
        if remotes.rest.len() > 2 * remotes.by_address.len() + super::FEW {
            let by_address = &remotes.by_address;
            let waits = |address: &Arc<str>| {
                let remote = by_address.get(address);
                remote.is_some_and(|remote| remote.turn.is_none())
            };
            remotes.rest.retain(waits);
        }
        self.fill_turns();
        true
    }

    /// Returns the announcement of a peer at another node whose turn has come. If other such peers wait for a turn, one
    /// of them gets the next turn.
    pub(super) fn call_remote(&mut self, called: &Called, now: Instant) -> Option<Announced> {
        let Called { address, turn } = called;
        let remotes = self.remotes.as_mut()?;
        let node = remotes.node_of(address)?;
        let due = (turn.due + self.turns.interval()).max(now);
        let next = std::iter::from_fn(|| remotes.rest.pop_front()).find(|next| {
            let next = remotes.by_address.get(next);
            next.is_some_and(|next| next.turn.is_none())
        });
        match next {
            None => {
                let again = self.turns.again(origin(node), address.clone(), due);
                if let Some(remote) = remotes.by_address.get_mut(address) {
                    remote.turn = Some(again);
                }
            }
            Some(next) => {
                self.turns.remove(origin(node), *turn);
                if let Some(remote) = remotes.by_address.get_mut(address) {
                    remote.turn = None;
                }
                remotes.rest.push_back(address.clone());
                let remote = remotes.by_address.get_mut(&next);
                if let Some(remote) = remote {
                    let claimant = Claimant::of_node(remote.node);
                    remote.turn = Some(self.turns.add_known(&claimant, next, due));
                }
            }
        }
        let event = Event::Peer {
            address: address.to_string(),
        };
        Some(Announced {
            link: NO_LINK,
            hears: (Unbounded, Unbounded),
            text: event.encode(None),
        })
    }

    /// Publishes to the other nodes an address that has joined here with this proof.
    pub(super) fn publish(&mut self, link: LinkId, address: &Arc<str>, proof: JoinProof) {
        let Some(remotes) = self
            .remotes
            .as_ref()
            .filter(|_| self.peers.owner(address) == Some(link))
        else {
            return;
        };
        let Ok(stamp) = Stamp::of(&proof.nonce, address) else {
            // No node of a cluster has made this nonce.
            return;
        };
        let record = Arc::new(PeerRecord {
            tenant: remotes.tenant.clone(),
            address: address.clone(),
            proof,
        });
        self.peers.set_record(address, record.clone(), stamp);
        let publication = Publication::Joined(record, stamp);
        self.actions.push_back(Action::Publish(publication));
    }

    /// Tells the other nodes that an address has left, if they know of it.
    pub(super) fn unpublish(&mut self, address: &Arc<str>, is_known: bool) {
        if is_known {
            let publication = Publication::Left(address.clone());
            self.actions.push_back(Action::Publish(publication));
        }
    }

    /// Adds peers at other nodes to a list of those here, up to `max` in all.
    pub(super) fn add_remotes(&self, list: &mut Vec<Arc<str>>, max: usize) {
        if let Some(remotes) = &self.remotes {
            let left = max.saturating_sub(list.len());
            list.extend(remotes.by_node.pick(left, rand::random()));
        }
    }

    /// Returns the way from a link to the node where an address has joined. Creates it if there is none.
    pub(super) fn way(&mut self, link: LinkId, to: &str) -> Result<LinkId, Refusal> {
        let remotes = self.remotes.as_ref().ok_or(Refusal::PeerNotFound)?;
        let node = remotes.node_of(to).ok_or(Refusal::PeerNotFound)?;
        let number = remotes.next_link();
        let dialer = self.links.get_mut(&link).ok_or(Refusal::NotAuthorized)?;
        // A guest's dial does not go on to a third node: its own node has to find the address.
        if !matches!(dialer.kind, Kind::Client) {
            return Err(Refusal::PeerNotFound);
        }
        if let Some(way) = dialer.ways.get(&node) {
            return Ok(*way);
        }
        dialer.ways.insert(node, number);
        let mut way = Link::new(dialer.claimant);
        way.kind = Kind::Way {
            from: link,
            node,
            told: BTreeSet::new(),
            asked: BTreeMap::new(),
        };
        let claimant = way.claimant;
        self.links.insert(number, Box::new(way));
        // If the dial comes to nothing, this has the unused way closed.
        self.rest_way(number);
        self.actions.push_back(Action::Open(NewWay {
            way: number,
            node,
            claimant,
        }));
        Ok(number)
    }

    /// Encodes a dial that goes over a way. Before the first dial from an address, tells the node at the end of the way
    /// that the address is here. `None` if the link is no way.
    pub(super) fn offer_on_way(
        &mut self,
        way: LinkId,
        (from, to): (&str, &str),
        dial_id: &DialId,
        ack: u64,
    ) -> Option<String> {
        let record = self.peers.record(from).map(|(record, _)| record.clone());
        let state = self.links.get_mut(&way)?;
        let Kind::Way { told, asked, .. } = &mut state.kind else {
            return None;
        };
        if let Some(record) = record
            && told.insert(record.address.clone())
        {
            // The dial does not wait for the answer. If the node refuses the address, it also refuses the dial.
            let number = state.next_ack;
            state.next_ack += 1;
            asked.insert(number, record.address.clone());
            let join = Event::Join {
                address: from.to_owned(),
                data: record.encode(),
            };
            self.send(way, join.encode(Some(number)));
        }
        let dial = Event::Dial {
            from: from.to_owned(),
            to: to.to_owned(),
            dial_id: dial_id.clone(),
        };
        Some(dial.encode(Some(ack)))
    }

    /// Takes a node's answer to having been told of a peer here; returns whether this is such an answer. A refused
    /// address is told again the next time.
    pub(super) fn way_answered(&mut self, way: LinkId, ack: u64, is_good: bool) -> bool {
        let state = self.links.get_mut(&way);
        let Some(Kind::Way { told, asked, .. }) = state.map(|state| &mut state.kind) else {
            return false;
        };
        let Some(address) = asked.remove(&ack) else {
            return false;
        };
        if !is_good {
            told.remove(&address);
        }
        true
    }

    /// Tells the nodes that were told of an address that it has left its link. They are told of it anew before the next
    /// dial from it.
    pub(super) fn forget_on_ways(&mut self, link: LinkId, address: &str) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let ways: Vec<LinkId> = state.ways.values().copied().collect();
        for way in ways {
            let state = self.links.get_mut(&way);
            if let Some(Kind::Way { told, .. }) = state.map(|state| &mut state.kind)
                && told.remove(address)
            {
                let leave = Event::Leave {
                    address: address.to_owned(),
                };
                self.send(way, leave.encode(None));
            }
        }
    }

    /// Closes the ways of a link that is gone. If the link is itself a way, the link that it was for forgets it.
    pub(super) fn close_ways(&mut self, link: LinkId, state: &Link) {
        for way in state.ways.values() {
            // A way that has dials left is closed when they have ended, so that the other node is told of their ends.
            let has_dials = self.links.get(way).is_some_and(|way| !way.dials.is_empty());
            if !has_dials {
                self.actions.push_back(Action::CloseWay(*way));
            }
        }
        if let Kind::Way { from, node, .. } = &state.kind {
            self.forget_way(link, *from, *node);
        }
    }

    /// Refuses the dials of a way that cannot be opened.
    pub(crate) fn handle_no_way(&mut self, way: LinkId, refusal: &Refusal) {
        let Some(state) = self.links.get(&way) else {
            return;
        };
        let dials: Vec<DialId> = state.dials.iter().cloned().collect();
        for dial_id in dials {
            self.end_dial(&dial_id, refusal.clone(), DialEnd::LinkLost);
        }
    }

    /// Has the link that a way was for forget it.
    fn forget_way(&mut self, way: LinkId, from: LinkId, node: NodeNumber) {
        if let Some(from) = self.links.get_mut(&from)
            && from.ways.get(&node) == Some(&way)
        {
            from.ways.remove(&node);
        }
    }

    /// Handles a link that may have no dials left. A way without dials is closed in a while, or at once if its link is
    /// gone or has another way to that node.
    pub(super) fn rest_way(&mut self, way: LinkId) {
        let Some(state) = self.links.get(&way).filter(|state| state.dials.is_empty()) else {
            return;
        };
        let Kind::Way { from, node, .. } = &state.kind else {
            return;
        };
        let from = self.links.get(from);
        if from.is_none_or(|from| from.ways.get(node) != Some(&way)) {
            self.actions.push_back(Action::CloseWay(way));
        } else if let Some(now) = self.latest {
            self.deadlines
                .insert((now + IDLE_WAY, DeadlineKind::Way(way)));
        }
    }

    /// Closes a way that had no dials a while ago, if it has none now.
    pub(super) fn way_timed_out(&mut self, way: LinkId) {
        let Some(state) = self.links.get(&way).filter(|state| state.dials.is_empty()) else {
            return;
        };
        if let Kind::Way { from, node, .. } = &state.kind {
            let (from, node) = (*from, *node);
            self.forget_way(way, from, node);
            self.actions.push_back(Action::CloseWay(way));
        }
    }

    /// Gives turns to addresses that wait for one, as far as there is room.
    pub(super) fn fill_turns(&mut self) {
        let (Some(remotes), Some(now)) = (&mut self.remotes, self.latest) else {
            return;
        };
        let most = MAX_TOLD.saturating_sub(self.peers.len());
        // Only some get a turn at a time: there will be another occasion soon.
        for _ in 0..FILLED_AT_ONCE {
            if remotes.announced >= most {
                return;
            }
            let Some(next) = remotes.rest.pop_front() else {
                return;
            };
            let waits = remotes.by_address.get_mut(&next);
            let Some(remote) = waits.filter(|remote| remote.turn.is_none()) else {
                continue;
            };
            let due = now + self.turns.interval();
            let claimant = Claimant::of_node(remote.node);
            remote.turn = Some(self.turns.add_known(&claimant, next, due));
            remotes.announced += 1;
        }
    }
}
