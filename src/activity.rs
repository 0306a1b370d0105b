//! Counters of the bytes exchanged with each peer. [`direct`](crate::direct) uses them to close connections that are
//! quiet.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use libp2p_identity::PeerId;

/// The bytes of a yamux frame without data, such as the ping with which yamux measures the round trip: a header of 12
/// bytes, plus noise's length of 2 and tag of 16.
const HEADER: usize = 12 + 2 + 16;
/// The bytes of a libp2p ping, or of its answer, on an open stream: 32 bytes of data in such a frame.
const PING: usize = 32 + HEADER;
/// The number of remembered peers at which peers without a connection are first removed.
const PRUNE_AT: usize = 64;

/// The counters of all peers with a connection, by the peer id in the connection's address.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<Peers>);

#[derive(Debug)]
struct Peers {
    crossed: HashMap<PeerId, Weak<Crossed>>,
    prune_at: usize,
}

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new(Peers {
            crossed: HashMap::new(),
            prune_at: PRUNE_AT,
        }))
    }
}

impl Activity {
    /// Returns the counters for a new connection with `peer`. All connections with a peer share them.
    pub(crate) fn of(&self, peer: PeerId) -> Arc<Crossed> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crossed) = peers.crossed.get(&peer).and_then(Weak::upgrade) {
            return crossed;
        }
        if peers.crossed.len() >= peers.prune_at {
            peers
                .crossed
                .retain(|_, crossed| crossed.strong_count() > 0);
            peers.prune_at = PRUNE_AT.max(2 * peers.crossed.len());
        }
        let crossed = Arc::<Crossed>::default();
        peers.crossed.insert(peer, Arc::downgrade(&crossed));
        crossed
    }

    /// Returns what has crossed the connections with `peer`, or `None` if there are no connections.
    pub(crate) fn look(&self, peer: &PeerId) -> Option<Seen> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let crossed = peers.crossed.get(peer)?.upgrade()?;
        Some(Seen {
            pings: crossed.pings.load(Relaxed),
            other: crossed.other.load(Relaxed),
        })
    }
}

/// The counters of one peer, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Crossed {
    pings: AtomicU64,
    other: AtomicU64,
}

impl Crossed {
    /// Counts a finished read or write of this many bytes.
    pub(crate) fn add(&self, bytes: usize) {
        let count = if bytes == PING || bytes == HEADER {
            &self.pings
        } else {
            &self.other
        };
        count.fetch_add(bytes as u64, Relaxed);
    }
}

/// The counters of one peer at one time, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Bytes of reads and writes that had the length of a ping.
    pub(crate) pings: u64,
    pub(crate) other: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_peer_share_their_counts_and_the_last_one_takes_them_along() {
        let (activity, peer) = (Activity::default(), PeerId::random());
        let (one, two) = (activity.of(peer), activity.of(peer));
        one.add(PING);
        two.add(PING + 1);
        let seen = Seen {
            pings: 62,
            other: 63,
        };
        assert_eq!(activity.look(&peer), Some(seen));
        drop((one, two));
        assert_eq!(activity.look(&peer), None);
    }

    #[test]
    fn peers_without_a_connection_are_forgotten() {
        let activity = Activity::default();
        for _ in 0..10_000 {
            activity.of(PeerId::random());
        }
        let peers = activity.0.lock().expect("not poisoned");
        assert!(peers.crossed.len() <= PRUNE_AT, "{}", peers.crossed.len());
    }
}
