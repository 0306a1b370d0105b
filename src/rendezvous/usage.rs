//! The number of bytes that each peer has sent today.
//!
//! A peer is counted for as long as it is joined. Of the peers that have left, a bounded number is remembered: the
//! heaviest senders. A stranger with a million keys drives out a heavy sender only if most of these keys have sent more
//! than that peer. A peer that is driven out has sent no more than any peer that is remembered, and so no more than the
//! average of those.
//!
//! What a peer sends is counted in its own [`Meter`]. The table is locked only when a peer joins, leaves, or is listed.

mod meter;
mod table;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use libp2p_identity::PeerId;

pub(super) use self::meter::Meter;
use self::table::Table;
use super::{day::Day, ids};

/// The number of peers that have left and are remembered.
const MAX_LEFT: usize = 10_000;
/// The number of peers that are looked at while the lock is held.
const AT_ONCE: usize = 256;

/// The tenant and the peer. All ids of a peer have the same key.
type Key = (Option<Arc<str>>, PeerId);

/// What a peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUsage {
    /// The tenant in which it has joined; `None` for the default tenant.
    pub tenant: Option<Arc<str>>,
    /// The peer. If it has ever used the id that libp2p gives to its key today, it is that id.
    pub peer: PeerId,
    /// The number of bytes that it has sent to other peers since midnight in UTC.
    pub sent_today: u64,
    /// The approximate number of bytes a second that it has sent in the last ten seconds.
    pub sent_per_second: u64,
    /// The address from which it has joined last.
    pub client: IpAddr,
}

/// What is known of a peer in addition to what it has sent.
#[derive(Debug)]
struct About {
    peer: PeerId,
    client: IpAddr,
}

/// The counts of all peers, as seen by one tenant.
#[derive(Debug, Clone)]
pub(super) struct Usage {
    tenant: Option<Arc<str>>,
    table: Arc<Mutex<Table<Key, About>>>,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            tenant: None,
            table: Arc::new(Mutex::new(Table::new(MAX_LEFT))),
        }
    }
}

impl Usage {
    /// Returns the same counts, for peers that join this tenant.
    pub(super) fn of_tenant(&self, name: Arc<str>) -> Self {
        Self {
            tenant: Some(name),
            table: self.table.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<Key, About>> {
        // Nothing in there panics halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a peer that has joined.
    pub(super) fn enter(&self, peer: PeerId, client: IpAddr) -> CountedJoin {
        let hashed = ids::hashed_form(&peer);
        let key = (self.tenant.clone(), hashed.unwrap_or(peer));
        let mut table = self.lock();
        let (meter, about) = table.enter(&key, || About { peer, client });
        about.client = client;
        if hashed.is_some() {
            about.peer = peer;
        }
        let meter = meter.clone();
        drop(table);
        CountedJoin {
            entry: Some((self.clone(), key)),
            meter,
        }
    }

    /// Adds a peer that has joined without naming itself. It is counted, and forgotten when it leaves.
    pub(super) fn enter_unnamed(&self) -> CountedJoin {
        let meter = self.lock().new_meter();
        CountedJoin { entry: None, meter }
    }

    /// Returns the heaviest senders of today in all tenants, at most `most`, the largest first. It looks at some peers
    /// at a time, so a peer that joins or leaves meanwhile may be missing or not.
    pub(super) fn top(&self, most: usize, now: Instant, today: Day) -> Vec<PeerUsage> {
        let mut top = Top::new(most, now, today);
        while top.look_on(self) {}
        top.found
    }

    /// The same. Other tasks get their turns in between.
    #[cfg(feature = "rendezvous")]
    pub(super) async fn top_in_turns(
        &self,
        most: usize,
        now: Instant,
        today: Day,
    ) -> Vec<PeerUsage> {
        let mut top = Top::new(most, now, today);
        while top.look_on(self) {
            tokio::task::yield_now().await;
        }
        top.found
    }
}

/// The heaviest senders found so far.
struct Top {
    most: usize,
    now: Instant,
    today: Day,
    found: Vec<PeerUsage>,
    /// The last peer that was looked at.
    last: Option<Key>,
}

impl Top {
    fn new(most: usize, now: Instant, today: Day) -> Self {
        Self {
            most,
            now,
            today,
            found: Vec::new(),
            last: None,
        }
    }

    /// Looks at some more peers. Returns whether there may be others behind them.
    fn look_on(&mut self, usage: &Usage) -> bool {
        let (now, today, found) = (self.now, self.today, &mut self.found);
        let look = |key: &Key, meter: &Meter, about: &About| {
            let (sent_today, sent_per_second) = meter.sent(now, today);
            if sent_today > 0 {
                found.push(PeerUsage {
                    tenant: key.0.clone(),
                    peer: about.peer,
                    sent_today,
                    sent_per_second,
                    client: about.client,
                });
            }
        };
        self.last = usage.lock().look_from(self.last.as_ref(), AT_ONCE, look);
        self.found
            .sort_by_key(|usage| std::cmp::Reverse(usage.sent_today));
        self.found.truncate(self.most);
        self.last.is_some()
    }
}

/// A peer that is joined under one of its addresses, until this is dropped.
#[derive(Debug)]
pub(super) struct CountedJoin {
    /// The table and the key under which the peer is listed; `None` if it does not name itself.
    entry: Option<(Usage, Key)>,
    meter: Arc<Meter>,
}

impl CountedJoin {
    /// Returns the meter of the peer.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl Drop for CountedJoin {
    fn drop(&mut self) {
        if let Some((usage, key)) = &self.entry {
            usage.lock().leave(key);
        }
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
