//! The settings of the cluster that this rendezvous belongs to.

use super::Config;
use crate::rendezvous::cluster::Cluster;

impl Config {
    /// Makes the server a node of a cluster, so that its peers and those of the other nodes reach each other.
    ///
    /// Give all nodes the same tenants, lists and public names, so that the same rules hold on each of them. Limits,
    /// shares and quotas hold on each node by itself. The [challenge](Self::with_challenge) has to be on, because the
    /// other nodes check the proof of each join.
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
