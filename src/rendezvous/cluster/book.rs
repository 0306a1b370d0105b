//! Which peer is joined at which node, according to the directory. Pure: no IO, no clock.
//!
//! Changes of the directory and of this node go in. The events that follow come out of [`Book::poll_event`], and what
//! this node has to write comes out of [`Book::poll_write`]. If an address has joined at several nodes, the newest join
//! counts among the nodes that live. A node lives while its lease is in the directory, or while our trunk to it is
//! open.

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

/// How long a written lease holds. If it were shorter, a fail-over of the engine would end it.
pub(in crate::rendezvous) const LEASE: Duration = Duration::from_secs(30);
/// How long the directory counts as up to date after our own lease has come back. Leases end only during that time:
/// while no node can write its lease, all leases hold.
const FRESH: Duration = Duration::from_secs(12);
/// How long a peer of a living node is kept after the directory has forgotten it. The node is about to write it again.
const DOUBT: Duration = Duration::from_secs(15);
/// The maximum number of peers that are known of another node. Further ones cannot be found here.
const MAX_PEERS_OF_NODE: usize = 1 << 20;

/// The network of a tenant, by its name; `None` for the default tenant.
pub(in crate::rendezvous) type Tenant = Option<Arc<str>>;

/// The number of one run of another node. It is not used again while this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::rendezvous) struct NodeNumber(pub(in crate::rendezvous) u32);

/// An event that follows from a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) enum Event {
    /// A peer is reached at another node from now on.
    Found {
        tenant: Tenant,
        address: Arc<str>,
        node: NodeNumber,
        /// When the peer has joined there. The book may not know yet of a later join here.
        stamp: Stamp,
    },
    /// A peer that was reached at another node is no longer reached there.
    Lost { tenant: Tenant, address: Arc<str> },
    /// A node has to be reached at this address from now on.
    Reach {
        node: NodeNumber,
        id: NodeId,
        address: String,
    },
    /// A node is gone.
    Gone { node: NodeNumber },
}

/// What this node has to write into the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rendezvous) enum Write {
    Put(Slot, Arc<PeerRecord>),
    Delete(Slot),
    /// Deletes a key that an earlier run of this node has left behind.
    Purge(Key),
}

/// A peer at another node.
#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    /// The number of the directory's latest list when the directory last reported the peer.
    list: u64,
}

#[derive(Debug)]
struct Node {
    epoch: u64,
    number: NodeNumber,
    trunk: Option<String>,
    /// The time until which the node's lease in the directory holds; `None` if there is no lease.
    lease: Option<Instant>,
    /// The number of the directory's latest list when the directory last reported the lease.
    leased_in: u64,
    /// Whether our trunk to it is open.
    linked: bool,
    /// Whether the node lived when its peers were last settled.
    settled: bool,
    peers: BTreeMap<Slot, Entry>,
}

impl Node {
    fn lives(&self) -> bool {
        self.lease.is_some() || self.linked
    }
}

