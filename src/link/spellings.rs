//! How the peers at a rendezvous spell their addresses.
//!
//! A rendezvous compares addresses byte for byte, and knows each peer by the address that it joined with. Whose
//! host need not be the one that we know the rendezvous by: what counts is who was heard of here.

use std::collections::{BTreeMap, HashMap, VecDeque};

use libp2p_identity::PeerId;

use crate::address::{Rendezvous, StarAddr};

/// How many spellings of one peer are remembered; the deployed nodes join with one.
const MAX_SPELLINGS: usize = 4;

/// The spellings of the peers that were announced on a link.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    by_peer: HashMap<PeerId, Known>,
    /// By the number of the last announcement.
    by_age: BTreeMap<u64, PeerId>,
    count: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// Those at the link's own rendezvous, the latest first.
    own: VecDeque<String>,
    /// Those under another host, of the peer's choice, the oldest first.
    foreign: VecDeque<String>,
    /// The number of the last announcement.
    last: u64,
}

impl Known {
    fn note(&mut self, spelling: String, is_own: bool) {
        if !is_own {
            // What has proved good is not pushed out by what comes later.
            let has_room = self.own.len() + self.foreign.len() < MAX_SPELLINGS;
            if has_room && !self.foreign.contains(&spelling) {
                self.foreign.push_back(spelling);
            }
        } else if self.own.front() != Some(&spelling) {
            self.own.retain(|known| *known != spelling);
            self.own.push_front(spelling);
            self.own.truncate(MAX_SPELLINGS);
            self.foreign.truncate(MAX_SPELLINGS - self.own.len());
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.own.iter().chain(&self.foreign)
    }
}

/// Whether an address is one at the rendezvous `here`, perhaps in another spelling.
fn is_own(address: &StarAddr, here: &Rendezvous) -> bool {
    address.rendezvous() == here || address.rendezvous().is_same_server(here)
}

impl Spellings {
    /// A peer was announced at this address on the link to `here`.
    ///
    /// Where as many peers as there is `room` for are known, another one takes the place of the one that was announced the
    /// longest ago, if discovery does not list that any more. Otherwise it stays unknown; its usual spelling is tried all the
    /// same.
    pub(super) fn note(
        &mut self,
        address: &StarAddr,
        here: &Rendezvous,
        room: usize,
        is_listed: impl FnOnce(&PeerId) -> bool,
    ) {
        let Some(peer) = address.peer() else { return };
        if self.by_peer.len() >= room && !self.by_peer.contains_key(&peer) {
            match self.by_age.first_key_value() {
                Some((_, oldest)) if !is_listed(oldest) => {
                    let oldest = *oldest;
                    self.forget(&oldest);
                }
                _ => return,
            }
        }
        self.count += 1;
        let known = self.by_peer.entry(peer).or_default();
        self.by_age.remove(&known.last);
        known.last = self.count;
        self.by_age.insert(known.last, peer);
        known.note(address.to_wire(), is_own(address, here));
    }

    /// The link is a new one: what was announced on the last one may have changed.
    pub(super) fn clear(&mut self) {
        self.by_peer.clear();
        self.by_age.clear();
    }

    /// Whether a peer was announced at this very address.
    pub(super) fn has(&self, address: &StarAddr) -> bool {
        let known = address.peer().and_then(|peer| self.by_peer.get(&peer));
        let mut spellings = known.into_iter().flat_map(Known::all);
        spellings.any(|spelling| {
            // Of one address there are several spellings.
            StarAddr::from_wire(spelling)
                .is_ok_and(|known| known.rendezvous() == address.rendezvous())
        })
    }

    /// The peer is not here any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(known) = self.by_peer.remove(peer) {
            self.by_age.remove(&known.last);
        }
    }

    /// What to dial for `to` at `here`, in this order: what the peer was announced as at this rendezvous; what it usually would
    /// be; what it was announced as under other hosts; and what `to` says. Of what the peer was announced as, what `to` says
    /// goes first.
    ///
    /// Other hosts go last because the first dial costs the least, and because a peer that is here in its own name is meant
    /// before one that has come with another.
    pub(super) fn of(&self, to: &StarAddr, here: &Rendezvous) -> VecDeque<String> {
        let wire = to.to_wire();
        let usual = to.with_rendezvous(here).to_wire();
        let known = to.peer().and_then(|peer| self.by_peer.get(&peer));
        let asked_first = |known: &VecDeque<String>| {
            let asked = known.contains(&wire).then(|| wire.clone());
            asked.into_iter().chain(known.clone())
        };
        let own = known.into_iter().flat_map(|known| asked_first(&known.own));
        let foreign = known
            .into_iter()
            .flat_map(|known| asked_first(&known.foreign));
        let all = own.chain([usual]).chain(foreign).chain([wire.clone()]);
        let mut spellings = VecDeque::new();
        for spelling in all {
            if !spellings.contains(&spelling) {
                spellings.push_back(spelling);
            }
        }
        spellings
    }
}

#[cfg(test)]
#[path = "spellings_tests.rs"]
mod tests;
