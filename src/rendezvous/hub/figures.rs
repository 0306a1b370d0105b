//! The figures of a tenant.

use crate::rendezvous::snapshot::Snapshot;

/// The current figures and the counts since the start, without the list of peers.
#[derive(Debug, Default)]
pub(in crate::rendezvous) struct Figures {
    /// The number of joined addresses.
    pub(in crate::rendezvous) peers: usize,
    /// The other figures. The list of peers in it is empty.
    pub(in crate::rendezvous) snapshot: Snapshot,
}

impl Figures {
    /// Adds the figures of two tenants.
    pub(in crate::rendezvous) fn plus(self, other: Self) -> Self {
        Self {
            peers: self.peers + other.peers,
            snapshot: self.snapshot.plus(other.snapshot),
        }
    }
}
