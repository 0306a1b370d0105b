//! Peers at other nodes of the cluster: how they are dialled, and who hears of them.
//!
//! A peer here that dials one there does so over a *way*: a link of ours to that node, one for each pair of a link and a node.
//! At the other end of it is a *guest*: a link like any other, but for whoever is behind it has joined elsewhere. To either
//! registry a dial is one between two of its own links.

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
    Action, Announced, Cut, DeadlineKind, Link, LinkId, Refusal, Registry,
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

/// Of how many addresses a link is told at most, its own node's first; more are of no use to it, and they are told anew
/// again and again.
const MAX_TOLD: usize = 8_000;
/// How long a way stays open on which nobody dials.
const IDLE_WAY: Duration = Duration::from_secs(60);
/// How many addresses get a turn at once when there is room.
const FILLED_AT_ONCE: usize = 16;
/// The link of nobody here.
const NO_LINK: LinkId = LinkId(u64::MAX);

/// What a link is for.
#[derive(Debug, Default)]
pub(super) enum Kind {
    /// A client's.
    #[default]
    Client,
    /// Ours to another node, for dials from that link.
    Way {
        from: LinkId,
        node: NodeNumber,
        /// Which addresses of that link the node has been told to be there.
        told: BTreeSet<Arc<str>>,
        /// Those about which it has not answered yet.
        asked: BTreeMap<u64, Arc<str>>,
    },
    /// Another node's to us, for dials from a link of its.
    Guest { node: NodeId },
}

/// A new way, which somebody has to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewWay {
    pub(crate) way: LinkId,
    pub(crate) node: NodeNumber,
    /// For whom it is.
    pub(crate) claimant: Claimant,
}

/// What the other nodes are to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    Joined(Arc<PeerRecord>, Stamp),
    Left(Arc<str>),
}

#[derive(Debug)]
struct Remote {
    node: NodeNumber,
    /// When it has joined there.
    stamp: Stamp,
    /// Where it stands among those of its node.
    place: usize,
    /// When it is announced, if it is.
    turn: Option<Turn>,
}

/// The peers at other nodes.
#[derive(Debug)]
pub(super) struct Remotes {
    by_address: BTreeMap<Arc<str>, Remote>,
    by_node: Sample,
    /// Those that are not announced now, in the order in which they will be; those that are gone are passed over.
    rest: VecDeque<Arc<str>>,
    announced: usize,
    /// The numbers of links.
    numbers: Arc<AtomicU64>,
    /// Of which tenant all this is.
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
    /// The same as one node of a cluster. Links get their numbers from there.
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

    /// How many peers are joined at other nodes.
    pub(crate) fn remote_peers(&self) -> usize {
        self.remotes.as_ref().map_or(0, |remotes| remotes.len())
    }

    /// How many of them are not announced at the moment.
    pub(crate) fn unannounced(&self) -> usize {
        self.remotes
            .as_ref()
            .map_or(0, |remotes| remotes.len() - remotes.announced)
    }

