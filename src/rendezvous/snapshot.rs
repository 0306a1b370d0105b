//! The state of a rendezvous at one moment, in numbers.

use super::{refusals::Refusals, registry::Counters, usage::PeerUsage};

/// The state of a server at one moment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// The number of links, joined or not.
    pub links: usize,
    /// The number of connections: the links, and those that ask for something else or for nothing yet.
    pub connections: usize,
    /// The addresses that are joined, as their peers spell them.
    pub peers: Vec<String>,
    /// The heaviest senders since midnight in UTC, at most ten peers, the largest first, where that
    /// [is counted](super::Config::with_top_peers). Peers that have left are included; of these, the 10,000 that have
    /// sent most are remembered.
    pub top_peers: Vec<PeerUsage>,
    /// The number of dials that are pending or open.
    pub dials: usize,
    /// The number of bytes that wait to be written, in steps of 4 KiB for each link.
    pub queued_bytes: usize,
    /// The number of bytes that all links hold of the memory that
    /// [`Limits::with_max_memory`](super::Limits::with_max_memory) bounds.
    pub memory_bytes: u64,
    /// The counts of what has happened so far.
    pub counters: Counters,
    /// The number of requests and links that were refused, and of links that were closed, by reason.
    pub refusals: Refusals,
    /// The number of announcements that were dropped because a link was behind.
    pub announcements_dropped: u64,
    /// The number of items that were relayed.
    pub relayed_items: u64,
    /// The number of bytes in these items.
    pub relayed_bytes: u64,
    /// The number of connections that ended because the code that serves them panicked, which is a bug of this crate.
    pub panics: u64,
    /// What the server knows of its cluster, if it is a node of one.
    #[cfg(feature = "cluster")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cluster")))]
    pub cluster: Option<super::cluster::ClusterStatus>,
}

impl Snapshot {
    /// Returns the sum of both, except for what is counted for all tenants together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            links: self.links + other.links,
            dials: self.dials + other.dials,
            counters: self.counters.plus(other.counters),
            refusals: self.refusals.plus(other.refusals),
            announcements_dropped: self.announcements_dropped + other.announcements_dropped,
            relayed_items: self.relayed_items + other.relayed_items,
            relayed_bytes: self.relayed_bytes + other.relayed_bytes,
            ..self
        }
    }
}
