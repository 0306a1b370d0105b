//! Which peer addresses are announced at present: pure, `now` is passed in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use web_time::Instant;

use super::part::Part;
use crate::address::Rendezvous;

/// The shortest interval between two announcements, and the longest, so that three are a day.
const INTERVALS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(8 * 60 * 60)];

/// Of the capacity, the share of one rendezvous without a listener of ours, a guest, and that of all of them together:
/// strangers may have chosen them.
const GUEST_SHARE: usize = 16;
const GUESTS_SHARE: usize = 4;

/// The addresses of one peer beyond which none is listed at rendezvous without a listener of ours.
const MAX_ADDRESSES: usize = 8;

/// One peer at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
}

/// Where a peer is announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) rendezvous: &'a Rendezvous,
    /// Whether we listen there.
    pub(crate) listening: bool,
}

/// A listing that begins.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: Arc<Key>,
    /// Those that are not listed any more, to make room.
    pub(super) gave_way: Vec<Arc<Key>>,
}

/// The announced addresses.
///
/// An address is *listed* from its announcement until it expires. Where there is no room, a newcomer is listed when it is
/// announced and there is some: who is known stays known as long as it is announced, however many there are, and each
/// rendezvous has a part of its own.
///
/// Only the guests, the rendezvous without a listener of ours, share their room. When it is full, one without a link
/// gives way to the others, and then the one with the most addresses to those with fewer.
#[derive(Debug)]
pub(super) struct Table {
    local: PeerId,
    interval: Duration,
    capacity: usize,
    /// Numbers announcements, and listings by the announcement that began them.
    count: u64,
    parts: HashMap<Rendezvous, Part>,
    /// By the announcement that began the listing.
    by_listing: BTreeMap<u64, Arc<Key>>,
}

impl Table {
    /// `interval` is the shortest round that is believed of a rendezvous, from 20 ms to 8 h; `capacity` counts as 1 if
    /// it is 0.
    pub(super) fn new(local: PeerId, interval: Duration, capacity: usize) -> Self {
        let [shortest, longest] = INTERVALS;
        Self {
            local,
            interval: interval.clamp(shortest, longest),
            capacity: capacity.max(1),
            count: 0,
            parts: HashMap::new(),
            by_listing: BTreeMap::new(),
        }
    }

    /// Lists the address, or prolongs its listing; gives it if it was not listed before, and what gave way to it. The
    /// local peer's addresses are ignored, and each peer has one at each rendezvous.
    pub(super) fn announce(
        &mut self,
        place: Place<'_>,
        peer: PeerId,
        address: Multiaddr,
        now: Instant,
    ) -> Option<Listed> {
        if peer == self.local {
            return None;
        }
        self.count += 1;
        let part = match self.parts.get_mut(place.rendezvous) {
            Some(part) => part,
            None => self
                .parts
                .entry(place.rendezvous.clone())
                .or_insert_with(|| Part::new(self.interval, now)),
        };
        part.heard(now);
        part.listening = place.listening;
        if part.repeat(&peer, self.count, now) {
            return None;
        }
        let gave_way = self.make_room(place, &peer)?;
        let key = Arc::new(Key { peer, address });
        let part = self.parts.get_mut(place.rendezvous)?;
        part.list(&key, self.count, now);
        self.by_listing.insert(self.count, Arc::clone(&key));
        Some(Listed { key, gave_way })
    }

    /// Gives what had to give way, or `None` if there is no room.
    fn make_room(&mut self, place: Place<'_>, peer: &PeerId) -> Option<Vec<Arc<Key>>> {
        let here = self.parts.get(place.rendezvous).map_or(0, Part::len);
        if here >= room(self.capacity, place.listening) {
            return None;
        }
        if place.listening {
            return Some(Vec::new());
        }
        let addresses = self.parts.values().filter(|part| part.has(peer));
        let other_address = match addresses.count() < MAX_ADDRESSES {
            true => None,
            false => Some((self.closed_guest_of(peer)?, *peer)),
        };
        let guests = self.parts.values().filter(|part| !part.listening);
        let in_all = guests.map(Part::len).sum::<usize>();
        let is_full = in_all >= share(self.capacity, GUESTS_SHARE);
        let leaves = match (other_address, is_full) {
            (None, true) => Some(self.guest_that_gives_way(here)?),
            (other, _) => other,
        };
        let gave_way = leaves.and_then(|(at, peer)| self.retract(&at, &peer));
        Some(gave_way.into_iter().collect())
    }

