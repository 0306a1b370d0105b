//! The tenants of a server: each has a hub of its own, and all share the house.

use std::sync::Arc;

use futures::future::join_all;
use libp2p_identity::PeerId;

#[cfg(feature = "cluster")]
use super::cluster::ClusterStatus;
use super::{
    config::Config,
    house::House,
    hub::{Figures, Hub},
    snapshot::Snapshot,
    tenant::TenantId,
};

/// The number of heaviest senders in a snapshot.
const TOP_PEERS: usize = 10;

#[derive(Debug)]
pub(super) struct Tenants {
    house: Arc<House>,
    /// The hub of the default tenant, to which peers belong that ask for a host of no other tenant. It has no links if
    /// unknown hosts are refused.
    default: Arc<Hub>,
    /// The hubs of the other tenants, by their numbers.
    hubs: Vec<Arc<Hub>>,
}

impl Tenants {
    pub(super) fn new(config: Config) -> Self {
        let house = Arc::new(House::new(config));
        let hub = |id| Arc::new(Hub::new(house.clone(), id));
        let ids = house.config().tenants().ids();
        Self {
            default: hub(None),
            hubs: ids.map(|id| hub(Some(id))).collect(),
            house,
        }
    }

    pub(super) fn house(&self) -> &Arc<House> {
        &self.house
    }

    pub(super) fn config(&self) -> &Config {
        self.house.config()
    }

    /// Returns whether there are tenants other than the default one.
    pub(super) fn are_several(&self) -> bool {
        !self.hubs.is_empty()
    }

    /// Returns all hubs, first that of the default tenant, if there is one.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Hub>> {
        let default = self.config().takes_unknown_hosts().then_some(&self.default);
        default.into_iter().chain(&self.hubs)
    }

    /// Returns the hub of the tenant that has the host, if there is one.
    pub(super) fn named(&self, host: Option<&str>) -> Option<&Arc<Hub>> {
        let TenantId(number) = self.config().tenants().find(host?)?;
        self.hubs.get(number)
    }

    /// Returns the hub of the tenant with that name, or of the default tenant for `None`.
    #[cfg(feature = "cluster")]
    pub(super) fn with_name(&self, name: Option<&str>) -> Option<&Arc<Hub>> {
        let mut all = self.all();
        all.find(|hub| hub.tenant().map(|tenant| &**tenant) == name)
    }

    /// Returns the hub that serves a request for this host; `None` if unknown hosts are refused and no tenant has it.
    pub(super) fn of(&self, host: Option<&str>) -> Option<&Arc<Hub>> {
        let unknown = || self.config().takes_unknown_hosts().then_some(&self.default);
        self.named(host).or_else(unknown)
    }

    /// Returns the same hub, or the hub of the default tenant, which is empty if unknown hosts are refused.
    pub(super) fn known(&self, host: Option<&str>) -> &Arc<Hub> {
        self.named(host).unwrap_or(&self.default)
    }

    /// Runs the timers of all tenants, for as long as the server runs.
    pub(super) async fn run_timers(&self) {
        // This is the usual case.
        if self.hubs.is_empty() {
            return self.default.run_timer().await;
        }
        join_all(self.all().map(|hub| hub.run_timer())).await;
    }

    /// Ends all streams, and closes every link when it has taken what is queued for it.
    pub(super) async fn shut_down(&self) {
        self.house.stop();
        join_all(self.all().map(|hub| hub.shut_down())).await;
    }

    /// Closes the links on which a peer has joined, under any of its ids. Returns the number of links.
    pub(super) async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        // A join of the peer may be about to succeed.
        if let Some(doorkeeper) = self.house.doorkeeper() {
            doorkeeper.begin_round();
        }
        let mut links = 0;
        for hub in self.all() {
            links += hub.disconnect(peer, words).await;
        }
        links
    }

    /// Asks about every peer that has joined whether it may stay, and closes the links of those that may not. Returns
    /// the number of links.
    pub(super) async fn recheck_access(&self) -> usize {
        let Some(doorkeeper) = self.house.doorkeeper() else {
            return 0;
        };
        doorkeeper.begin_round();
        let mut links = 0;
        for hub in self.all() {
            links += hub.recheck_access(doorkeeper).await;
        }
        links
    }

    /// Returns the current state of all tenants together.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            peers: self.all().flat_map(|hub| hub.peers()).collect(),
            top_peers: self.house.top_peers(TOP_PEERS),
            ..self.figures().snapshot
        }
    }

    /// Returns the current state of one tenant.
    pub(super) fn snapshot_of(&self, tenant: &str) -> Option<Snapshot> {
        let hub = self.all().find(|hub| hub.name() == tenant)?;
        Some(Snapshot {
            peers: hub.peers(),
            ..hub.figures().snapshot
        })
    }

    /// Returns the numbers of all tenants together, without the list of peers.
    pub(super) fn figures(&self) -> Figures {
        let all = self.all().map(|hub| hub.figures());
        let sum = all.reduce(Figures::plus).unwrap_or_default();
        Figures {
            snapshot: self.shared(sum.snapshot),
            ..sum
        }
    }

    /// Adds what is counted for all tenants together.
    pub(super) fn shared(&self, snapshot: Snapshot) -> Snapshot {
        let house = &self.house;
        Snapshot {
            connections: house.admission().connections(),
            queued_bytes: house.budget().queued(),
            memory_bytes: house.budget().held(),
            refusals: snapshot.refusals.plus(house.admission().refusals()),
            panics: house.panics(),
            #[cfg(feature = "cluster")]
            cluster: house.desk().map(|desk| ClusterStatus {
                unannounced: self.all().map(|hub| hub.unannounced()).sum(),
                ..desk.status()
            }),
            ..snapshot
        }
    }
}
