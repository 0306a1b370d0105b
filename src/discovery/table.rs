//! The table of announced peer addresses. Pure: the caller passes `now`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use web_time::Instant;

use super::{key::Key, part::Part};
use crate::address::Rendezvous;

/// The bounds of the shortest believed round. At the upper bound, three rounds are a day.
const INTERVALS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(8 * 60 * 60)];

/// The shares of the capacity for guests, which are rendezvous without a listener of this node: one sixteenth for one
/// guest, and a quarter for all of them together. Strangers may have chosen these rendezvous.
const GUEST_SHARE: usize = 16;
const GUESTS_SHARE: usize = 4;

/// The maximum number of addresses of a peer. A peer with this many gets no further address at a guest.
const MAX_ADDRESSES: usize = 8;

/// The place of an announcement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) rendezvous: &'a Rendezvous,
    /// Whether this node listens there.
    pub(crate) listening: bool,
}

/// A listing that begins.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: Arc<Key>,
    /// Addresses that are no longer listed, to make room.
    pub(super) gave_way: Vec<Arc<Key>>,
}

/// The announced addresses.
///
/// An address is *listed* from its announcement until it expires. If there is no room, a newcomer is only listed when
/// it is announced while there is room. Known peers stay known as long as they are announced, however many newcomers
/// there are. Each rendezvous has its own part.
///
/// Only the guests, the rendezvous without a listener of this node, share their room. When it is full, a guest without
/// a link gives way first, and then the guest with the most addresses to those with fewer.
#[derive(Debug)]
pub(super) struct Table {
    local: PeerId,
    interval: Duration,
    capacity: usize,
    /// The number of announcements so far. An announcement is identified by its number, and a listing by the
    /// announcement that began it.
    count: u64,
    parts: HashMap<Rendezvous, Part>,
    /// The listed keys, by the announcement that began the listing.
    by_listing: BTreeMap<u64, Arc<Key>>,
}

impl Table {
    /// `interval` is the shortest believed round of a rendezvous, from 20 ms to 8 h. A `capacity` of 0 counts as 1.
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

    /// Lists the address or prolongs its listing. Returns the address if it was not listed before, with the addresses
    /// that gave way to it. The local peer's addresses are ignored, and each peer has one address at each rendezvous.
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

    /// Makes room for a peer. Returns the addresses that gave way, or `None` if there is no room.
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

    /// Returns a guest without a link that lists this peer.
    fn closed_guest_of(&self, peer: &PeerId) -> Option<Rendezvous> {
        let mut parts = self.parts.iter();
        let (at, _) = parts.find(|(_, p)| !p.listening && p.is_closed() && p.has(peer))?;
        Some(at.clone())
    }

    /// Returns the peer, and its guest, that gives way to a guest that lists `here` peers.
    fn guest_that_gives_way(&self, here: usize) -> Option<(Rendezvous, PeerId)> {
        let guests = self.parts.iter().filter(|(_, part)| !part.listening);
        let (at, most) = guests
            .filter(|(_, part)| !part.is_empty())
            .max_by_key(|(_, part)| (part.is_closed(), part.len()))?;
        // If the other guest listed only one peer more, the two would just exchange their roles.
        let gives_way = most.is_closed() || most.len() > here + 1;
        gives_way.then_some((at.clone(), most.oldest()?))
    }

    /// Returns whether a peer is listed at a rendezvous.
    pub(super) fn lists(&self, at: &Rendezvous, peer: &PeerId) -> bool {
        self.parts.get(at).is_some_and(|part| part.has(peer))
    }

    /// Removes the expired addresses and returns them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<Key>> {
        let mut expired = Vec::new();
        for part in self.parts.values_mut() {
            while let Some((listing, key)) = part.expire_one(now) {
                self.by_listing.remove(&listing);
                expired.push(key);
            }
        }
        // The number of open links bounds the remaining parts.
        self.parts
            .retain(|_, part| !(part.is_closed() && part.is_empty()));
        expired
    }

    /// Removes a peer from the list of a rendezvous. Returns its key if it was listed.
    pub(super) fn retract(&mut self, at: &Rendezvous, peer: &PeerId) -> Option<Arc<Key>> {
        let (listing, key) = self.parts.get_mut(at)?.remove(peer)?;
        self.by_listing.remove(&listing);
        Some(key)
    }

    /// Notes that there is no link to a rendezvous any more. Its peers expire after three rounds, even if it has become
    /// slower. The peers of a guest expire after three intervals at the latest.
    pub(super) fn close(&mut self, at: &Rendezvous, now: Instant) {
        if let Some(part) = self.parts.get_mut(at) {
            part.close(now);
        }
    }

    /// Returns when the next listed address may expire if nothing is announced before that.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let parts = self.parts.values();
        parts.filter_map(|part| part.next_expiry(now)).min()
    }

    /// Returns the time after which announcements may have brought the next expiry forward.
    pub(super) fn recheck(&self) -> Duration {
        self.interval
    }

    /// Returns the first address whose listing began after `listing`, and the number of its own listing. All numbers
    /// are greater than 0.
    pub(super) fn listed_after(&self, listing: u64) -> Option<(u64, &Arc<Key>)> {
        self.by_listing
            .range(listing.saturating_add(1)..)
            .next()
            .map(|(&listing, key)| (listing, key))
    }
}

/// Returns the maximum number of peers remembered at a rendezvous; `listening` says whether this node listens there.
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
    /// Returns the listed keys, after checking that all indices agree.
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
