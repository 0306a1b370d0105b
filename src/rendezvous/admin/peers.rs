//! The peers that have joined, one page at a time.

use std::{net::IpAddr, sync::Arc};

use libp2p_identity::PeerId;

use super::request::Search;
use crate::rendezvous::{
    hub::Hub,
    ids::in_address,
    registry::{Joined, behind},
    tenants::Tenants,
};

/// The number of peers on a page.
pub(super) const ON_PAGE: usize = 100;
/// The number of peers that are looked up at once with the lock held.
const AT_ONCE: usize = 128;

/// A peer that has joined.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Arc<str>,
    /// The id to disconnect or ban the peer by; `None` if its address has no id and it has proved none.
    pub(super) id: Option<PeerId>,
    pub(super) client: Option<IpAddr>,
    /// The number of dials of its link.
    pub(super) dials: usize,
    /// The name of its tenant.
    pub(super) tenant: String,
}

impl Peer {
    fn new(joined: &Joined, dials: usize, hub: &Hub) -> Self {
        let client = joined.grant.as_ref().map(|grant| grant.join().client());
        Self {
            address: joined.address.clone(),
            id: joined.peer(),
            client,
            dials,
            tenant: hub.name().to_owned(),
        }
    }
}

/// Returns whether an id of a peer begins with this prefix: the id in its address, or the one that it has proved.
fn begins_with(joined: &Joined, prefix: &str) -> bool {
    in_address(&joined.address).starts_with(prefix)
        || joined
            .proved()
            .is_some_and(|id| id.to_base58().starts_with(prefix))
}

/// Some of the peers, in the order of the tenants, and by address within a tenant.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) some: Vec<Peer>,
    /// Whether more peers follow.
    pub(super) has_more: bool,
    /// Whether the server has several tenants.
    pub(super) of_tenants: bool,
}

impl Peers {
    /// Finds the peers for a page. This may have to look at all peers, so it looks at some at a time and lets other
    /// tasks run in between.
    pub(super) async fn find(tenants: &Tenants, search: &Search) -> Self {
        let mut found = Self {
            of_tenants: tenants.are_several(),
            ..Self::default()
        };
        let last = (search.tenant.as_str(), search.after.as_str());
        let is_before = |hub: &&Arc<Hub>| !last.0.is_empty() && hub.name() != last.0;
        for hub in tenants.all().skip_while(is_before) {
            let from = match last {
                (tenant, after) if tenant == hub.name() && !after.is_empty() => behind(after),
                _ => String::new(),
            };
            found.find_in(hub, from, &search.id).await;
            if found.has_more {
                break;
            }
        }
        found
    }

    /// Adds the peers of a tenant, from an address on.
    async fn find_in(&mut self, hub: &Hub, mut from: String, id: &str) {
        loop {
            let some = hub.joined_from(&from, AT_ONCE);
            let Some((last, _)) = some.last() else {
                return;
            };
            from = behind(&last.address);
            for (joined, dials) in &some {
                if !begins_with(joined, id) {
                    continue;
                }
                if self.some.len() == ON_PAGE {
                    self.has_more = true;
                    return;
                }
                self.some.push(Peer::new(joined, *dials, hub));
            }
            // This may drop the last reference to the grant of a peer that has left meanwhile. No lock is held here.
            drop(some);
            tokio::task::yield_now().await;
        }
    }
}