    /// A guest without a link that lists this peer.
    fn closed_guest_of(&self, peer: &PeerId) -> Option<Rendezvous> {
        let mut parts = self.parts.iter();
        let (at, _) = parts.find(|(_, p)| !p.listening && p.is_closed() && p.has(peer))?;
        Some(at.clone())
    }

    /// Which peer, at which guest, leaves its room to a guest that lists so many.
    fn guest_that_gives_way(&self, here: usize) -> Option<(Rendezvous, PeerId)> {
        let guests = self.parts.iter().filter(|(_, part)| !part.listening);
        let (at, most) = guests
            .filter(|(_, part)| !part.is_empty())
            .max_by_key(|(_, part)| (part.is_closed(), part.len()))?;
        // With one more and one less, the two would only change places.
        let gives_way = most.is_closed() || most.len() > here + 1;
        gives_way.then_some((at.clone(), most.oldest()?))
    }

    /// Whether a peer is listed at a rendezvous.
    pub(super) fn lists(&self, at: &Rendezvous, peer: &PeerId) -> bool {
        self.parts.get(at).is_some_and(|part| part.has(peer))
    }

    /// Takes what has expired off the list.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<Key>> {
        let mut expired = Vec::new();
        for part in self.parts.values_mut() {
            while let Some((listing, key)) = part.expire_one(now) {
                self.by_listing.remove(&listing);
                expired.push(key);
            }
        }
        // Links that are open bound the number of the others.
        self.parts
            .retain(|_, part| !(part.is_closed() && part.is_empty()));
        expired
    }

    /// Takes a peer off the list of a rendezvous, if it is there.
    pub(super) fn retract(&mut self, at: &Rendezvous, peer: &PeerId) -> Option<Arc<Key>> {
        let (listing, key) = self.parts.get_mut(at)?.remove(peer)?;
        self.by_listing.remove(&listing);
        Some(key)
    }

    /// There is no link to a rendezvous any more: its peers expire after three rounds, however slow it may be; those of a
    /// guest three intervals from now at the latest.
    pub(super) fn close(&mut self, at: &Rendezvous, now: Instant) {
        if let Some(part) = self.parts.get_mut(at) {
            part.close(now);
        }
    }

    /// When the next listed address may expire if nothing is announced before.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let parts = self.parts.values();
        parts.filter_map(|part| part.next_expiry(now)).min()
    }

    /// How soon the next expiry may have been brought forward by announcements.
    pub(super) fn recheck(&self) -> Duration {
        self.interval
    }

    /// The first address whose listing began after `listing`, and when its own began. 0 is before all.
    pub(super) fn listed_after(&self, listing: u64) -> Option<(u64, &Arc<Key>)> {
        self.by_listing
            .range(listing.saturating_add(1)..)
            .next()
            .map(|(&listing, key)| (listing, key))
    }
}

/// How many peers are remembered at a rendezvous, where we listen or not.
pub(crate) fn room(capacity: usize, listening: bool) -> usize {
    match listening {
        true => capacity,
        false => share(capacity, GUEST_SHARE),
    }
}

fn share(capacity: usize, of: usize) -> usize {
    (capacity / of).max(1)
}

#[cfg(test)]
impl Table {
    /// The listed keys, after a check that all indices agree.
    pub(super) fn listed(&self) -> std::collections::BTreeSet<Key> {
        let listed: Vec<_> = self.parts.values().flat_map(Part::listed).collect();
        assert_eq!(listed.len(), self.by_listing.len());
        for (listing, key) in listed {
            assert_eq!(self.by_listing.get(&listing), Some(key));
        }
        let keys = self.by_listing.values();
        keys.map(|key| (**key).clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.listed();
        self.by_listing.len()
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
