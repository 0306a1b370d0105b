//! What the links of a transport do, counted.

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

use crate::{link::lock, protocol::stream::StreamError};

/// What a [`WebSocketStarTransport`](crate::WebSocketStarTransport) has done, to be looked at when the swarm has the transport. A
/// clone is of the same transport.
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

/// What a transport has done so far, and what it does now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Links to rendezvous that are open, in the order in which they were opened.
    pub links: Vec<LinkSnapshot>,
    /// Links that were opened.
    pub links_opened: u64,
    /// Links that were open, and are lost by an error.
    pub links_lost: u64,
    /// Attempts to open a link that have failed.
    pub links_failed: u64,
    /// Joins of listeners that a rendezvous has acknowledged, those after a lost link included.
    pub joins: u64,
    /// Joins of listeners that a rendezvous has refused, or not answered in time.
    pub joins_failed: u64,
    /// Dials that have become a connection.
    pub dials: u64,
    /// Dials that have failed, for whatever reason. One that was cancelled is none of either.
    pub dials_failed: u64,
    /// Connections of peers that have dialled us.
    pub accepted: u64,
    /// Dials of peers that were refused here: for example, there were as many connections as may be.
    pub refused: u64,
    /// Bytes of connections that were given to a link to be sent.
    pub sent_bytes: u64,
    /// Bytes of connections that have come.
    pub received_bytes: u64,
    resets: [u64; RESETS.len()],
}

/// A link that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkSnapshot {
    /// The URL of its rendezvous, without a path.
    pub rendezvous: Arc<str>,
    /// Listeners that have joined over it.
    pub joined: usize,
    /// Connections over it, and dials that are under way.
    pub streams: usize,
    /// How long the answer to the last heartbeat took, with all that went before it on the link. `None` before the first, which
    /// goes when the rendezvous wants it: after 25 s, mostly.
    pub round_trip: Option<Duration>,
}

/// Why a connection was reset, as [`StreamError`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// The other peer gave up.
    ByPeer,
    /// The link to the rendezvous was lost.
    LinkLost,
    /// What came was not read in time, and held up the whole link.
    ReaderStalled,
    /// The other peer did not accept the stream in time.
    NotAccepted,
    /// The other peer sent more than it was granted.
    CreditExceeded,
    /// The other peer kept credit that it did not use.
    CreditKept,
    /// The other peer sent what is no item.
    MalformedItem,
}

/// All reasons in their order, with the label of each.
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
    /// `None` where nobody reads any more, which is no reset.
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
    /// What is counted now. The numbers are read one after the other, and not at one moment.
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
    /// How many connections were reset for that reason.
    pub fn resets(&self, reason: Reset) -> u64 {
        self.resets.get(reason as usize).copied().unwrap_or(0)
    }
}

/// What all links count.
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
    /// A link is open, until that is dropped.
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

/// What one link counts.
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

    /// A stream is there, until that is dropped.
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
        // They are in the order of the reasons.
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
