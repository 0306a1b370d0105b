use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rendezvous::cluster::record::JoinProof;

fn run(name: &str, epoch: u64) -> Run {
    Run {
        node: name.parse().expect("a name"),
        epoch,
    }
}

fn stamp(node: &str, time: u64) -> Stamp {
    Stamp {
        time,
        node: run(node, 0).node.tag(),
    }
}

/// Returns a record as its node would write it. It has no signature, because the book does not verify records.
fn record(address: &str, node: &str, time: u64) -> PeerRecord {
    PeerRecord {
        tenant: None,
        address: address.into(),
        proof: JoinProof {
            key: Box::default(),
            nonce: stamp(node, time).nonce(address).into(),
            signature: Box::default(),
        },
    }
}

fn lease(book: &mut Book, of: &Run) -> Option<NodeNumber> {
    lease_at(book, of, Instant::now())
}

/// Returns the number of the node if the node has to be reached at a new address. That event is taken.
fn lease_at(book: &mut Book, of: &Run, now: Instant) -> Option<NodeNumber> {
    book.handle_node(of, NodeRecord::new("192.0.2.1:1".to_owned(), 0), now);
    let is_reach = |event: &Event| matches!(event, Event::Reach { .. });
    let at = book.events.iter().position(is_reach)?;
    match book.events.remove(at)? {
        Event::Reach { node, .. } => Some(node),
        _ => None,
    }
}

fn put(book: &mut Book, of: &Run, address: &str, time: u64) {
    let record = record(address, of.node.as_str(), time);
    let slot = record.slot();
    if !book.knows(of, slot, &record) {
        book.handle_peer(of, slot, &record, stamp(of.node.as_str(), time));
    }
}

fn delete(book: &mut Book, of: &Run, address: &str) {
    book.handle_deleted(&Key::Peer(of.clone(), Slot::of(None, address)));
}

fn join(book: &mut Book, address: &str, time: u64) {
    let node = book.own.node.as_str().to_owned();
    let record = record(address, &node, time);
    book.handle_join(Arc::new(record), stamp(&node, time));
}

fn found(address: &str, at: &str, node: u32, time: u64) -> Event {
    Event::Found {
        tenant: None,
        address: address.into(),
        node: NodeNumber(node),
        stamp: stamp(at, time),
    }
}

fn lost(address: &str) -> Event {
    Event::Lost {
        tenant: None,
        address: address.into(),
    }
}

fn events(book: &mut Book) -> Vec<Event> {
    std::iter::from_fn(|| book.poll_event()).collect()
}

/// Takes all writes. Returns the slot of each, and whether it is a put.
fn writes(book: &mut Book) -> Vec<(Slot, bool)> {
    let writes = std::iter::from_fn(|| {
        let write = book.poll_write()?;
        book.handle_written(&write, true);
        Some(write)
    });
    let writes = writes.map(|write| match write {
        Write::Put(slot, _) => (slot, true),
        Write::Delete(slot) => (slot, false),
        Write::Purge(key) => panic!("{key} is not of an earlier run"),
    });
    writes.collect()
}

#[test]
fn a_peer_of_a_node_with_a_lease_is_found_and_lost() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    // The peer may be reported before the lease of its node.
    put(&mut book, &b, "/p", 10);
    assert_eq!(events(&mut book), []);
    assert_eq!(lease(&mut book, &b), Some(NodeNumber(0)));
    assert_eq!(lease(&mut book, &b), None);
    assert_eq!(events(&mut book), [found("/p", "b", 0, 10)]);
    put(&mut book, &b, "/q", 11);
    delete(&mut book, &b, "/p");
    assert_eq!(events(&mut book), [found("/q", "b", 0, 11), lost("/p")]);
    assert_eq!(book.status().remote_peers, 1);
}

