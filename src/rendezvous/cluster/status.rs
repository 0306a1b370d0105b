//! What a node knows of its cluster, in numbers.

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::node::NodeId;

/// What a node of a cluster knows of the others at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Whether the directory is watched: changes at other nodes are heard of.
    pub is_watched: bool,
    /// How long ago the directory has shown last that it is up to date. `None` before the first time.
    pub directory_age: Option<Duration>,
    /// How many other nodes there are: those whose lease is in the directory, or to which a trunk is open.
    pub nodes: usize,
    /// To how many of them our trunk is open.
    pub trunks: usize,
    /// How many peers are joined at other nodes, in all tenants.
    pub remote_peers: usize,
    /// How many of them are not announced at the moment, since there are more than are announced; their turn comes.
    pub unannounced: usize,
    /// Of how many joins and leaves here the directory does not know yet.
    pub unwritten: usize,
    /// How many joins here have lost against a later one of the same peer at another node.
    pub conflicts: u64,
    /// How many trunks of ours were cut.
    pub cuts: u64,
    /// How many records of other nodes were of no use: malformed, from the future, or without a proof.
    pub bad_records: u64,
    /// Our trunks to the others, by their names.
    pub each: Vec<TrunkStatus>,
}

/// Our trunk to another node. What that node sends for its own clients is on its trunk to us, and counted there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrunkStatus {
    /// The name of the other node.
    pub node: NodeId,
    /// Whether it is open.
    pub is_open: bool,
    /// How long the other node took to answer the last time.
    pub round_trip: Option<Duration>,
    /// How many links here have a stream on it.
    pub streams: usize,
    /// How many of these have more to send than the other node takes at the moment.
    pub stalled: usize,
    /// How many bytes were sent on its streams.
    pub sent_bytes: u64,
    /// How many bytes were received on its streams.
    pub received_bytes: u64,
    /// How often it was cut, by reason.
    pub cuts: Vec<(Cut, u64)>,
}

/// Why a trunk was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cut {
    /// The other node has ended it in order.
    Closed,
    /// The connection was lost.
    Lost,
    /// The other node did not answer in time.
    Silent,
}

impl Cut {
    const ALL: [Self; 3] = [Self::Closed, Self::Lost, Self::Silent];
}

/// As it is written in `/metrics`.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Silent => "silent",
        })
    }
}

/// What is counted of a trunk.
#[derive(Debug, Default)]
pub(super) struct TrunkCounts {
    /// In microseconds; 0 before the first answer.
    round_trip: AtomicU64,
    pub(super) streams: AtomicUsize,
    pub(super) stalled: AtomicUsize,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    cuts: [AtomicU64; Cut::ALL.len()],
}

impl TrunkCounts {
    pub(super) fn answered(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.round_trip.store(micros.max(1), Ordering::Relaxed);
    }

    pub(super) fn cut(&self, why: Cut) {
        if let Some(count) = self.cuts.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn status(&self, node: NodeId, is_open: bool) -> TrunkStatus {
        let round_trip = self.round_trip.load(Ordering::Relaxed);
        let cuts = Cut::ALL.into_iter().zip(&self.cuts);
        TrunkStatus {
            node,
            is_open,
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