/// The nodes at which an address has joined.
#[derive(Debug)]
struct Places {
    tenant: Tenant,
    address: Arc<str>,
    /// When the address has joined here; `None` if it has not.
    own: Option<Stamp>,
    /// When the address has joined at other nodes, whether they live or not.
    others: BTreeMap<NodeId, Stamp>,
    /// The other node at which the address is reached, according to the last event.
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
pub(in crate::rendezvous) struct Book {
    own: Run,
    /// The peers that have joined here.
    peers: BTreeMap<Slot, Arc<PeerRecord>>,
    nodes: BTreeMap<NodeId, Node>,
    places: BTreeMap<Slot, Places>,
    next_number: u32,
    /// The peers whose record has to be written or deleted, each of them once.
    dirty: BTreeSet<Slot>,
    /// The peers whose record the directory may have, because a write of it has begun.
    written: BTreeSet<Slot>,
    /// The peers with a write in progress. The next write of a peer waits for the one before.
    writing: BTreeSet<Slot>,
    /// The keys of earlier runs of this node that have to be deleted.
    stale: BTreeSet<Key>,
    /// Whether another server was started later with this node's name. Then that server counts, and not this one.
    is_superseded: bool,
    /// The number of the list that is being reported, or was reported last.
    list: u64,
    /// The number of the latest list that was complete.
    complete: u64,
    /// Whether a list is being reported.
    listing: bool,
    /// Our own peers that this list has contained so far.
    listed: BTreeSet<Slot>,
    /// When the peers of other nodes that the list did not contain are to be forgotten.
    doubts: Option<Instant>,
    /// The last time that our own lease came back, or that a list was complete.
    fresh: Option<Instant>,
    /// No lease runs out before this time, because the directory was not up to date when leases were last checked.
    frozen: Option<Instant>,
    events: VecDeque<Event>,
    /// The number of addresses that are reached at another node, according to the events.
    remote_peers: usize,
    /// The number of joins here that lost against a later one elsewhere.
    conflicts: u64,
    /// How many times a trunk that was open was cut.
    cuts: u64,
}

impl Book {
    pub(in crate::rendezvous) fn new(own: Run) -> Self {
        Self {
            own,
            peers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            places: BTreeMap::new(),
            next_number: 0,
            dirty: BTreeSet::new(),
            written: BTreeSet::new(),
            writing: BTreeSet::new(),
            stale: BTreeSet::new(),
            is_superseded: false,
            list: 0,
            complete: 0,
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

    /// Handles the join of a peer here.
    pub(in crate::rendezvous) fn handle_join(&mut self, record: Arc<PeerRecord>, stamp: Stamp) {
        let slot = record.slot();
        let places = self.places.entry(slot);
        places.or_insert_with(|| Places::new(&record)).own = Some(stamp);
        self.peers.insert(slot, record);
        self.dirty.insert(slot);
        self.settle(slot);
    }

    /// Handles the leave of a peer that had joined here.
    pub(in crate::rendezvous) fn handle_leave(&mut self, tenant: Option<&str>, address: &str) {
        let slot = Slot::of(tenant, address);
        match self.forget_own(slot) {
            true => self.settle(slot),
            // The book does not have the join: a later join elsewhere has replaced it, or the peer came and went before
            // the book heard of it. The hub no longer knows that the peer is elsewhere.
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
            // What comes and goes while nothing can be written needs no write.
            match self.written.contains(&slot) {
                true => self.dirty.insert(slot),
                false => self.dirty.remove(&slot),
            };
            if let Some(places) = self.places.get_mut(&slot) {
                places.own = None;
            }
        }
        had
    }

    /// Handles the beginning of a list: the directory is about to report all that it has.
    pub(in crate::rendezvous) fn begin_list(&mut self) {
        self.list += 1;
        self.listing = true;
        self.listed.clear();
    }

    /// Handles the end of a list. Our own peers that the list lacks are written again, and those of other nodes are
    /// forgotten after a while.
    pub(in crate::rendezvous) fn end_list(&mut self, now: Instant) {
        if !std::mem::take(&mut self.listing) {
            return;
        }
        let listed = std::mem::take(&mut self.listed);
        let missing = self.peers.keys().filter(|slot| !listed.contains(slot));
        self.dirty.extend(missing.copied());
        // Nodes that live write their leases again soon. So a lease that the list lacks ends at once.
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
        self.complete = list;
        self.doubts = Some(now + DOUBT);
        self.fresh = Some(now);
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has to be called.
    pub(in crate::rendezvous) fn poll_timeout(&self) -> Option<Instant> {
        let first = self.nodes.values().filter_map(|node| node.lease).min();
        let first = first.map(|lease| lease.max(self.frozen.unwrap_or(lease)));
        let doubts = self.doubts.filter(|_| !self.listing);
        first.into_iter().chain(doubts).min()
    }

    /// Handles the end of a watch: a list that is not complete is dropped.
    pub(in crate::rendezvous) fn abort_list(&mut self) {
        self.listing = false;
        self.listed.clear();
    }

    /// Handles the return of our own lease through the directory.
    pub(in crate::rendezvous) fn handle_echo(&mut self, now: Instant) {
        self.fresh = Some(now);
    }

    /// Ends the leases that were not renewed. Forgets the peers of other nodes that the last complete list lacked and
    /// that were not reported since.
    pub(in crate::rendezvous) fn handle_timeout(&mut self, now: Instant) {
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
        // A later list may have begun and not come to its end.
        let complete = self.complete;
        let mut forgotten = Vec::new();
        for (id, node) in &mut self.nodes {
            node.peers.retain(|slot, entry| {
                let stays = entry.list >= complete;
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

    /// Handles the record of a node.
    pub(in crate::rendezvous) fn handle_node(
        &mut self,
        run: &Run,
        record: NodeRecord,
        now: Instant,
    ) {
        self.is_superseded |= run.node == self.own.node && run.epoch > self.own.epoch;
        let list = self.list;
        let Some(node) = self.node(run) else {
            return;
        };
        (node.lease, node.leased_in) = (Some(now + LEASE), list);
        if node.trunk.as_ref() != Some(&record.trunk) {
            node.trunk = Some(record.trunk.clone());
            let reach = Event::Reach {
                node: node.number,
                id: run.node.clone(),
                address: record.trunk,
            };
            self.events.push_back(reach);
        }
        self.settle_node(&run.node);
    }

    /// Handles the record of a peer at another node. The record has been verified.
    pub(in crate::rendezvous) fn handle_peer(
        &mut self,
        run: &Run,
        slot: Slot,
        record: &PeerRecord,
        stamp: Stamp,
    ) {
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

    /// Returns whether there is room for a peer of another node.
    pub(in crate::rendezvous) fn has_room(&self, run: &Run, slot: Slot) -> bool {
        let node = self.nodes.get(&run.node);
        node.is_none_or(|node| {
            node.peers.len() < MAX_PEERS_OF_NODE || node.peers.contains_key(&slot)
        })
    }

    /// Returns whether the record of a peer needs no further handling, and notes that the directory has it. If a record
    /// of this node is wrong, it is written again. If it is of an earlier run of this node, it is deleted.
    pub(in crate::rendezvous) fn knows(
        &mut self,
        run: &Run,
        slot: Slot,
        record: &PeerRecord,
    ) -> bool {
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

    /// Handles the end of a key in the directory.
    pub(in crate::rendezvous) fn handle_deleted(&mut self, key: &Key) {
        let run = key.run();
        if *run == self.own {
            // Another client of the directory has deleted the record, so it is written again.
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

    /// Notes whether our trunk to a run of a node is open.
    pub(in crate::rendezvous) fn handle_trunk(&mut self, node: NodeNumber, is_open: bool) {
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

    /// Returns the node of a run, which is created if it is not known; `None` if a later run is known, or if the run is
    /// of this node. An earlier run is forgotten.
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

    /// Settles the peers of a node that may live now, or may no longer live.
    fn settle_node(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let lives = node.lives();
        if node.settled == lives {
            return;
        }
        node.settled = lives;
        // What the directory has of the node is kept. The node may come back, and nobody would report all of that
        // again.
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

    /// Finds out where a peer is now, and reports it if that has changed.
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
        // A hub whose peer joined elsewhere later still takes the peer for its own. So it gets an event in any case.
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

    /// Returns the next event that follows from what has happened.
    pub(in crate::rendezvous) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns what has to be written next. The result has to be [reported](Self::handle_written).
    pub(in crate::rendezvous) fn poll_write(&mut self) -> Option<Write> {
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
            Some(record) => {
                self.written.insert(slot);
                Write::Put(slot, record.clone())
            }
            None => Write::Delete(slot),
        })
    }

    /// Handles the result of a write. A write that has failed comes again.
    pub(in crate::rendezvous) fn handle_written(&mut self, write: &Write, is_done: bool) {
        match write {
            Write::Put(slot, _) | Write::Delete(slot) => {
                self.writing.remove(slot);
                if !is_done {
                    self.dirty.insert(*slot);
                } else if matches!(write, Write::Delete(_)) {
                    self.written.remove(slot);
                }
            }
            Write::Purge(key) if !is_done => {
                self.stale.insert(key.clone());
            }
            Write::Purge(_) => {}
        }
    }

    /// Returns whether another server was started later with this node's name.
    pub(in crate::rendezvous) fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// Returns the figures of the book.
    pub(in crate::rendezvous) fn status(&self) -> ClusterStatus {
        let of = |is: fn(&Node) -> bool| self.nodes.values().filter(|node| is(node)).count();
        ClusterStatus {
            nodes: of(Node::lives),
            trunks: of(|node| node.linked),
            remote_peers: self.remote_peers,
            unwritten: match self.is_superseded {
                true => 0,
                false => self.dirty.len() + self.writing.len() + self.stale.len(),
            },
            conflicts: self.conflicts,
            cuts: self.cuts,
            ..ClusterStatus::default()
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
