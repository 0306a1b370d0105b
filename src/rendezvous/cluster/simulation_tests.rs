//! Simulates three nodes with simulated time: their registries and books, a directory that is late and fails, and
//! trunks that are cut. No sockets, no tasks, no sleeps.
//!
//! Peers join, move, leave and dial in random order. What the nodes send each other is delivered in random order, late,
//! twice, or after an outage. At any time, a peer only gets dials that were made, and from the address of a peer. When
//! everything is delivered, every node finds every peer where it joined last, and every peer reaches every other. When
//! all peers have left, no dials, links or peers remain.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use libp2p_identity::Keypair;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    book::{Book, Event as BookEvent, NodeNumber, Write},
    clock::Clock,
    node::{Key, Run},
    record::{NodeRecord, PeerRecord},
};
use crate::{
    protocol::{
        event::{Event, StreamEvent},
        nonce::Stamp,
        socket_io::Packet,
    },
    rendezvous::{
        commons::Commons,
        config::Config,
        origin::Weights,
        registry::{Action, LinkId, Publication, Registry},
    },
};

const NODES: usize = 3;
const PEERS: usize = 4;

/// The other end of a link.
#[derive(Debug, Clone, Copy)]
enum End {
    /// A peer, by its number.
    Peer(usize),
    /// A link of another node.
    Node(usize, LinkId),
}

struct Node {
    run: Run,
    registry: Registry,
    book: Book,
    clock: Clock,
    links: BTreeMap<LinkId, End>,
    /// The number of changes of the directory that the node has seen.
    seen: usize,
    /// Whether its watch has to begin anew.
    lost: bool,
    /// The other nodes, by the numbers that they have at this node.
    numbers: BTreeMap<NodeNumber, usize>,
}

#[derive(Debug, Default)]
struct Peer {
    /// The node and the link on which the peer joined last.
    at: Option<(usize, LinkId)>,
    /// The messages that the peer got and that were not handled yet.
    heard: Vec<Value>,
}

struct World {
    now: Instant,
    numbers: Arc<AtomicU64>,
    nodes: Vec<Node>,
    keys: Vec<Keypair>,
    peers: Vec<Peer>,
    /// Every change of the directory. `None` is a deletion.
    directory: Vec<(Key, Option<Vec<u8>>)>,
    /// Whether the directory is down: it takes no writes and reports no changes.
    is_down: bool,
    /// The messages on their way on trunks, in order, by the node and the link that they are for.
    pipes: BTreeMap<(usize, LinkId), VecDeque<String>>,
    /// The pairs of nodes whose trunks are cut.
    cut: BTreeSet<(usize, usize)>,
    next_dial: usize,
    /// The ids of all dials so far.
    pending: BTreeSet<String>,
}

fn address(key: &Keypair) -> String {
    let peer = key.public().to_peer_id();
    format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{peer}")
}

impl World {
    fn new() -> Self {
        let numbers = Arc::new(AtomicU64::new(0));
        let config = Config::default();
        let clock = Clock::new(&"clock".parse().expect("a name"));
        let nodes = (0..NODES).map(|n| {
            let node = format!("node-{n}").parse().expect("a name");
            let clock = clock.of(&node);
            let run = Run { node, epoch: 1 };
            let registry = Registry::new(&config, Commons::new(config.limits()));
            Node {
                registry: registry.with_cluster(numbers.clone(), None, clock.clone()),
                book: Book::new(run.clone()),
                run,
                clock,
                links: BTreeMap::new(),
                seen: 0,
                lost: false,
                numbers: BTreeMap::new(),
            }
        });
        let mut world = Self {
            now: Instant::now(),
            nodes: nodes.collect(),
            numbers,
            keys: (0..PEERS).map(|_| Keypair::generate_ed25519()).collect(),
            peers: (0..PEERS).map(|_| Peer::default()).collect(),
            directory: Vec::new(),
            is_down: false,
            pipes: BTreeMap::new(),
            cut: BTreeSet::new(),
            next_dial: 0,
            pending: BTreeSet::new(),
        };
        for n in 0..NODES {
            world.lease(n);
        }
        world
    }