#[test]
fn a_node_is_gone_when_lease_and_trunk_are() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    let node = lease(&mut book, &b).expect("new");
    put(&mut book, &b, "/p", 10);
    book.handle_trunk(node, true);
    events(&mut book);
    book.handle_deleted(&Key::Node(b.clone()));
    assert_eq!(events(&mut book), []);
    book.handle_trunk(node, false);
    assert_eq!(events(&mut book), [lost("/p"), Event::Gone { node }]);
    // The node is back, with all that the directory has of it.
    assert_eq!(lease(&mut book, &b), Some(node));
    assert_eq!(events(&mut book), [found("/p", "b", 0, 10)]);
    let status = book.status();
    assert_eq!((status.nodes, status.trunks, status.cuts), (1, 0, 1));
}

#[test]
fn a_later_run_of_a_node_takes_the_place_of_an_earlier_one() {
    let (mut book, old, new) = (Book::new(run("a", 1)), run("b", 1), run("b", 2));
    lease(&mut book, &old);
    put(&mut book, &old, "/p", 10);
    events(&mut book);
    put(&mut book, &new, "/q", 20);
    let node = NodeNumber(0);
    assert_eq!(events(&mut book), [lost("/p"), Event::Gone { node }]);
    lease(&mut book, &new);
    assert_eq!(events(&mut book), [found("/q", "b", 1, 20)]);
    // What is left of the old run changes nothing.
    put(&mut book, &old, "/p", 30);
    book.handle_deleted(&Key::Node(old));
    assert_eq!(events(&mut book), []);
}

#[test]
fn the_newest_join_wins_wherever_it_is() {
    let mut book = Book::new(run("a", 1));
    let (b, c) = (run("b", 1), run("c", 1));
    lease(&mut book, &b);
    lease(&mut book, &c);
    join(&mut book, "/p", 10);
    assert_eq!(writes(&mut book), [(Slot::of(None, "/p"), true)]);
    put(&mut book, &b, "/p", 9);
    assert_eq!(events(&mut book), []);
    put(&mut book, &c, "/p", 11);
    assert_eq!(events(&mut book), [found("/p", "c", 1, 11)]);
    // The peer is no longer ours, and the other nodes have to learn that.
    assert_eq!(writes(&mut book), [(Slot::of(None, "/p"), false)]);
    assert_eq!(book.status().conflicts, 1);
    // A late leave here changes nothing, but the hub may have forgotten where the peer is.
    book.handle_leave(None, "/p");
    assert_eq!(events(&mut book), [found("/p", "c", 1, 11)]);
    assert_eq!(writes(&mut book), []);
    put(&mut book, &b, "/p", 12);
    assert_eq!(events(&mut book), [found("/p", "b", 0, 12)]);
    delete(&mut book, &b, "/p");
    assert_eq!(events(&mut book), [found("/p", "c", 1, 11)]);
    join(&mut book, "/p", 13);
    assert_eq!(events(&mut book), [lost("/p")]);
}

#[test]
fn what_a_list_lacks_is_written_anew_or_forgotten_in_a_while() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    let node = lease(&mut book, &b).expect("new");
    book.handle_trunk(node, true);
    for (address, time) in [("/p", 10), ("/q", 11)] {
        put(&mut book, &b, address, time);
    }
    join(&mut book, "/own", 12);
    events(&mut book);
    assert_eq!(writes(&mut book).len(), 1);
    let start = Instant::now();
    // The directory was wiped.
    book.begin_list();
    book.end_list(start);
    assert_eq!(writes(&mut book), [(Slot::of(None, "/own"), true)]);
    assert_eq!(events(&mut book), []);
    put(&mut book, &b, "/p", 10);
    let due = book.poll_timeout().expect("a deadline");
    assert_eq!(due, start + DOUBT);
    book.handle_timeout(due - Duration::from_nanos(1));
    assert_eq!(events(&mut book), []);
    book.handle_timeout(due);
    assert_eq!(events(&mut book), [lost("/q")]);
    assert_eq!(book.poll_timeout(), None);
}

