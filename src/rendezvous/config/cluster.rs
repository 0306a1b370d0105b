//! What other rendezvous this one belongs together with.

use super::Config;
use crate::rendezvous::cluster::Cluster;

impl Config {
    /// Has the server be a node of a cluster, so that its peers and those of the other nodes reach each other.
    ///
    /// What counts for whom is the same on all nodes: give each the same tenants, lists and public names. Limits, shares and
    /// quotas hold on each node by itself. The [challenge](Self::with_challenge) has to be on, since the other nodes want to see the
    /// proof of each join.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    pub(crate) fn without_cluster(mut self) -> Self {
        self.cluster = None;
        self
    }

    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }
}
