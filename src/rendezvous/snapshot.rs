//! What a rendezvous does at one moment, in numbers.

use super::{refusals::Refusals, registry::Counters, usage::PeerUsage};

/// What a server does at one moment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many links there are, joined or not.
    pub links: usize,
    /// How many connections there are: the links, and those that ask for something else or for nothing yet.
    pub connections: usize,
    /// The addresses that are joined, as their peers spell them.
    pub peers: Vec<String>,
    /// The ten peers at most that have sent most since midnight in UTC, the largest first, where that
    /// [is counted](super::Config::with_top_peers); those who have left included. Of these, the 10,000 that have sent most
    /// are remembered.
    pub top_peers: Vec<PeerUsage>,
    /// How many dials are pending or open.
    pub dials: usize,
    /// How many bytes wait to be written, in steps of 4 KiB for each link.
    pub queued_bytes: usize,
    /// How many bytes links hold of what [`Limits::with_max_memory`](super::Limits::with_max_memory) is for all
    /// of them.
    pub memory_bytes: u64,
    /// What has happened so far.
    pub counters: Counters,
    /// How many requests and links were refused, and links closed, by reason.
    pub refusals: Refusals,
    /// How many announcements were dropped because a link was behind.
    pub announcements_dropped: u64,
    /// How many items were relayed.
    pub relayed_items: u64,
    /// How many bytes they had.
    pub relayed_bytes: u64,
    /// How many connections ended because the code that serves them panicked, which is a bug of this crate.
    pub panics: u64,
    /// What it knows of its cluster, if it is a node of one.
    #[cfg(feature = "cluster")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cluster")))]
    pub cluster: Option<super::cluster::ClusterStatus>,
}

impl Snapshot {
    /// What is here or there, but for what is counted for all tenants together.
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