#[test]
fn a_node_whose_lease_a_list_lacks_is_gone_unless_its_trunk_is_open() {
    let (mut book, b, c) = (Book::new(run("a", 1)), run("b", 1), run("c", 1));
    let linked = lease(&mut book, &b).expect("new");
    let other = lease(&mut book, &c).expect("new");
    book.handle_trunk(linked, true);
    book.begin_list();
    book.end_list(Instant::now());
    assert_eq!(events(&mut book), [Event::Gone { node: other }]);
}

#[test]
fn what_others_do_to_our_keys_is_undone() {
    let own = run("a", 1);
    let mut book = Book::new(own.clone());
    join(&mut book, "/p", 10);
    writes(&mut book);
    delete(&mut book, &own, "/p");
    assert_eq!(writes(&mut book), [(Slot::of(None, "/p"), true)]);
    // Another client of the directory has written another record for the peer, and a record of a peer that is not here.
    put(&mut book, &own, "/p", 11);
    put(&mut book, &own, "/q", 12);
    let mut done = writes(&mut book);
    done.sort();
    let mut expected = [(Slot::of(None, "/p"), true), (Slot::of(None, "/q"), false)];
    expected.sort();
    assert_eq!(done, expected);
    assert_eq!(events(&mut book), []);
    // A write that has failed comes again.
    join(&mut book, "/r", 13);
    let write = book.poll_write().expect("a write");
    assert_eq!(book.poll_write(), None);
    book.handle_written(&write, false);
    assert_eq!(writes(&mut book), [(Slot::of(None, "/r"), true)]);
}

#[test]
fn what_an_earlier_run_has_left_behind_is_deleted() {
    let mut book = Book::new(run("a", 2));
    put(&mut book, &run("a", 1), "/p", 10);
    let left = Key::Peer(run("a", 1), Slot::of(None, "/p"));
    let purge = Write::Purge(left);
    assert_eq!(book.poll_write(), Some(purge.clone()));
    assert_eq!(book.poll_write(), None);
    book.handle_written(&purge, false);
    assert_eq!(book.poll_write(), Some(purge));
    assert_eq!(events(&mut book), []);
}

#[test]
fn a_write_of_a_peer_waits_for_the_one_before() {
    let mut book = Book::new(run("a", 1));
    join(&mut book, "/p", 10);
    let put = book.poll_write().expect("a write");
    book.handle_leave(None, "/p");
    // Otherwise the delete could reach the directory before the put.
    assert_eq!(book.poll_write(), None);
    assert_eq!(book.status().unwritten, 2);
    book.handle_written(&put, true);
    assert_eq!(writes(&mut book), [(Slot::of(None, "/p"), false)]);
    assert_eq!(book.status().unwritten, 0);
}

#[test]
fn of_two_of_one_name_the_later_is_meant() {
    let mut book = Book::new(run("a", 2));
    join(&mut book, "/p", 10);
    assert_eq!(lease(&mut book, &run("a", 1)), None);
    assert!(!book.is_superseded());
    put(&mut book, &run("a", 3), "/p", 20);
    assert_eq!(lease(&mut book, &run("a", 3)), None);
    assert!(book.is_superseded());
    // This node writes nothing that the other one would have to correct.
    assert_eq!(writes(&mut book), []);
}

#[test]
fn a_peer_that_is_displaced_late_is_told_to_be_elsewhere_once_more() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    lease(&mut book, &b);
    put(&mut book, &b, "/p", 20);
    assert_eq!(events(&mut book), [found("/p", "b", 0, 20)]);
    // The peer got its nonce before that join and sent its signature after it. The hub keeps the peer until it gets
    // this event.
    join(&mut book, "/p", 10);
    assert_eq!(events(&mut book), [found("/p", "b", 0, 20)]);
    // Its record was never written.
    assert_eq!(writes(&mut book), []);
    // The peer joined and left before the book heard of either.
    book.handle_leave(None, "/p");
    assert_eq!(events(&mut book), [found("/p", "b", 0, 20)]);
}

