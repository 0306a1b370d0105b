//! Counters of what the links of a transport do.

#[cfg(feature = "metrics")]
mod prometheus;

use std::{
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{protocol::stream::StreamError, sync::lock};

/// The counters of a [`WebSocketStarTransport`](crate::WebSocketStarTransport), which stay readable when a swarm has
/// taken the transport. Clones refer to the same transport.
///
/// With the feature `metrics` it is a collector for the registry of prometheus-client, which libp2p-metrics uses too:
///
/// ```
/// # #[cfg(feature = "metrics")] {
/// use libp2p_websocket_star::{Config, WebSocketStarTransport};
/// use prometheus_client::registry::Registry;
///
/// # let keypair = libp2p::identity::Keypair::generate_ed25519();
/// let star = WebSocketStarTransport::new(&keypair, Config::default());
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(star.metrics()));
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Metrics(pub(crate) Arc<Counts>);

/// The counters of a transport, and its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The open links to rendezvous, in the order in which they were opened.
    pub links: Vec<LinkSnapshot>,
    /// The number of links that were opened.
    pub links_opened: u64,
    /// The number of links that were open and were lost through an error.
    pub links_lost: u64,
    /// The number of attempts to open a link that failed.
    pub links_failed: u64,
    /// The number of joins of listeners that a rendezvous has acknowledged, including those after a lost link.
    pub joins: u64,
    /// The number of joins of listeners that a rendezvous has refused or not answered in time.
    pub joins_failed: u64,
    /// The number of dials that have become a connection.
    pub dials: u64,
    /// The number of dials that have failed, for whatever reason. A cancelled dial counts neither here nor as a
    /// connection.
    pub dials_failed: u64,
    /// The number of connections from peers that have dialled this node.
    pub accepted: u64,
    /// The number of dials from peers that this node has refused: for example, because the maximum number of
    /// connections was reached.
    pub refused: u64,
    /// The bytes of connections that were handed to a link to be sent.
    pub sent_bytes: u64,
    /// The bytes of connections that were received.
    pub received_bytes: u64,
    resets: [u64; RESETS.len()],
}

/// An open link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkSnapshot {
    /// The URL of the rendezvous, without a path.
    pub rendezvous: Arc<str>,
    /// The number of listeners that have joined over this link.
    pub joined: usize,
    /// The number of connections and pending dials over this link.
    pub streams: usize,
    /// The time that the answer to the last heartbeat took, including everything that was ahead of it on the link.
    /// `None` before the first heartbeat. The rendezvous sets the interval, usually 25 s.
    pub round_trip: Option<Duration>,
}

/// Why a connection was reset; see [`StreamError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// The other peer reset the stream.
    ByPeer,
    /// The link to the rendezvous was lost.
    LinkLost,
    /// Received data was not read in time, and held up the whole link.
    ReaderStalled,
    /// The other peer did not accept the stream in time.
    NotAccepted,
    /// The other peer sent more than it was granted.
    CreditExceeded,
    /// The other peer kept credit without using it.
    CreditKept,
    /// The other peer sent something that is not an item.
    MalformedItem,
}

/// All reasons in the order of the enum, each with its label.
const RESETS: [(Reset, &str); 7] = [
    (Reset::ByPeer, "by_peer"),
    (Reset::LinkLost, "link_lost"),
    (Reset::ReaderStalled, "reader_stalled"),
    (Reset::NotAccepted, "not_accepted"),
    (Reset::CreditExceeded, "credit_exceeded"),
    (Reset::CreditKept, "credit_kept"),
    (Reset::MalformedItem, "malformed_item"),
];

impl Reset {
    /// Returns the reason, or `None` for a stream that is no longer read, which is not a reset.
    pub(crate) fn of(error: &StreamError) -> Option<Self> {
        Some(match error {
            StreamError::ResetByPeer(_) => Self::ByPeer,
            StreamError::LinkLost => Self::LinkLost,
            StreamError::ReaderStalled => Self::ReaderStalled,
            StreamError::NotAccepted => Self::NotAccepted,
            StreamError::CreditExceeded => Self::CreditExceeded,
            StreamError::CreditKept => Self::CreditKept,
            StreamError::MalformedItem => Self::MalformedItem,
            StreamError::Stopped => return None,
        })
    }
}

