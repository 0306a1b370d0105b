//! The spellings that the peers at a rendezvous use for their addresses.
//!
//! A rendezvous compares addresses byte for byte, and knows each peer by the address that the peer joined with. The
//! host in that address may differ from the host by which we know the rendezvous. So all spellings that were announced
//! on this link count.

use std::collections::{BTreeMap, HashMap, VecDeque};

use libp2p_identity::PeerId;

use crate::address::{Rendezvous, StarAddr};

/// The maximum number of spellings kept per peer. The deployed nodes join with one.
const MAX_SPELLINGS: usize = 4;

/// The spellings of the peers that were announced on a link.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    by_peer: HashMap<PeerId, Known>,
    /// The peers by the number of their last announcement.
    by_age: BTreeMap<u64, PeerId>,
    count: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// The spellings at the link's own rendezvous, the latest first.
    own: VecDeque<String>,
    /// The spellings under other hosts, which the peer chose, the oldest first.
    foreign: VecDeque<String>,
    /// The number of the last announcement.
    last: u64,
}

impl Known {
    fn note(&mut self, spelling: String, is_own: bool) {
        if !is_own {
            // Later spellings do not evict earlier ones, which have proved good.
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

/// Returns whether an address is at the rendezvous `here`, perhaps in another spelling.
fn is_own(address: &StarAddr, here: &Rendezvous) -> bool {
    address.rendezvous() == here || address.rendezvous().is_same_server(here)
}

impl Spellings {
    /// Records that a peer was announced at this address on the link to `here`.
    ///
    /// If `room` peers are known already, a new peer replaces the one whose last announcement is the oldest, if
    /// discovery does not list that one any more. Otherwise the new peer stays unknown. A dial still tries its usual
    /// spelling.
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

    /// Forgets everything for a new link, because what was announced on the last one may have changed.
    pub(super) fn clear(&mut self) {
        self.by_peer.clear();
        self.by_age.clear();
    }

    /// Returns whether a peer was announced at this address.
    pub(super) fn has(&self, address: &StarAddr) -> bool {
        let known = address.peer().and_then(|peer| self.by_peer.get(&peer));
        let mut spellings = known.into_iter().flat_map(Known::all);
        spellings.any(|spelling| {
            // One address has several spellings.
            StarAddr::from_wire(spelling)
                .is_ok_and(|known| known.rendezvous() == address.rendezvous())
        })
    }

    /// Forgets a peer that is not at the rendezvous any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(known) = self.by_peer.remove(peer) {
            self.by_age.remove(&known.last);
        }
    }

    /// Returns the spellings to dial for `to` at `here`, in this order: the announced spellings at this rendezvous; the
    /// usual spelling; the announced spellings under other hosts; and the spelling in `to`. If the spelling in `to` was
    /// announced, it goes first in its group.
    ///
    /// Other hosts go last because the first dial costs the least, and because a peer that is here under its own name
    /// takes precedence over one that joined under another name.
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
