//! Who is joined at which node, as far as the directory tells. Pure: no IO, no clock.
//!
//! Changes of the directory and of this node go in, what follows from them comes out of [`Book::poll_event`], and what this
//! node has to write out of [`Book::poll_write`]. Of an address that has joined at several nodes, the newest join counts
//! among the nodes that live: those whose lease is in the directory, or whose trunk to us is open.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ClusterStatus,
    node::{Key, NodeId, Run, Slot},
    record::{NodeRecord, PeerRecord},
};
use crate::protocol::nonce::Stamp;

/// For how long a lease holds that was written. Shorter, a fail-over of the engine would end it.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// For how long it shows that the directory is up to date that our own lease has come back. Leases end only meanwhile: while
/// nobody can write them, they hold.
const FRESH: Duration = Duration::from_secs(12);
/// How long a peer of a node that lives is believed to be there although the directory has forgotten it: the node is about
/// to write it anew.
const DOUBT: Duration = Duration::from_secs(15);
/// How many peers of another node are known at most. One beyond that is not to be found here.
const MAX_PEERS_OF_NODE: usize = 1 << 20;

/// A network, by the name of its tenant; none is the default one.
pub(super) type Tenant = Option<Arc<str>>;

/// A node, for as long as this one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::rendezvous) struct NodeNumber(pub(in crate::rendezvous) u32);

/// What follows from a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) enum Event {
    /// A peer is reached at another node from now on.
    Found {
        tenant: Tenant,
        address: Arc<str>,
        node: NodeNumber,
        /// When it has joined there: a later join here is not known to the book yet.
        stamp: Stamp,
    },
    /// A peer that was reached at another node is not any more.
    Lost { tenant: Tenant, address: Arc<str> },
    /// A node is no more.
    Gone { node: NodeNumber },
}

/// What this node has to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    Put(Slot, Arc<PeerRecord>),
    Delete(Slot),
    /// What an earlier run of this node has left behind.
    Purge(Key),
}

/// A peer at another node.
#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    /// Which of the lists of the directory it was in last.
    list: u64,
}

#[derive(Debug)]
struct Node {
    epoch: u64,
    number: NodeNumber,
    trunk: Option<String>,
    /// Until when the lease holds that the directory has of it.
    lease: Option<Instant>,
    /// In which list of the directory it was last.
    leased_in: u64,
    /// Whether our trunk to it is open.
    linked: bool,
    /// Whether it was alive when its peers were settled last.
    settled: bool,
    peers: BTreeMap<Slot, Entry>,
}

impl Node {
    fn lives(&self) -> bool {
        self.lease.is_some() || self.linked
    }
}

/// Where an address has joined.
#[derive(Debug)]
struct Places {
    tenant: Tenant,
    address: Arc<str>,
    /// When it has joined here.
    own: Option<Stamp>,
    /// When it has joined at others, which need not live.
    others: BTreeMap<NodeId, Stamp>,
    /// At which of them it is known to be reached.
    told: Option<NodeNumber>,
}

