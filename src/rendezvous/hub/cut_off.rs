//! Closes the links of peers that may not stay.

use std::{collections::BTreeSet, sync::Arc};

use libp2p_identity::PeerId;

use super::Hub;
use crate::rendezvous::{
    access::Doorkeeper,
    ids::is_same_peer,
    outbox::CloseReason,
    registry::{Joined, LinkId, behind},
};

/// The number of joins that are looked up while the lock is held.
const AT_ONCE: usize = 128;

impl Hub {
    /// Asks about every peer that has joined whether it may stay, and closes the links of those that may not. Returns
    /// the number of links.
    pub(in crate::rendezvous) async fn recheck_access(&self, doorkeeper: &Doorkeeper) -> usize {
        let is_out = |joined: &Joined| {
            let grant = joined.grant.as_ref();
            grant.is_some_and(|grant| !doorkeeper.still_allows(grant.join()))
        };
        self.cut_off(&CloseReason::NoLongerAllowed, is_out).await
    }

    /// Closes the links on which a peer has joined, under any of its ids. Returns the number of links.
    pub(in crate::rendezvous) async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        let is_out = |joined: &Joined| {
            let known = joined.peer();
            known.is_some_and(|known| is_same_peer(&known, peer))
        };
        let reason = CloseReason::Disconnected(words.into());
        self.cut_off(&reason, is_out).await
    }

    /// Goes through all joins, some at a time, and asks about each of them with no lock held.
    async fn cut_off(&self, reason: &CloseReason, is_out: impl Fn(&Joined) -> bool) -> usize {
        let mut links = BTreeSet::new();
        let mut from = String::new();
        loop {
            let some = self.lock().registry.joined_from(&from, AT_ONCE);
            let Some(last) = some.last() else {
                return links.len();
            };
            from = behind(&last.address);
            let out = some.iter().filter(|joined| is_out(joined));
            let out: BTreeSet<_> = out.map(|joined| joined.link).collect();
            self.close_links(&out, reason);
            links.extend(out);
            // This may drop the grants of peers that have left meanwhile.
            drop(some);
            tokio::task::yield_now().await;
        }
    }

    fn close_links(&self, links: &BTreeSet<LinkId>, reason: &CloseReason) {
        if links.is_empty() {
            return;
        }
        let outboxes: Vec<Arc<_>> = {
            let state = self.lock();
            let outboxes = links.iter().filter_map(|link| state.outboxes.get(link));
            outboxes.cloned().collect()
        };
        for outbox in outboxes {
            outbox.close(reason.clone());
        }
    }
}