    /// A link of another node has opened, for a client there.
    pub(crate) fn handle_guest(&mut self, link: LinkId, node: NodeId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.kind = Kind::Guest { node };
        }
    }

    /// What a link asks for that is not a client's to join: a guest's own address, with its proof. `None` if the link is a
    /// client's.
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

    /// Whether nobody has joined later than that, here or elsewhere: a node has the proofs of all who were at it once.
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

    /// A guest has proved that its peer has joined at its node.
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

    /// A peer has joined at another node, later than here if it has joined here at all.
    pub(crate) fn handle_found(
        &mut self,
        address: Arc<str>,
        node: NodeNumber,
        stamp: Stamp,
        now: Instant,
    ) {
        // Whoever wrote it need not keep to the rules, nor to its tenant.
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
                // Nobody at the other node knows of our join yet.
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
        // One that has only moved is no news.
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

    /// A peer at another node has left.
    pub(crate) fn handle_lost(&mut self, address: &str) {
        self.forget_remote(address);
    }

    /// Whether it was known.
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

    /// What is to be announced of a peer at another node whose turn has come. Its next turn is that of one that waits.
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

    /// What the other nodes are to know of an address that has joined here with this proof.
    pub(super) fn publish(&mut self, link: LinkId, address: &Arc<str>, proof: JoinProof) {
        let Some(remotes) = self
            .remotes
            .as_ref()
            .filter(|_| self.peers.owner(address) == Some(link))
        else {
            return;
        };
        let Ok(stamp) = Stamp::of(&proof.nonce, address) else {
            // Made by nobody of a cluster.
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

    /// The other nodes are to know that an address has left, if they know of it.
    pub(super) fn unpublish(&mut self, address: &Arc<str>, is_known: bool) {
        if is_known {
            let publication = Publication::Left(address.clone());
            self.actions.push_back(Action::Publish(publication));
        }
    }

    /// Adds peers at other nodes to a list of those here, up to so many.
    pub(super) fn add_remotes(&self, list: &mut Vec<Arc<str>>, max: usize) {
        if let Some(remotes) = &self.remotes {
            let left = max.saturating_sub(list.len());
            list.extend(remotes.by_node.pick(left, rand::random()));
        }
    }

    /// The way from a link to the node where an address has joined.
    pub(super) fn way(&mut self, link: LinkId, to: &str) -> Result<LinkId, Refusal> {
        let remotes = self.remotes.as_ref().ok_or(Refusal::PeerNotFound)?;
        let node = remotes.node_of(to).ok_or(Refusal::PeerNotFound)?;
        let number = remotes.next_link();
        let dialer = self.links.get_mut(&link).ok_or(Refusal::NotAuthorized)?;
        // Whoever came here from another node has to look for it there.
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
        // The dial may come to nothing.
        self.rest_way(number);
        self.actions.push_back(Action::Open(NewWay {
            way: number,
            node,
            claimant,
        }));
        Ok(number)
    }

    /// Tells the node at the end of a way that an address is here, before the first dial from there. `None` if the link
    /// is no way.
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
            // The dial does not wait for the answer: if it is not let in, it is refused by itself.
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

    /// Takes the answer to what a node was told of a peer here; whether it is one. What was refused is told again next time.
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

    /// An address has left its link, or that has another proof of it: the nodes that were told of it are told anew.
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

    /// A link is gone: so are its ways, when they have told the other nodes; and a way is its link's no more.
    pub(super) fn close_ways(&mut self, link: LinkId, state: &Link) {
        for way in state.ways.values() {
            // One that has dials left is closed when they have ended.
            let has_dials = self.links.get(way).is_some_and(|way| !way.dials.is_empty());
            if !has_dials {
                self.actions.push_back(Action::CloseWay(*way));
            }
        }
        if let Kind::Way { from, node, .. } = &state.kind {
            self.forget_way(link, *from, *node);
        }
    }

    /// A way cannot be opened: its dials are refused.
    pub(crate) fn handle_no_way(&mut self, way: LinkId, refusal: &Refusal) {
        let Some(state) = self.links.get(&way) else {
            return;
        };
        let dials: Vec<DialId> = state.dials.iter().cloned().collect();
        for dial_id in dials {
            self.end_dial(&dial_id, refusal.clone(), Cut::LinkLost);
        }
    }

    /// A way is its link's no more.
    fn forget_way(&mut self, way: LinkId, from: LinkId, node: NodeNumber) {
        if let Some(from) = self.links.get_mut(&from)
            && from.ways.get(&node) == Some(&way)
        {
            from.ways.remove(&node);
        }
    }

    /// A link has one dial less: a way with none is closed in a while, or at once if its link is gone.
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

    /// A way had no dials a while ago. If it has none now, it may be closed.
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
        // Some at a time: there is another occasion soon.
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
