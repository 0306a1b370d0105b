//! Which peer addresses are announced at present: pure, `now` is passed in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

/// How many intervals a peer may go without an announcement.
const INTERVALS: u32 = 3;

/// The longest interval between two announcements that is believed, so that an address that went away
/// is listed for an hour at most. A longer gap says that the peer was absent, not that its rendezvous
/// is slow.
const MAX_INTERVAL: Duration = Duration::from_secs(20 * 60);

/// One peer at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) peer: PeerId,
    pub(super) address: Multiaddr,
}

/// What an announcement changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// The key, if it was not listed before.
    pub(super) listed: Option<Arc<Key>>,
    /// The listed key that had to make room.
    pub(super) unlisted: Option<Arc<Key>>,
}

/// The announced addresses.
///
/// An address is *listed* from its announcement until it expires. Afterwards it is only *remembered*:
/// a rendezvous that repeats a peer less often than three intervals is noticed only by who still
/// knows the last announcement. Listed and remembered addresses together are within the capacity;
/// the remembered ones make room first, then those announced the longest ago.
#[derive(Debug)]
pub(super) struct Table {
    local: PeerId,
    interval: Duration,
    capacity: usize,
    /// Numbers announcements, and listings by the announcement that began them.
    count: u64,
    entries: HashMap<Arc<Key>, Entry>,
    /// By (listed, last announcement): the first is the next to make room.
    by_recency: BTreeMap<(bool, u64), Arc<Key>>,
    /// By the announcement that began the listing.
    by_listing: BTreeMap<u64, Arc<Key>>,
    by_expiry: BTreeMap<(Instant, u64), Arc<Key>>,
}

#[derive(Debug)]
struct Entry {
    /// The number of the last announcement.
    last: u64,
    announced: Instant,
    /// The two latest gaps between announcements. One would not do: the join's answer and the first
    /// `ws-peer` name a peer twice at once, and that says nothing about the pace.
    gaps: [Duration; 2],
    expires: Instant,
    /// The announcement that began the listing; none if the address is only remembered.
    listing: Option<u64>,
}

impl Entry {
    fn recency(&self) -> (bool, u64) {
        (self.listing.is_some(), self.last)
    }
}

impl Table {
    /// `interval` counts as 20 minutes if it is longer, `capacity` as 1 if it is 0.
    pub(super) fn new(local: PeerId, interval: Duration, capacity: usize) -> Self {
        Self {
            local,
            interval: interval.min(MAX_INTERVAL),
            capacity: capacity.max(1),
            count: 0,
            entries: HashMap::new(),
            by_recency: BTreeMap::new(),
            by_listing: BTreeMap::new(),
            by_expiry: BTreeMap::new(),
        }
    }

    /// How long an address is listed at least after an announcement.
    pub(super) fn min_lifetime(&self) -> Duration {
        self.interval * INTERVALS
    }

    /// Lists the address, or prolongs its listing. The local peer's addresses are ignored.
    pub(super) fn announce(&mut self, peer: PeerId, address: Multiaddr, now: Instant) -> Announced {
        if peer == self.local {
            return Announced::default();
        }
        self.count += 1;
        let key = Key { peer, address };
        let (key, previous) = match self.entries.remove_entry(&key) {
            Some((key, entry)) => (key, Some(entry)),
            None => (Arc::new(key), None),
        };
        if let Some(previous) = &previous {
            self.unindex(previous);
        }
        let began = previous.as_ref().and_then(|entry| entry.listing);
        let entry = self.announced(previous.as_ref(), began.unwrap_or(self.count), now);
        self.index(&key, &entry);
        self.entries.insert(Arc::clone(&key), entry);
        Announced {
            listed: began.is_none().then_some(key),
            unlisted: self.make_room(),
        }
    }

