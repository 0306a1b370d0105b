//! The settings of the access, which decides about joins.

use std::{sync::Arc, time::Duration};

use super::Config;
use crate::{rendezvous::access::Access, time};

#[derive(Debug, Clone)]
pub(super) struct AccessSettings {
    access: Option<Arc<dyn Access>>,
    in_flight: usize,
    timeout: Duration,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            access: None,
            in_flight: 64,
            timeout: Duration::from_secs(6),
        }
    }
}

impl Config {
    /// Has `access` decide who may join. Without it, every peer may join.
    ///
    /// [`Join`](crate::rendezvous::Join) holds what is known of a peer. A peer that was let in can be disconnected
    /// later by [`Server::disconnect`](crate::rendezvous::Server::disconnect) and
    /// [`Server::recheck_access`](crate::rendezvous::Server::recheck_access).
    #[must_use]
    pub fn with_access(mut self, access: impl Access) -> Self {
        self.access.access = Some(Arc::new(access));
        self
    }

    /// Sets how many verdicts that [take time](crate::rendezvous::Judgement::Later) are worked on at one time, at least
    /// one. Default 64: as many requests as a small service takes at once. Further joins wait for their turn, which
    /// goes round among origins by their [weight](Self::with_origin_weight): a stranger with a million keys is one
    /// origin among the others. An IPv4 address or an IPv6 /48 may have three times as many places as are left, for
    /// each unit of its weight, so that others need not wait for it. At weight 1, that is three quarters of the places.
    #[must_use]
    pub fn with_access_in_flight(mut self, verdicts: usize) -> Self {
        self.access.in_flight = verdicts.max(1);
        self
    }

    /// Sets how long a join may wait for its verdict, including the wait for its turn. Default 6 s: deployed clients
    /// wait 10 s for the answer to a join. After that time the peer is not let in, and is told to come again in 5 s.
    #[must_use]
    pub fn with_access_timeout(mut self, timeout: Duration) -> Self {
        self.access.timeout = time::timeout(timeout);
        self
    }

    /// Returns the access that decides about joins, if there is one.
    pub(crate) fn access(&self) -> Option<Arc<dyn Access>> {
        let access = self.access.access.clone();
        #[cfg(feature = "rendezvous")]
        if let Some(admin) = self.admin() {
            return Some(Arc::new(admin.guard(access)));
        }
        access
    }

    /// Returns how many verdicts are worked on at one time, and how long a join may wait for its own.
    pub(crate) fn access_bounds(&self) -> (usize, Duration) {
        (self.access.in_flight, self.access.timeout)
    }
}