#[test]
fn a_list_that_is_not_finished_has_no_deadline() {
    let mut book = Book::new(run("a", 1));
    book.begin_list();
    book.end_list(Instant::now());
    assert!(book.poll_timeout().is_some());
    book.begin_list();
    assert_eq!(book.poll_timeout(), None);
    book.abort_list();
    assert!(book.poll_timeout().is_some());
}

#[test]
fn what_comes_and_goes_while_nothing_is_written_leaves_nothing_to_write() {
    let mut book = Book::new(run("a", 1));
    for n in 0..1000 {
        join(&mut book, &format!("/{n}"), n);
        book.handle_leave(None, &format!("/{n}"));
    }
    assert_eq!(book.status().unwritten, 0);
    // A write that has failed may still have reached the directory.
    join(&mut book, "/p", 1);
    let write = book.poll_write().expect("a write");
    book.handle_leave(None, "/p");
    book.handle_written(&write, false);
    assert_eq!(writes(&mut book), [(Slot::of(None, "/p"), false)]);
    assert!(book.written.is_empty());
}

#[test]
fn a_list_that_is_not_finished_makes_the_book_forget_nothing() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    let start = Instant::now();
    book.begin_list();
    lease_at(&mut book, &b, start);
    put(&mut book, &b, "/p", 10);
    book.end_list(start);
    // The next list lacks the peer because it broke off.
    book.begin_list();
    book.abort_list();
    events(&mut book);
    book.handle_timeout(start + DOUBT);
    assert_eq!(events(&mut book), []);
    // A complete one lacks it because the peer is gone.
    book.begin_list();
    lease_at(&mut book, &b, start + DOUBT);
    book.end_list(start + DOUBT);
    book.handle_timeout(start + 2 * DOUBT);
    assert_eq!(events(&mut book), [lost("/p")]);
}

#[test]
fn a_lease_that_is_not_written_again_ends_but_not_while_nobody_can_write_any() {
    let (mut book, b) = (Book::new(run("a", 1)), run("b", 1));
    let start = Instant::now();
    let node = lease_at(&mut book, &b, start).expect("new");
    put(&mut book, &b, "/p", 10);
    events(&mut book);
    // The directory cannot be reached.
    let over = book.poll_timeout().expect("a deadline");
    assert_eq!(over, start + LEASE);
    book.handle_timeout(over);
    assert_eq!(events(&mut book), []);
    let later = book.poll_timeout().expect("a deadline");
    assert!(later > over);
    // The directory is back, and the other node is not.
    book.handle_echo(later);
    book.handle_timeout(later);
    assert_eq!(events(&mut book), [lost("/p"), Event::Gone { node }]);
    assert_eq!(book.poll_timeout(), None);
    // A lease that is renewed goes on.
    assert_eq!(lease_at(&mut book, &b, later), Some(node));
    assert_eq!(events(&mut book), [found("/p", "b", 0, 10)]);
    lease_at(&mut book, &b, later + Duration::from_secs(5));
    assert_eq!(book.poll_timeout(), Some(later + Duration::from_secs(35)));
}