    /// Takes what has expired off the list, and forgets what need not be remembered any more.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<Key>> {
        let mut expired = Vec::new();
        while let Some((&(at, _), key)) = self.by_expiry.first_key_value()
            && at <= now
        {
            let key = Arc::clone(key);
            self.remember(&key);
            expired.push(key);
        }
        while let Some((&(false, _), key)) = self.by_recency.first_key_value()
            && self
                .entries
                .get(key)
                .is_none_or(|entry| now.saturating_duration_since(entry.announced) > MAX_INTERVAL)
        {
            self.remove_first();
        }
        expired
    }

    /// Takes an address off the list, if it is listed. Nothing is remembered of it.
    pub(super) fn retract(&mut self, key: Key) -> Option<Arc<Key>> {
        let (key, entry) = self.entries.remove_entry(&key)?;
        self.unindex(&entry);
        entry.listing.map(|_| key)
    }

    /// When the next listed address expires if it is not announced before.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The first address whose listing began after `listing`, and when its own began. 0 is before all.
    pub(super) fn listed_after(&self, listing: u64) -> Option<(u64, &Arc<Key>)> {
        self.by_listing
            .range(listing.saturating_add(1)..)
            .next()
            .map(|(&listing, key)| (listing, key))
    }

    fn announced(&self, previous: Option<&Entry>, listing: u64, now: Instant) -> Entry {
        let gaps = previous.map_or_else(Default::default, |previous| {
            let gap = now.saturating_duration_since(previous.announced);
            if gap > MAX_INTERVAL {
                Default::default()
            } else {
                [gap, previous.gaps[0]]
            }
        });
        let interval = self.interval.max(gaps[0]).max(gaps[1]);
        Entry {
            last: self.count,
            announced: now,
            gaps,
            expires: now + interval * INTERVALS,
            listing: Some(listing),
        }
    }

    fn index(&mut self, key: &Arc<Key>, entry: &Entry) {
        self.by_recency.insert(entry.recency(), Arc::clone(key));
        if let Some(listing) = entry.listing {
            self.by_listing.insert(listing, Arc::clone(key));
            self.by_expiry
                .insert((entry.expires, listing), Arc::clone(key));
        }
    }

    fn unindex(&mut self, entry: &Entry) {
        self.by_recency.remove(&entry.recency());
        if let Some(listing) = entry.listing {
            self.by_listing.remove(&listing);
            self.by_expiry.remove(&(entry.expires, listing));
        }
    }

    fn remember(&mut self, key: &Arc<Key>) {
        if let Some((key, mut entry)) = self.entries.remove_entry(key) {
            self.unindex(&entry);
            entry.listing = None;
            self.index(&key, &entry);
            self.entries.insert(key, entry);
        }
    }

    /// Removes an entry if there is one too many; gives its key if it was listed.
    fn make_room(&mut self) -> Option<Arc<Key>> {
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (key, entry) = self.remove_first()?;
        entry.listing.map(|_| key)
    }

    fn remove_first(&mut self) -> Option<(Arc<Key>, Entry)> {
        let (_, key) = self.by_recency.pop_first()?;
        let (key, entry) = self.entries.remove_entry(&key)?;
        self.unindex(&entry);
        Some((key, entry))
    }
}

#[cfg(test)]
impl Table {
    /// The listed keys, after a check that all indices agree.
    pub(super) fn listed(&self) -> std::collections::BTreeSet<Key> {
        let listed = self.entries.values().filter(|e| e.listing.is_some());
        assert_eq!(self.by_recency.len(), self.entries.len());
        assert_eq!(self.by_listing.len(), listed.clone().count());
        assert_eq!(self.by_expiry.len(), self.by_listing.len());
        for (key, entry) in &self.entries {
            assert_eq!(self.by_recency.get(&entry.recency()), Some(key));
            if let Some(listing) = entry.listing {
                assert_eq!(self.by_listing.get(&listing), Some(key));
                assert_eq!(self.by_expiry.get(&(entry.expires, listing)), Some(key));
            }
        }
        self.by_listing
            .values()
            .map(|key| (**key).clone())
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
