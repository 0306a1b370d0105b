//! What is answered beside the protocol.

use super::Config;
#[cfg(feature = "rendezvous")]
use crate::rendezvous::admin::Admin;

/// How many peers `/metrics` names at most: each is a series of its own in what reads it.
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
    /// Whether `/` is answered, with a page that has the address to copy and the number of peers.
    #[must_use]
    pub fn with_page(mut self, page: bool) -> Self {
        self.pages.front = page;
        self
    }

    /// Whether `/health` is answered. The page asks for it.
    #[must_use]
    pub fn with_health(mut self, health: bool) -> Self {
        self.pages.health = health;
        self
    }

    /// Whether `/metrics` is answered.
    #[must_use]
    pub fn with_metrics(mut self, metrics: bool) -> Self {
        self.pages.metrics = metrics;
        self
    }

    /// Whether it is counted how much each peer sends, for
    /// [`Snapshot::top_peers`](crate::rendezvous::Snapshot::top_peers). Off by default; on wherever something else needs it.
    #[must_use]
    pub fn with_top_peers(mut self, is_counted: bool) -> Self {
        self.pages.top_peers = is_counted;
        self
    }

    /// How many peers `/metrics` names with the bytes that they have sent since midnight in UTC, at most 100: those that have
    /// sent most. Default 0: whoever may connect may read it. Each one that is ever among them is a series of its own
    /// in what collects the metrics.
    #[must_use]
    pub fn with_metrics_top_peers(mut self, peers: usize) -> Self {
        self.pages.metrics_top_peers = peers.min(MOST_TOP_PEERS);
        self
    }

    /// Whether it is counted how much each peer sends.
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
