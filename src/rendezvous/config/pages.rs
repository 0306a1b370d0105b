//! The settings of what is answered over HTTP in addition to links.

use super::Config;
#[cfg(feature = "rendezvous")]
use crate::rendezvous::operator::Admin;

/// The largest number of peers that `/metrics` names. Each of them is a time series of its own in the system that
/// collects the metrics.
const MOST_TOP_PEERS: usize = 100;

#[derive(Debug, Clone)]
pub(super) struct Pages {
    front: bool,
    health: bool,
    metrics: bool,
    top_peers: bool,
    metrics_top_peers: usize,
    #[cfg(feature = "rendezvous")]
    pub(super) admin: Option<Admin>,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            front: true,
            health: true,
            metrics: true,
            top_peers: false,
            metrics_top_peers: 0,
            #[cfg(feature = "rendezvous")]
            admin: None,
        }
    }
}

impl Config {
    /// Sets whether `/` is answered, with a page that shows the address to copy and the number of peers.
    #[must_use]
    pub fn with_page(mut self, page: bool) -> Self {
        self.pages.front = page;
        self
    }

    /// Sets whether `/health` is answered. The page at `/` requests it.
    #[must_use]
    pub fn with_health(mut self, health: bool) -> Self {
        self.pages.health = health;
        self
    }

    /// Sets whether `/metrics` is answered.
    #[must_use]
    pub fn with_metrics(mut self, metrics: bool) -> Self {
        self.pages.metrics = metrics;
        self
    }

    /// Sets whether the bytes that each peer sends are counted, for
    /// [`Snapshot::top_peers`](crate::rendezvous::Snapshot::top_peers). Off by default; always on where something else
    /// needs the counts.
    #[must_use]
    pub fn with_top_peers(mut self, is_counted: bool) -> Self {
        self.pages.top_peers = is_counted;
        self
    }

    /// Sets how many peers `/metrics` names with the bytes that they have sent since midnight in UTC, at most 100: the
    /// heaviest senders. Default 0, because every client that can connect can read `/metrics`. Each peer that is ever
    /// among them is a time series of its own in the system that collects the metrics.
    #[must_use]
    pub fn with_metrics_top_peers(mut self, peers: usize) -> Self {
        self.pages.metrics_top_peers = peers.min(MOST_TOP_PEERS);
        self
    }

    /// Returns whether the bytes that each peer sends are counted.
    pub(crate) fn counts_peers(&self) -> bool {
        #[cfg(feature = "rendezvous")]
        if self.admin().is_some() {
            return true;
        }
        self.pages.top_peers || self.pages.metrics_top_peers > 0 || !self.quotas.are_unlimited()
    }

    pub(crate) fn metrics_top_peers(&self) -> usize {
        self.pages.metrics_top_peers
    }

    pub(crate) fn page(&self) -> bool {
        self.pages.front
    }

    pub(crate) fn health(&self) -> bool {
        self.pages.health
    }

    pub(crate) fn metrics(&self) -> bool {
        self.pages.metrics
    }
}