    fn lease(&mut self, n: usize) {
        let record = NodeRecord::new(format!("node-{n}:1"), 0).encode();
        self.directory
            .push((Key::Node(self.nodes[n].run.clone()), Some(record)));
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    fn next_link(&self) -> LinkId {
        LinkId(
            self.numbers
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        )
    }

    fn open(&mut self, n: usize, end: End) -> LinkId {
        let link = self.next_link();
        let claimant = Weights::default().claimant([192, 0, 2, 1].into());
        let node = &mut self.nodes[n];
        node.registry.handle_open(link, claimant, self.now);
        node.links.insert(link, end);
        link
    }

    fn close(&mut self, n: usize, link: LinkId) {
        let end = self.nodes[n].links.remove(&link);
        self.nodes[n].registry.handle_close(link);
        self.pipes.remove(&(n, link));
        if let Some(End::Node(other, there)) = end
            && self.nodes[other].links.contains_key(&there)
        {
            self.close(other, there);
        }
        self.act(n);
    }

    fn event(&mut self, n: usize, link: LinkId, ack: Option<u64>, event: Event<'_>) {
        let node = &mut self.nodes[n];
        if let Some(check) = node.registry.handle_event(link, event, ack, self.now) {
            node.registry.handle_checked(link, check.run(), self.now);
        }
        self.act(n);
    }

    /// Joins a peer at a node on a new link. The peer's old link is not notified.
    fn join(&mut self, peer: usize, n: usize) {
        let link = self.open(n, End::Peer(peer));
        let (key, address) = (self.keys[peer].clone(), address(&self.keys[peer]));
        let before = self.peers[peer].at.replace((n, link));
        self.peers[peer].heard.clear();
        let join = |data: String| Event::Join {
            address: address.clone(),
            data,
        };
        self.event(
            n,
            link,
            Some(1),
            join(hex::encode(key.public().encode_protobuf())),
        );
        let nonce = self.peers[peer]
            .heard
            .iter()
            .find_map(|told| told[1].as_str().filter(|nonce| nonce.len() == 72));
        let nonce = nonce.expect("a nonce").to_owned();
        self.peers[peer].heard.clear();
        let signature = key.sign(nonce.as_bytes()).expect("signs");
        self.event(n, link, Some(2), join(hex::encode(signature)));
        // The old link no longer belongs to the peer.
        if let Some((before, old)) = before
            && self.nodes[before].links.contains_key(&old)
        {
            self.close(before, old);
        }
    }

    fn leave(&mut self, peer: usize) {
        if let Some((n, link)) = self.peers[peer].at.take() {
            self.close(n, link);
        }
    }

    fn dial(&mut self, from: usize, to: usize) -> Option<String> {
        let (n, link) = self.peers[from].at?;
        let id = format!("d{}", self.next_dial);
        self.next_dial += 1;
        let event = json!([
            "ss-dial",
            address(&self.keys[from]),
            address(&self.keys[to]),
            id
        ]);
        self.pending.insert(id.clone());
        let ack = 1000 + self.next_dial;
        self.take(n, link, &format!("42{ack}{event}"));
        Some(id)
    }

    /// Handles a message of a link, at the link's node.
    fn take(&mut self, n: usize, link: LinkId, text: &str) {
        let packet = Packet::decode(&text[1..]).expect("a packet");
        match packet {
            Packet::Ack { id, json } => {
                self.nodes[n].registry.handle_ack(link, id, json);
                self.act(n);
            }
            Packet::Event { ack, json } => match Event::decode(json, false).expect("an event") {
                Event::Stream { stream, event } => {
                    let Some(route) = self.nodes[n].registry.route(link, stream) else {
                        return;
                    };
                    let is_over = route.is_over();
                    if let StreamEvent::End(_) = event {
                        self.nodes[n].registry.handle_end(link, stream);
                    }
                    if !is_over {
                        self.send(n, route.to, text.to_owned());
                    }
                    self.act(n);
                }
                event => self.event(n, link, ack, event),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message over a link of a node.
    fn send(&mut self, n: usize, link: LinkId, text: String) {
        match self.nodes[n].links.get(&link).copied() {
            Some(End::Peer(peer)) => self.tell(n, link, peer, &text),
            Some(End::Node(other, there)) => {
                self.pipes
                    .entry((other, there))
                    .or_default()
                    .push_back(text);
            }
            None => {}
        }
    }

    /// Delivers a message to a peer, which accepts every dial.
    fn tell(&mut self, n: usize, link: LinkId, peer: usize, text: &str) {
        let (ack, json) = match Packet::decode(&text[1..]).expect("a packet") {
            Packet::Event { ack, json } => (ack, json),
            Packet::Ack { json, .. } => (None, json),
            other => panic!("{other:?}"),
        };
        let value: Value = serde_json::from_str(json).expect("JSON");
        let is_current = self.peers[peer].at == Some((n, link));
        if value[0] == "ss-incomming" {
            assert!(self.pending.contains(value[1].as_str().expect("an id")));
            // The dialer's address must be that of one of the peers.
            assert!(self.keys.iter().any(|key| value[2] == address(key)));
            if is_current {
                let ack = ack.expect("asked for");
                self.take(n, link, &format!("43{ack}[]"));
            }
        }
        if is_current {
            self.peers[peer].heard.push(value);
        }
    }

    /// Carries out the actions of a node's registry, and all that follows from them.
    fn act(&mut self, n: usize) {
        while let Some(action) = self.nodes[n].registry.poll_action() {
            match action {
                Action::Send { to, text }
                | Action::Notify { to, text, .. }
                | Action::Offer { to, text, .. } => {
                    self.send(n, to, text);
                }
                Action::Welcome { to, welcome, .. } => self.send(n, to, welcome.encode()),
                Action::Idle(link) | Action::CloseWay(link) => self.close(n, link),
                Action::Open(new) => {
                    let other = self.nodes[n].numbers.get(&new.node).copied();
                    match other.filter(|other| !self.is_cut(n, *other)) {
                        Some(other) => {
                            let guest = self.open(other, End::Node(n, new.way));
                            let id = self.nodes[n].run.node.clone();
                            self.nodes[other].registry.handle_guest(guest, id);
                            self.nodes[n].links.insert(new.way, End::Node(other, guest));
                        }
                        None => {
                            let refusal =
                                crate::protocol::refusal::Refusal::Unreachable("cut".into());
                            self.nodes[n].registry.handle_no_way(new.way, &refusal);
                            self.nodes[n].registry.handle_close(new.way);
                        }
                    }
                }
                Action::Publish(Publication::Joined(record, stamp)) => {
                    self.nodes[n].book.handle_join(record, stamp);
                    self.pass_on(n);
                }
                Action::Publish(Publication::Left(address)) => {
                    self.nodes[n].book.handle_leave(None, &address);
                    self.pass_on(n);
                }
                Action::Announce(_) | Action::Joined { .. } | Action::Left(_) => {}
            }
        }
    }

    fn pass_on(&mut self, n: usize) {
        while let Some(event) = self.nodes[n].book.poll_event() {
            let node = &mut self.nodes[n];
            match event {
                BookEvent::Found {
                    address,
                    node: at,
                    stamp,
                    ..
                } => {
                    node.registry.handle_found(address, at, stamp, self.now);
                }
                BookEvent::Lost { address, .. } => node.registry.handle_lost(&address),
                BookEvent::Reach {
                    node: number, id, ..
                } => {
                    let other = id.as_str().trim_start_matches("node-");
                    let other: usize = other.parse().expect("a number");
                    node.numbers.insert(number, other);
                    if !self.is_cut(n, other) {
                        self.nodes[n].book.handle_trunk(number, true);
                    }
                }
                BookEvent::Gone { node: gone } => {
                    node.numbers.remove(&gone);
                }
            }
        }
        self.act(n);
    }

    /// Has a node do one write, which succeeds if the directory is up.
    fn write(&mut self, n: usize) {
        let Some(write) = self.nodes[n].book.poll_write() else {
            return;
        };
        if self.is_down {
            return self.nodes[n].book.handle_written(&write, false);
        }
        self.nodes[n].book.handle_written(&write, true);
        let own = |slot| Key::Peer(self.nodes[n].run.clone(), slot);
        let (key, value) = match write {
            Write::Put(slot, record) => (own(slot), Some(record.encode().into_bytes())),
            Write::Delete(slot) => (own(slot), None),
            Write::Purge(key) => (key, None),
        };
        self.directory.push((key, value));
    }

    /// Reports to a node the next change of the directory, or all that the directory has.
    fn hear(&mut self, n: usize) {
        if self.is_down {
            return;
        }
        if std::mem::take(&mut self.nodes[n].lost) {
            self.nodes[n].book.begin_list();
            let mut all: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
            for (key, value) in &self.directory {
                match value {
                    Some(value) => all.insert(key.clone(), value.clone()),
                    None => all.remove(key),
                };
            }
            for (key, value) in all {
                self.apply(n, &key, Some(&value));
            }
            self.nodes[n].seen = self.directory.len();
            self.nodes[n].book.end_list(self.now);
            self.pass_on(n);
            return;
        }
        let next = self.directory.get(self.nodes[n].seen).cloned();
        if let Some((key, value)) = next {
            self.nodes[n].seen += 1;
            self.apply(n, &key, value.as_deref());
        }
    }

    fn apply(&mut self, n: usize, key: &Key, value: Option<&[u8]>) {
        let node = &mut self.nodes[n];
        match (key, value) {
            (_, None) => node.book.handle_deleted(key),
            (Key::Node(run), Some(value)) => {
                let record = NodeRecord::decode(value).expect("a record");
                node.book.handle_node(run, record, self.now);
            }
            (Key::Peer(run, slot), Some(value)) => {
                let record = PeerRecord::decode(value).expect("a record");
                if !node.book.knows(run, *slot, &record) {
                    let verified = record.verify(&run.node, &node.clock, SystemTime::now());
                    let (stamp, _): (Stamp, _) = verified.expect("a good proof");
                    node.book.handle_peer(run, *slot, &record, stamp);
                }
            }
        }
        self.pass_on(n);
    }

    /// Delivers one message of a trunk.
    fn deliver(&mut self, which: usize) {
        let pipes: Vec<_> = self.pipes.keys().copied().collect();
        let Some((n, link)) = pipes.get(which % pipes.len().max(1)).copied() else {
            return;
        };
        let pipe = self.pipes.get_mut(&(n, link));
        let text = pipe.and_then(VecDeque::pop_front);
        if self.pipes.get(&(n, link)).is_some_and(VecDeque::is_empty) {
            self.pipes.remove(&(n, link));
        }
        if let Some(text) = text {
            self.take(n, link, &text);
        }
    }

    /// Cuts the trunks between two nodes, or opens them again.
    fn set_cut(&mut self, one: usize, other: usize, cut: bool) {
        if one == other || self.is_cut(one, other) == cut {
            return;
        }
        let pair = (one.min(other), one.max(other));
        match cut {
            true => self.cut.insert(pair),
            false => self.cut.remove(&pair),
        };
        for (n, at) in [(one, other), (other, one)] {
            let number = self.nodes[n].numbers.iter().find(|(_, node)| **node == at);
            if let Some((number, _)) = number {
                let number = *number;
                self.nodes[n].book.handle_trunk(number, !cut);
                self.pass_on(n);
            }
            if cut {
                let links = self.nodes[n].links.iter();
                let cut: Vec<LinkId> = links
                    .filter(|(_, end)| matches!(end, End::Node(node, _) if *node == at))
                    .map(|(link, _)| *link)
                    .collect();
                for link in cut {
                    self.close(n, link);
                }
            }
        }
    }

    fn pass_time(&mut self, by: Duration) {
        self.now += by;
        for n in 0..NODES {
            self.nodes[n].registry.handle_timeout(self.now);
            self.nodes[n].book.handle_timeout(self.now);
            self.pass_on(n);
        }
    }

    fn step(&mut self, (op, one, other): (u8, u8, u8)) {
        let (one, other) = (usize::from(one), usize::from(other));
        match op % 16 {
            0 | 1 => self.join(one % PEERS, other % NODES),
            2 => self.leave(one % PEERS),
            3 | 4 => {
                self.dial(one % PEERS, other % PEERS);
            }
            5 | 6 => self.write(one % NODES),
            7..=9 => self.hear(one % NODES),
            10 | 11 => self.deliver(one),
            12 => self.set_cut(one % NODES, other % NODES, other % 2 == 0),
            13 => self.is_down = one % 4 == 0,
            14 => self.nodes[one % NODES].lost |= other % 4 == 0,
            _ => self.pass_time(Duration::from_secs(other as u64 % 8)),
        }
        self.answered();
    }

    /// Forgets what the peers have heard.
    fn answered(&mut self) {
        for peer in &mut self.peers {
            peer.heard.clear();
        }
    }

    /// Repairs everything and delivers everything.
    fn settle(&mut self) {
        self.is_down = false;
        for one in 0..NODES {
            for other in 0..NODES {
                self.set_cut(one, other, false);
            }
        }
        for _ in 0..4 {
            while (0..NODES).any(|n| self.nodes[n].book.status().unwritten > 0) {
                (0..NODES).for_each(|n| self.write(n));
            }
            for n in 0..NODES {
                while self.nodes[n].lost || self.nodes[n].seen < self.directory.len() {
                    self.hear(n);
                }
            }
            while !self.pipes.is_empty() {
                self.deliver(0);
            }
        }
        self.pass_time(Duration::from_secs(60));
    }

    /// Checks that every node finds every peer, and that every peer reaches every other.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let joined: Vec<usize> = (0..PEERS)
            .filter(|peer| self.peers[*peer].at.is_some())
            .collect();
        for n in 0..NODES {
            let here = |peer: &usize| self.peers[*peer].at.is_some_and(|(at, _)| at == n);
            let local = joined.iter().filter(|peer| here(peer)).count();
            prop_assert_eq!(self.nodes[n].registry.peer_count(), local);
            prop_assert_eq!(self.nodes[n].registry.remote_peers(), joined.len() - local);
        }
        for from in &joined {
            for to in &joined {
                self.answered();
                let id = self.dial(*from, *to).expect("it has joined");
                while !self.pipes.is_empty() {
                    self.deliver(0);
                }
                let incoming = self.peers[*to].heard.iter().any(|told| told[1] == *id);
                prop_assert!(incoming, "{from} does not reach {to}");
                let accepted = self.peers[*from].heard.contains(&json!([]));
                prop_assert!(accepted, "{to} is not heard by {from}");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn in_the_end_everybody_finds_everybody(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check()?;
        // Nothing is left behind when all peers are gone.
        for peer in 0..PEERS {
            world.leave(peer);
        }
        world.settle();
        for node in &world.nodes {
            prop_assert_eq!(node.registry.dial_count(), 0);
            prop_assert_eq!(node.registry.peer_count() + node.registry.remote_peers(), 0);
            prop_assert_eq!(node.registry.link_count(), 0, "{:?}", node.links);
        }
    }
}
