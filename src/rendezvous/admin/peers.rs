//! The peers that have joined, a page at a time.

use std::{net::IpAddr, sync::Arc};

use libp2p_identity::PeerId;

use super::request::Search;
use crate::rendezvous::{
    hub::Hub,
    ids::{in_address, peer_in},
    registry::Joined,
};

/// How many are on a page.
pub(super) const ON_PAGE: usize = 100;
/// How many are looked up with the lock held.
const AT_ONCE: usize = 128;

/// A peer that has joined.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Arc<str>,
    /// By which id it is disconnected and banned; none if its address has none, and it has proved none.
    pub(super) id: Option<PeerId>,
    pub(super) client: Option<IpAddr>,
    /// How many dials its link has.
    pub(super) dials: usize,
}

impl Peer {
    fn new(joined: &Joined, dials: usize) -> Self {
        let join = joined.grant.as_ref().map(|grant| grant.join());
        Self {
            address: joined.address.clone(),
            id: join
                .and_then(|join| join.peer())
                .or_else(|| peer_in(&joined.address)),
            client: join.map(|join| join.client()),
            dials,
        }
    }

    /// Whether one of its ids begins with this.
    fn begins_with(&self, prefix: &str) -> bool {
        in_address(&self.address).starts_with(prefix)
            || self.id.is_some_and(|id| id.to_base58().starts_with(prefix))
    }
}

/// Some of them, in the order of their addresses.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) some: Vec<Peer>,
    /// Whether there are more behind them.
    pub(super) has_more: bool,
}

impl Peers {
    /// Those whom a page shows. To find them, all may have to be looked at: some at a time, and others get their turns in
    /// between.
    pub(super) async fn find(hub: &Hub, search: &Search) -> Self {
        let mut found = Self::default();
        let mut from = match search.after.as_str() {
            "" => String::new(),
            after => behind(after),
        };
        loop {
            let some = hub.joined_from(&from, AT_ONCE);
            let Some((last, _)) = some.last() else {
                return found;
            };
            from = behind(&last.address);
            for (joined, dials) in &some {
                let peer = Peer::new(joined, *dials);
                if !peer.begins_with(&search.id) {
                    continue;
                }
                if found.some.len() == ON_PAGE {
                    found.has_more = true;
                    return found;
                }
                found.some.push(peer);
            }
            // What has left meanwhile is dropped with it.
            drop(some);
            tokio::task::yield_now().await;
        }
    }
}

/// The first string behind it.
fn behind(address: &str) -> String {
    format!("{address}\0")
}
