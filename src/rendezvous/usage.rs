//! How much each peer has sent today.
//!
//! A peer is counted for as long as it is joined. Of those who have left, so many are remembered as sent most: a stranger
//! with a million keys drives out a big user only if most of these keys have sent more than that one. Whoever is driven out
//! has sent no more than any who is remembered, and so no more than all of those have on the average.
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

/// How many peers are remembered that have left.
const MAX_LEFT: usize = 10_000;
/// How many are looked at with the lock held.
const AT_ONCE: usize = 256;

/// The same key for all ids of a peer, in each tenant.
type Key = (Option<Arc<str>>, PeerId);

/// What a peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUsage {
    /// The tenant where it has joined; `None` if the server has none.
    pub tenant: Option<Arc<str>>,
    /// The peer, by the id that libp2p gives to its key today if it has ever used that one.
    pub peer: PeerId,
    /// How many bytes it has sent to other peers since midnight in UTC.
    pub sent_today: u64,
    /// How many bytes a second, about, in the last ten seconds.
    pub sent_per_second: u64,
    /// From where it has joined last.
    pub client: IpAddr,
}

/// What is told of a peer beside what it has sent.
#[derive(Debug)]
struct About {
    peer: PeerId,
    client: IpAddr,
}

/// What all peers have sent, as one tenant sees it.
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
    /// The same counts, for those who join there.
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

    /// A peer has joined.
    pub(super) fn enter(&self, peer: PeerId, client: IpAddr) -> Seat {
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
        Seat {
            entry: Some((self.clone(), key)),
            meter,
        }
    }

    /// Somebody has joined who does not say which peer it is. It is counted, and forgotten when it leaves.
    pub(super) fn enter_unnamed(&self) -> Seat {
        let meter = self.lock().new_meter();
        Seat { entry: None, meter }
    }

    /// Those of all tenants who have sent most today, at most so many, the largest first. Looks at some at a time; one that
    /// joins or leaves meanwhile may be there or not.
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

/// Those who have sent most, as far as they are found.
struct Top {
    most: usize,
    now: Instant,
    today: Day,
    found: Vec<PeerUsage>,
    /// Up to whom all have been looked at.
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

    /// Looks at some more. Whether there may be others behind them.
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

/// A peer that is joined, under one of its addresses, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    /// Where it is listed.
    entry: Option<(Usage, Key)>,
    meter: Arc<Meter>,
}

impl Seat {
    /// Where what the peer sends is counted.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((usage, key)) = &self.entry {
            usage.lock().leave(key);
        }
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