impl Metrics {
    /// Returns the present values. They are read one after the other, not at a single moment.
    pub fn snapshot(&self) -> Snapshot {
        let counts = &self.0;
        let links = lock(&counts.links);
        Snapshot {
            links: links.iter().map(|link| link.snapshot()).collect(),
            links_opened: counts.links_opened.load(Relaxed),
            links_lost: counts.links_lost.load(Relaxed),
            links_failed: counts.links_failed.load(Relaxed),
            joins: counts.joins.load(Relaxed),
            joins_failed: counts.joins_failed.load(Relaxed),
            dials: counts.dials.load(Relaxed),
            dials_failed: counts.dials_failed.load(Relaxed),
            accepted: counts.accepted.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            sent_bytes: counts.sent_bytes.load(Relaxed),
            received_bytes: counts.received_bytes.load(Relaxed),
            resets: std::array::from_fn(|n| counts.resets[n].load(Relaxed)),
        }
    }
}

impl Snapshot {
    /// Returns the number of connections that were reset for this reason.
    pub fn resets(&self, reason: Reset) -> u64 {
        self.resets.get(reason as usize).copied().unwrap_or(0)
    }
}

/// The counters of all links.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    links: Mutex<Vec<Arc<LinkCounts>>>,
    links_opened: AtomicU64,
    pub(crate) links_lost: AtomicU64,
    pub(crate) links_failed: AtomicU64,
    pub(crate) joins: AtomicU64,
    pub(crate) joins_failed: AtomicU64,
    pub(crate) dials: AtomicU64,
    pub(crate) dials_failed: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    resets: [AtomicU64; RESETS.len()],
}

impl Counts {
    /// Counts a link as open until the returned value is dropped.
    pub(crate) fn open_link(self: &Arc<Self>, rendezvous: Arc<str>) -> OpenLink {
        let link = Arc::new(LinkCounts {
            all: self.clone(),
            rendezvous,
            joined: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            round_trip: Mutex::default(),
        });
        self.links_opened.fetch_add(1, Relaxed);
        lock(&self.links).push(link.clone());
        OpenLink(link)
    }
}

/// The counters of one link.
#[derive(Debug)]
pub(crate) struct LinkCounts {
    all: Arc<Counts>,
    rendezvous: Arc<str>,
    joined: AtomicUsize,
    streams: AtomicUsize,
    round_trip: Mutex<Option<Duration>>,
}

impl LinkCounts {
    fn snapshot(&self) -> LinkSnapshot {
        LinkSnapshot {
            rendezvous: self.rendezvous.clone(),
            joined: self.joined.load(Relaxed),
            streams: self.streams.load(Relaxed),
            round_trip: *lock(&self.round_trip),
        }
    }

    pub(crate) fn set_joined(&self, listeners: usize) {
        self.joined.store(listeners, Relaxed);
    }

    pub(crate) fn answered(&self, round_trip: Duration) {
        *lock(&self.round_trip) = Some(round_trip);
    }

    /// Counts a stream until the returned value is dropped.
    pub(crate) fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Relaxed);
        OpenStream(self.clone())
    }
}

/// A link that is counted as open.
#[derive(Debug)]
pub(crate) struct OpenLink(Arc<LinkCounts>);

impl Deref for OpenLink {
    type Target = Arc<LinkCounts>;

    fn deref(&self) -> &Arc<LinkCounts> {
        &self.0
    }
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        lock(&self.0.all.links).retain(|link| !Arc::ptr_eq(link, &self.0));
    }
}

/// A stream that is counted.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<LinkCounts>);

impl OpenStream {
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.all.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.0.all.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn reset(&self, reason: Reset) {
        // The counters are in the order of the reasons.
        if let Some(count) = self.0.all.resets.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_are_in_their_order() {
        for (n, (reason, _)) in RESETS.into_iter().enumerate() {
            assert_eq!(reason as usize, n, "{reason:?}");
        }
    }
}
