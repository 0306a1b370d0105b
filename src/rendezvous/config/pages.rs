//! What is answered beside the protocol.

use super::Config;

#[derive(Debug, Clone)]
pub(super) struct Pages {
    front: bool,
    health: bool,
    metrics: bool,
}

impl Default for Pages {
    fn default() -> Self {
        Self {
            front: true,
            health: true,
            metrics: true,
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
