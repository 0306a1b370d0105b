//! Who is asked about joins.

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
    /// Has `access` say who may join. Without it, everybody may.
    ///
    /// What is known of a peer is in [`Join`](crate::rendezvous::Join). Who is let in can be cut off again by
    /// [`Server::disconnect`](crate::rendezvous::Server::disconnect) and
    /// [`Server::recheck_access`](crate::rendezvous::Server::recheck_access).
    #[must_use]
    pub fn with_access(mut self, access: impl Access) -> Self {
        self.access.access = Some(Arc::new(access));
        self
    }

    /// How many verdicts that [take time](crate::rendezvous::Judgement::Later) are worked on at one time, at least one.
    /// Default 64: as many requests as a small service takes at once. Further joins wait for their turn, which goes round
    /// among origins by their [weight](Self::with_origin_weight): a stranger with a million keys is one among the others. One
    /// origin has three quarters of the places at most, for each unit of its weight three times as many as are left, so that
    /// others need not wait for it.
    #[must_use]
    pub fn with_access_in_flight(mut self, verdicts: usize) -> Self {
        self.access.in_flight = verdicts.max(1);
        self
    }

    /// How long a join may wait for its verdict, the wait for its turn included. Default 6 s: deployed clients wait 10 s
    /// for the answer to a join. Then the peer is not let in, and told to come again in 5 s.
    #[must_use]
    pub fn with_access_timeout(mut self, timeout: Duration) -> Self {
        self.access.timeout = time::timeout(timeout);
        self
    }

    /// Who is asked about joins.
    pub(crate) fn access(&self) -> Option<Arc<dyn Access>> {
        let access = self.access.access.clone();
        #[cfg(feature = "rendezvous")]
        if let Some(admin) = self.admin() {
            return Some(Arc::new(admin.guard(access)));
        }
        access
    }

    /// How many verdicts are worked on at one time, and how long a join may wait for its own.
    pub(crate) fn access_bounds(&self) -> (usize, Duration) {
        (self.access.in_flight, self.access.timeout)
    }
}
