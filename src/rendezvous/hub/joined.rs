//! The joins, for the operator's page.

use super::Hub;
use crate::rendezvous::registry::Joined;

impl Hub {
    /// Returns up to `max` joins, starting at an address, each with the number of dials of its link.
    pub(in crate::rendezvous) fn joined_from(
        &self,
        from: &str,
        max: usize,
    ) -> Vec<(Joined, usize)> {
        let state = self.lock();
        let joined = state.registry.joined_from(from, max).into_iter();
        let with_dials = |joined: Joined| {
            let dials = state.registry.dials_of(joined.link);
            (joined, dials)
        };
        joined.map(with_dials).collect()
    }
}