/// A change that a book may have to handle.
#[derive(Debug, Clone)]
enum Step {
    Join(u8),
    Leave(u8),
    Put(u8, u8, u64),
    Delete(u8, u8),
    Lease(u8),
    Expire(u8),
    Trunk(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (peer, node) = (0_u8..4, 0_u8..3);
    prop_oneof![
        peer.clone().prop_map(Step::Join),
        peer.clone().prop_map(Step::Leave),
        (node.clone(), peer.clone(), 0_u64..40).prop_map(|(n, p, t)| Step::Put(n, p, t)),
        (node.clone(), peer).prop_map(|(n, p)| Step::Delete(n, p)),
        node.clone().prop_map(Step::Lease),
        node.clone().prop_map(Step::Expire),
        (node, any::<bool>()).prop_map(|(n, open)| Step::Trunk(n, open)),
    ]
}

/// The same as a book, written down as simply as possible.
#[derive(Default)]
struct Model {
    own: BTreeMap<u8, u64>,
    others: BTreeMap<(u8, u8), u64>,
    leased: [bool; 3],
    linked: [bool; 3],
}

impl Model {
    /// Returns the other node at which a peer is; `None` if the peer is at none.
    fn place(&self, peer: u8) -> Option<u8> {
        let lives = |node: u8| self.leased[usize::from(node)] || self.linked[usize::from(node)];
        let others = self
            .others
            .iter()
            .filter(|((node, p), _)| *p == peer && lives(*node));
        let name = |node: u8| stamp(NAMES[usize::from(node)], 0).node;
        let newest = others.max_by_key(|((node, _), time)| (**time, name(*node)));
        let ((node, _), time) = newest?;
        let own = self.own.get(&peer);
        let own = own.is_some_and(|own| (*own, stamp("a", 0).node) >= (*time, name(*node)));
        (!own).then_some(*node)
    }
}

const NAMES: [&str; 3] = ["b", "c", "d"];

proptest! {
    #[test]
    fn a_book_tells_what_a_simple_model_tells(steps in prop::collection::vec(step(), 0..60)) {
        let mut book = Book::new(run("a", 1));
        let mut model = Model::default();
        let mut told: BTreeMap<Arc<str>, NodeNumber> = BTreeMap::new();
        let mut numbers: BTreeMap<u8, NodeNumber> = BTreeMap::new();
        let name = |peer: u8| format!("/{peer}");
        let mut time = 0;
        for step in steps {
            time += 1;
            match step {
                Step::Join(peer) => {
                    join(&mut book, &name(peer), time);
                    model.own.insert(peer, time);
                }
                Step::Leave(peer) => {
                    book.handle_leave(None, &name(peer));
                    model.own.remove(&peer);
                }
                Step::Put(node, peer, at) => {
                    // This also makes an unknown node known, but the node does not live.
                    put(&mut book, &run(NAMES[usize::from(node)], 1), &name(peer), at);
                    model.others.insert((node, peer), at);
                }
                Step::Delete(node, peer) => {
                    delete(&mut book, &run(NAMES[usize::from(node)], 1), &name(peer));
                    model.others.remove(&(node, peer));
                }
                Step::Lease(node) => {
                    if let Some(number) = lease(&mut book, &run(NAMES[usize::from(node)], 1)) {
                        numbers.insert(node, number);
                    }
                    model.leased[usize::from(node)] = true;
                }
                Step::Expire(node) => {
                    book.handle_deleted(&Key::Node(run(NAMES[usize::from(node)], 1)));
                    model.leased[usize::from(node)] = false;
                }
                Step::Trunk(node, open) => {
                    let Some(number) = numbers.get(&node) else { continue };
                    book.handle_trunk(*number, open);
                    model.linked[usize::from(node)] = open;
                }
            }
            for event in events(&mut book) {
                match event {
                    Event::Found { address, node, .. } => {
                        told.insert(address, node);
                    }
                    Event::Lost { address, .. } => {
                        prop_assert!(told.remove(&address).is_some());
                    }
                    Event::Reach { .. } => {}
                    Event::Gone { node } => {
                        prop_assert!(!told.values().any(|at| *at == node));
                        // The node may come back, with the peers that it had.
                        let gone = numbers.iter().find(|(_, number)| **number == node);
                        if let Some((gone, _)) = gone.map(|(gone, number)| (*gone, *number)) {
                            numbers.remove(&gone);
                            model.linked[usize::from(gone)] = false;
                        }
                    }
                }
            }
            for peer in 0..4 {
                let place = model.place(peer);
                // A peer that has moved to another node is no longer here.
                if place.is_some() {
                    model.own.remove(&peer);
                }
                let at = told.get(&*name(peer)).copied();
                prop_assert_eq!(at, place.and_then(|node| numbers.get(&node).copied()), "{}", peer);
            }
            prop_assert_eq!(book.status().remote_peers, told.len());
        }
    }
}