impl Places {
    fn new(record: &PeerRecord) -> Self {
        Self {
            tenant: record.tenant.clone(),
            address: record.address.clone(),
            own: None,
            others: BTreeMap::new(),
            told: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Book {
    own: Run,
    /// Those that have joined here.
    peers: BTreeMap<Slot, Arc<PeerRecord>>,
    nodes: BTreeMap<NodeId, Node>,
    places: BTreeMap<Slot, Places>,
    next_number: u32,
    /// What is to be written, once for each peer.
    dirty: BTreeSet<Slot>,
    /// What is being written: the next write of a peer waits for the one before.
    writing: BTreeSet<Slot>,
    /// What is to be deleted of earlier runs of this node.
    stale: BTreeSet<Key>,
    /// Whether another server was started with this node's name: it is the one that is meant.
    is_superseded: bool,
    /// The number of the list that is being told, or was told last.
    list: u64,
    /// Whether it is being told.
    listing: bool,
    /// Which of our own peers it has had.
    listed: BTreeSet<Slot>,
    /// When those are to be forgotten that it did not have.
    doubts: Option<Instant>,
    /// When our own lease has come back last.
    fresh: Option<Instant>,
    /// Until when no lease ends, because it has not come back for long.
    frozen: Option<Instant>,
    events: VecDeque<Event>,
    /// How many addresses are told to be at another node.
    remote_peers: usize,
    /// Joins that lost against a later one elsewhere.
    conflicts: u64,
    /// Trunks that were open, and are not any more.
    cuts: u64,
}

impl Book {
    pub(super) fn new(own: Run) -> Self {
        Self {
            own,
            peers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            places: BTreeMap::new(),
            next_number: 0,
            dirty: BTreeSet::new(),
            writing: BTreeSet::new(),
            stale: BTreeSet::new(),
            is_superseded: false,
            list: 0,
            listing: false,
            listed: BTreeSet::new(),
            doubts: None,
            fresh: None,
            frozen: None,
            events: VecDeque::new(),
            remote_peers: 0,
            conflicts: 0,
            cuts: 0,
        }
    }

    /// A peer has joined here.
    pub(super) fn handle_join(&mut self, record: Arc<PeerRecord>, stamp: Stamp) {
        let slot = record.slot();
        let places = self.places.entry(slot);
        places.or_insert_with(|| Places::new(&record)).own = Some(stamp);
        self.peers.insert(slot, record);
        self.dirty.insert(slot);
        self.settle(slot);
    }

    /// A peer has left that had joined here.
    pub(super) fn handle_leave(&mut self, tenant: Option<&str>, address: &str) {
        let slot = Slot::of(tenant, address);
        match self.forget_own(slot) {
            true => self.settle(slot),
            // It came and went before we heard of it, and the hub does not know any more that it is elsewhere.
            false => self.tell_again(slot),
        }
    }

    fn tell_again(&mut self, slot: Slot) {
        let Some(places) = self.places.get(&slot) else {
            return;
        };
        let Some(told) = places.told else {
            return;
        };
        let nodes = &self.nodes;
        let stamp = places.others.iter().find_map(|(id, stamp)| {
            let is_there = nodes.get(id).is_some_and(|node| node.number == told);
            is_there.then_some(*stamp)
        });
        self.events.extend(stamp.map(|stamp| Event::Found {
            tenant: places.tenant.clone(),
            address: places.address.clone(),
            node: told,
            stamp,
        }));
    }

    fn forget_own(&mut self, slot: Slot) -> bool {
        let had = self.peers.remove(&slot).is_some();
        if had {
            self.dirty.insert(slot);
            if let Some(places) = self.places.get_mut(&slot) {
                places.own = None;
            }
        }
        had
    }

    /// The directory is about to tell all that it has.
    pub(super) fn begin_list(&mut self) {
        self.list += 1;
        self.listing = true;
        self.listed.clear();
    }

    /// The directory has told all that it has: what was not in it is written anew, or forgotten in a while.
    pub(super) fn end_list(&mut self, now: Instant) {
        if !std::mem::take(&mut self.listing) {
            return;
        }
        let listed = std::mem::take(&mut self.listed);
        let missing = self.peers.keys().filter(|slot| !listed.contains(slot));
        self.dirty.extend(missing.copied());
        // Of those that live, the leases are about to come again, too.
        let list = self.list;
        let leased = |node: &Node| node.lease.is_some() && node.leased_in == list;
        let unleased = self.nodes.iter().filter(|(_, node)| !leased(node));
        let unleased: Vec<NodeId> = unleased.map(|(id, _)| id.clone()).collect();
        for id in unleased {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.lease = None;
            }
            self.settle_node(&id);
        }
        self.doubts = Some(now + DOUBT);
        self.fresh = Some(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let first = self.nodes.values().filter_map(|node| node.lease).min();
        let first = first.map(|lease| lease.max(self.frozen.unwrap_or(lease)));
        let doubts = self.doubts.filter(|_| !self.listing);
        first.into_iter().chain(doubts).min()
    }

    /// The directory has not told all, and does not go on.
    pub(super) fn abort_list(&mut self) {
        self.listing = false;
        self.listed.clear();
    }

    /// Our own lease has come back through the directory.
    pub(super) fn handle_echo(&mut self, now: Instant) {
        self.fresh = Some(now);
    }

    /// Ends the leases that were not written again, and forgets what the directory did not have in its last list and has not
    /// got since.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.end_leases(now);
        self.end_doubts(now);
    }

    fn end_leases(&mut self, now: Instant) {
        let is_over = |node: &Node| node.lease.is_some_and(|lease| lease <= now);
        let over = self.nodes.iter().filter(|(_, node)| is_over(node));
        let over: Vec<NodeId> = over.map(|(id, _)| id.clone()).collect();
        if over.is_empty() {
            return;
        }
        if self.listing || self.fresh.is_none_or(|fresh| fresh + FRESH < now) {
            self.frozen = Some(now + FRESH);
            return;
        }
        for id in over {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.lease = None;
            }
            self.settle_node(&id);
        }
    }

    fn end_doubts(&mut self, now: Instant) {
        if self.listing || self.doubts.is_none_or(|doubts| doubts > now) {
            return;
        }
        self.doubts = None;
        let list = self.list;
        let mut forgotten = Vec::new();
        for (id, node) in &mut self.nodes {
            node.peers.retain(|slot, entry| {
                let stays = entry.list == list;
                if !stays {
                    forgotten.push((id.clone(), *slot));
                }
                stays
            });
        }
        for (id, slot) in forgotten {
            self.forget_place(&id, slot);
        }
    }

    /// The directory has this of a node. Gives its number if it is to be reached there from now on, and was not before.
    pub(super) fn handle_node(
        &mut self,
        run: &Run,
        record: NodeRecord,
        now: Instant,
    ) -> Option<NodeNumber> {
        self.is_superseded |= run.node == self.own.node && run.epoch > self.own.epoch;
        let list = self.list;
        let node = self.node(run)?;
        (node.lease, node.leased_in) = (Some(now + LEASE), list);
        let number = node.number;
        let before = node.trunk.replace(record.trunk);
        let is_new = before != node.trunk;
        self.settle_node(&run.node);
        is_new.then_some(number)
    }

    /// The directory has a peer of another node, whose record was found good.
    pub(super) fn handle_peer(&mut self, run: &Run, slot: Slot, record: &PeerRecord, stamp: Stamp) {
        let list = self.list;
        if !self.has_room(run, slot) {
            return;
        }
        let Some(node) = self.node(run) else {
            return;
        };
        node.peers.insert(slot, Entry { stamp, list });
        let places = self.places.entry(slot);
        let places = places.or_insert_with(|| Places::new(record));
        places.others.insert(run.node.clone(), stamp);
        self.settle(slot);
    }

    /// Whether there is room for a peer of another node.
    pub(super) fn has_room(&self, run: &Run, slot: Slot) -> bool {
        let node = self.nodes.get(&run.node);
        node.is_none_or(|node| {
            node.peers.len() < MAX_PEERS_OF_NODE || node.peers.contains_key(&slot)
        })
    }

    /// Whether what the directory has of a peer of another node is known already. If it is our own, it notes that, and what
    /// is wrong of it is written anew.
    pub(super) fn knows(&mut self, run: &Run, slot: Slot, record: &PeerRecord) -> bool {
        if *run == self.own {
            let has = self.peers.get(&slot);
            match has.is_some_and(|own| own.proof == record.proof) {
                true if self.listing => {
                    self.listed.insert(slot);
                }
                true => {}
                false => {
                    self.dirty.insert(slot);
                }
            }
            return true;
        }
        if run.node == self.own.node {
            if run.epoch < self.own.epoch {
                self.stale.insert(Key::Peer(run.clone(), slot));
            }
            return true;
        }
        let list = self.list;
        let node = self.nodes.get_mut(&run.node);
        let Some(node) = node.filter(|node| node.epoch == run.epoch) else {
            return false;
        };
        let Some(entry) = node.peers.get_mut(&slot) else {
            return false;
        };
        let stamp = record.stamp(&run.node);
        let is_known = stamp.is_ok_and(|stamp| stamp == entry.stamp);
        if is_known {
            entry.list = list;
        }
        is_known
    }

    /// The directory has a key no more.
    pub(super) fn handle_deleted(&mut self, key: &Key) {
        let run = key.run();
        if *run == self.own {
            // Somebody else has deleted it.
            if let Key::Peer(_, slot) = key
                && self.peers.contains_key(slot)
            {
                self.dirty.insert(*slot);
            }
            return;
        }
        let node = self.nodes.get_mut(&run.node);
        let Some(node) = node.filter(|node| node.epoch == run.epoch) else {
            return;
        };
        match key {
            Key::Node(_) => {
                node.lease = None;
                self.settle_node(&run.node);
            }
            Key::Peer(_, slot) => {
                if node.peers.remove(slot).is_some() {
                    self.forget_place(&run.node, *slot);
                }
            }
        }
    }

    /// Our trunk to a run of a node is open, or not any more.
    pub(super) fn handle_trunk(&mut self, node: NodeNumber, is_open: bool) {
        let known = self
            .nodes
            .iter_mut()
            .find(|(_, known)| known.number == node);
        if let Some((id, node)) = known
            && node.linked != is_open
        {
            node.linked = is_open;
            self.cuts += u64::from(!is_open);
            let id = id.clone();
            self.settle_node(&id);
        }
    }

    /// The node of a run, unless there was a later one; an earlier one is gone by that.
    fn node(&mut self, run: &Run) -> Option<&mut Node> {
        if run.node == self.own.node {
            return None;
        }
        if let Some(node) = self.nodes.get(&run.node)
            && node.epoch != run.epoch
        {
            if node.epoch > run.epoch {
                return None;
            }
            self.forget_node(&run.node);
        }
        let number = NodeNumber(self.next_number);
        let node = self.nodes.entry(run.node.clone()).or_insert_with(|| {
            self.next_number += 1;
            Node {
                epoch: run.epoch,
                number,
                trunk: None,
                lease: None,
                leased_in: 0,
                linked: false,
                settled: false,
                peers: BTreeMap::new(),
            }
        });
        Some(node)
    }

    /// A node may live now, or not any more.
    fn settle_node(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let lives = node.lives();
        if node.settled == lives {
            return;
        }
        node.settled = lives;
        // What the directory has of it stays: it may be back, and then nobody tells all of that again.
        let is_gone = !lives && node.trunk.take().is_some();
        let number = node.number;
        let slots: Vec<Slot> = node.peers.keys().copied().collect();
        for slot in slots {
            self.settle(slot);
        }
        if is_gone {
            self.events.push_back(Event::Gone { node: number });
        }
    }

    fn forget_node(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.remove(id) else {
            return;
        };
        for slot in node.peers.into_keys() {
            self.forget_place(id, slot);
        }
        self.events.push_back(Event::Gone { node: node.number });
    }

    fn forget_place(&mut self, id: &NodeId, slot: Slot) {
        if let Some(places) = self.places.get_mut(&slot) {
            places.others.remove(id);
            self.settle(slot);
        }
    }

    /// Finds out where a peer is now.
    fn settle(&mut self, slot: Slot) {
        let Some(places) = self.places.get_mut(&slot) else {
            return;
        };
        let nodes = &self.nodes;
        let others = places.others.iter().filter_map(|(id, stamp)| {
            let node = nodes.get(id).filter(|node| node.lives())?;
            Some((*stamp, node.number))
        });
        let own = places.own;
        let newest = others
            .max()
            .filter(|(stamp, _)| own.is_none_or(|own| own < *stamp));
        let is_displaced = newest.is_some() && own.is_some();
        let told = newest.map(|(_, node)| node);
        // A hub whose peer is displaced has taken it for its own.
        if told != places.told || is_displaced {
            self.remote_peers += usize::from(told.is_some());
            self.remote_peers -= usize::from(places.told.is_some());
            places.told = told;
            let (tenant, address) = (places.tenant.clone(), places.address.clone());
            self.events.push_back(match newest {
                Some((stamp, node)) => Event::Found {
                    tenant,
                    address,
                    node,
                    stamp,
                },
                None => Event::Lost { tenant, address },
            });
        }
        if is_displaced {
            self.conflicts += 1;
            self.forget_own(slot);
        }
        let is_empty = |places: &Places| places.own.is_none() && places.others.is_empty();
        if self.places.get(&slot).is_some_and(is_empty) {
            self.places.remove(&slot);
        }
    }

    /// What follows from what has happened.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be written next. When it is done, that is to be [told](Self::handle_written).
    pub(super) fn poll_write(&mut self) -> Option<Write> {
        if self.is_superseded {
            return None;
        }
        let next = self.dirty.iter().find(|slot| !self.writing.contains(slot));
        let Some(slot) = next.copied() else {
            return self.stale.pop_first().map(Write::Purge);
        };
        self.dirty.remove(&slot);
        self.writing.insert(slot);
        Some(match self.peers.get(&slot) {
            Some(record) => Write::Put(slot, record.clone()),
            None => Write::Delete(slot),
        })
    }

    /// What was to be written is, or is not, and then its turn comes again.
    pub(super) fn handle_written(&mut self, write: &Write, is_done: bool) {
        match write {
            Write::Put(slot, _) | Write::Delete(slot) => {
                self.writing.remove(slot);
                if !is_done {
                    self.dirty.insert(*slot);
                }
            }
            Write::Purge(key) if !is_done => {
                self.stale.insert(key.clone());
            }
            Write::Purge(_) => {}
        }
    }

    /// Whether another server was started with this node's name.
    pub(super) fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// What there is, in numbers.
    pub(super) fn status(&self) -> ClusterStatus {
        let of = |is: fn(&Node) -> bool| self.nodes.values().filter(|node| is(node)).count();
        ClusterStatus {
            nodes: of(Node::lives),
            trunks: of(|node| node.linked),
            remote_peers: self.remote_peers,
            unwritten: self.dirty.len() + self.writing.len() + self.stale.len(),
            conflicts: self.conflicts,
            cuts: self.cuts,
            ..ClusterStatus::default()
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
