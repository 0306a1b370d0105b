//! How the peers at a rendezvous spell their addresses.
//!
//! A rendezvous compares addresses byte for byte, and knows each peer by the address that it joined with. Whose
//! host need not be the one that we know the rendezvous by: what counts is who was heard of here.

use std::collections::{HashMap, VecDeque};

use libp2p_identity::PeerId;

use crate::address::{Rendezvous, StarAddr};

/// How many spellings of one peer are remembered; the deployed nodes join with one.
const MAX_SPELLINGS: usize = 4;

/// The spellings of the peers that were announced on a link.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    capacity: usize,
    /// The latest first.
    by_peer: HashMap<PeerId, VecDeque<String>>,
}

impl Spellings {
    /// Remembers at most `capacity` peers.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            by_peer: HashMap::new(),
        }
    }

    /// A peer was announced at an address of this spelling.
    pub(super) fn note(&mut self, peer: PeerId, spelling: String) {
        if self.by_peer.len() >= self.capacity && !self.by_peer.contains_key(&peer) {
            // Any one: its usual spelling is tried all the same.
            let evicted = self.by_peer.keys().next().copied();
            evicted.map(|evicted| self.by_peer.remove(&evicted));
        }
        let spellings = self.by_peer.entry(peer).or_default();
        if spellings.front() == Some(&spelling) {
            return;
        }
        spellings.retain(|known| *known != spelling);
        spellings.push_front(spelling);
        spellings.truncate(MAX_SPELLINGS);
    }

    /// The link is a new one: what was announced on the last one may have changed.
    pub(super) fn clear(&mut self) {
        self.by_peer.clear();
    }

    /// Whether a peer was announced at this very address.
    pub(super) fn has(&self, address: &StarAddr) -> bool {
        let known = address.peer().and_then(|peer| self.by_peer.get(&peer));
        known.into_iter().flatten().any(|spelling| {
            // Of one address there are several spellings.
            StarAddr::from_wire(spelling)
                .is_ok_and(|known| known.rendezvous() == address.rendezvous())
        })
    }

    /// The peer is not here any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.by_peer.remove(peer);
    }

    /// What to dial for `to` at `here`, in this order: what it says if the peer was announced so, what the peer was
    /// announced as, what it says, and the same at `here`, which is another where a DNS transport has resolved it.
    pub(super) fn of(&self, to: &StarAddr, here: &Rendezvous) -> VecDeque<String> {
        let wire = to.to_wire();
        let known = to.peer().and_then(|peer| self.by_peer.get(&peer));
        let mut spellings = known.cloned().unwrap_or_default();
        if spellings.contains(&wire) {
            spellings.retain(|spelling| *spelling != wire);
            spellings.push_front(wire);
        } else {
            spellings.push_back(wire);
        }
        let usual = to.with_rendezvous(here).to_wire();
        if !spellings.contains(&usual) {
            spellings.push_back(usual);
        }
        spellings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, peer: PeerId) -> String {
        format!("/dns4/{host}/tcp/80/ws/p2p-websocket-star/ipfs/{peer}")
    }

    #[test]
    fn a_peer_is_dialled_as_asked_for_first_if_it_was_heard_of_so_and_else_last() {
        let mut spellings = Spellings::new(8);
        let peer = PeerId::random();
        let asked = StarAddr::from_wire(&at("a", peer)).expect("valid");
        let here = asked.rendezvous().clone();
        assert_eq!(spellings.of(&asked, &here), [at("a", peer)]);
        for host in ["b", "c", "b"] {
            spellings.note(peer, at(host, peer));
        }
        let known = spellings.of(&asked, &here);
        assert_eq!(known, ["b", "c", "a"].map(|h| at(h, peer)));
        for host in ["a", "d", "e"] {
            spellings.note(peer, at(host, peer));
        }
        let known = spellings.of(&asked, &here);
        assert_eq!(known, ["a", "e", "d", "b"].map(|h| at(h, peer)));
        assert!(spellings.has(&asked));
        assert!(!spellings.has(&asked.with_peer(PeerId::random())));
        spellings.forget(&peer);
        assert!(!spellings.has(&asked));
        let elsewhere = StarAddr::from_wire(&at("x", peer)).expect("valid");
        let known = spellings.of(&asked, elsewhere.rendezvous());
        assert_eq!(known, ["a", "x"].map(|h| at(h, peer)));
    }

    #[test]
    fn no_more_peers_are_remembered_than_may_be() {
        let mut spellings = Spellings::new(8);
        for _ in 0..100 {
            let peer = PeerId::random();
            spellings.note(peer, at("a", peer));
        }
        assert_eq!(spellings.by_peer.len(), 8);
    }
}
