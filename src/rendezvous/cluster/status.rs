//! Figures about the cluster, as a node knows them.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::node::NodeId;

/// What a node of a cluster knows of the others at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Whether the directory is watched, so that changes at other nodes become known.
    pub is_watched: bool,
    /// The time since the directory last showed that it is up to date; `None` before the first time.
    pub directory_age: Option<Duration>,
    /// The number of other nodes: those whose lease is in the directory, or to which a trunk is open.
    pub nodes: usize,
    /// The number of other nodes to which our trunk is open.
    pub trunks: usize,
    /// The number of peers that are joined at other nodes, in all tenants.
    pub remote_peers: usize,
    /// The number of these peers that are not announced at the moment, because there are more than can be announced.
    /// Their turn comes.
    pub unannounced: usize,
    /// The number of joins and leaves here that are not in the directory yet.
    pub unwritten: usize,
    /// The number of joins here that lost against a later join of the same peer at another node.
    pub conflicts: u64,
    /// How many times a trunk of ours was cut.
    pub cuts: u64,
    /// The number of records of other nodes that could not be used: malformed, from the future, without a proof, or too
    /// many.
    pub bad_records: u64,
    /// Our trunks to the other nodes, sorted by name.
    pub each: Vec<TrunkStatus>,
}

/// Our trunk to another node. What that node sends for its own clients goes over its trunk to us, and is counted there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrunkStatus {
    /// The name of the other node.
    pub node: NodeId,
    /// Whether the trunk is open.
    pub is_open: bool,
    /// How long the last answer of the other node took.
    pub round_trip: Option<Duration>,
    /// The number of links here that have a stream on the trunk.
    pub streams: usize,
    /// The number of these links that have more to send than the other node takes at the moment.
    pub stalled: usize,
    /// The number of bytes sent on the trunk's streams.
    pub sent_bytes: u64,
    /// The number of bytes received on the trunk's streams.
    pub received_bytes: u64,
    /// How many times the trunk was cut, by reason.
    pub cuts: Vec<(Cut, u64)>,
}

/// Why a trunk was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cut {
    /// The other node has closed the trunk in order.
    Closed,
    /// The connection was lost.
    Lost,
    /// The other node did not answer in time.
    Silent,
}

impl Cut {
    const ALL: [Self; 3] = [Self::Closed, Self::Lost, Self::Silent];
}

/// Writes the reason as in `/metrics`.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Silent => "silent",
        })
    }
}

/// The state of a trunk, and its counters.
#[derive(Debug, Default)]
pub(in crate::rendezvous) struct TrunkCounts {
    is_open: AtomicBool,
    /// How long the last answer took, in microseconds; 0 before the first answer.
    round_trip: AtomicU64,
    pub(in crate::rendezvous) streams: AtomicUsize,
    pub(in crate::rendezvous) stalled: AtomicUsize,
    pub(in crate::rendezvous) sent: AtomicU64,
    pub(in crate::rendezvous) received: AtomicU64,
    cuts: [AtomicU64; Cut::ALL.len()],
}

/// A trunk while it is open. It is not open any more when this is dropped, whatever ends its task.
pub(in crate::rendezvous) struct OpenTrunk<'a>(&'a TrunkCounts);

impl Drop for OpenTrunk<'_> {
    fn drop(&mut self) {
        self.0.is_open.store(false, Ordering::Relaxed);
    }
}

impl TrunkCounts {
    pub(in crate::rendezvous) fn answered(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(micros.max(1), Ordering::Relaxed);
    }

    /// Notes that the trunk is open, until the returned value is dropped.
    pub(in crate::rendezvous) fn open(&self) -> OpenTrunk<'_> {
        self.is_open.store(true, Ordering::Relaxed);
        OpenTrunk(self)
    }

    pub(in crate::rendezvous) fn cut(&self, why: Cut) {
        if let Some(count) = self.cuts.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::rendezvous) fn status(&self, node: NodeId) -> TrunkStatus {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        let cuts = Cut::ALL.into_iter().zip(&self.cuts);
        TrunkStatus {
            node,
            is_open: self.is_open.load(Ordering::Relaxed),
            round_trip: (round_trip > 0).then(|| Duration::from_micros(round_trip)),
            streams: self.streams.load(Ordering::Relaxed),
            stalled: self.stalled.load(Ordering::Relaxed),
            sent_bytes: self.sent.load(Ordering::Relaxed),
            received_bytes: self.received.load(Ordering::Relaxed),
            cuts: cuts
                .map(|(why, count)| (why, count.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}
