//! The networks of a server: each has a hub of its own, and all share the house.

use std::sync::Arc;

use futures::future::join_all;
use libp2p_identity::PeerId;
use tokio::task::JoinSet;

#[cfg(feature = "cluster")]
use super::cluster::ClusterStatus;
#[cfg(feature = "rendezvous")]
use super::{admin::Panel, supervised::again_after_panics};
use super::{
    config::Config,
    house::House,
    hub::{Figures, Hub},
    snapshot::Snapshot,
    tenant::TenantId,
};

/// How many peers that have sent most are in a snapshot.
const TOP_PEERS: usize = 10;

#[derive(Debug)]
pub(super) struct Tenants {
    house: Arc<House>,
    /// Of those who ask for a host of no other. It has no links if unknown hosts are refused.
    default: Arc<Hub>,
    /// Of the tenants, by their numbers.
    hubs: Vec<Arc<Hub>>,
    /// The operator's page, if there is one.
    #[cfg(feature = "rendezvous")]
    panel: Option<Arc<Panel>>,
}

impl Tenants {
    pub(super) fn new(config: Config) -> Self {
        let house = Arc::new(House::new(config));
        let hub = |id| Arc::new(Hub::new(house.clone(), id));
        let ids = house.config().tenants().ids();
        #[cfg(feature = "rendezvous")]
        let panel = house.config().admin().map(|admin| {
            let panel = Panel::new(admin, house.config());
            Arc::new(panel)
        });
        Self {
            #[cfg(feature = "rendezvous")]
            panel,
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

    /// Whether there are others than the default one.
    pub(super) fn are_several(&self) -> bool {
        !self.hubs.is_empty()
    }

    /// All of them, the default one first, if there is one.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Hub>> {
        let default = self.config().takes_unknown_hosts().then_some(&self.default);
        default.into_iter().chain(&self.hubs)
    }

    /// The tenant that has the host, if one has.
    pub(super) fn named(&self, host: Option<&str>) -> Option<&Arc<Hub>> {
        let TenantId(number) = self.config().tenants().find(host?)?;
        self.hubs.get(number)
    }

    /// The tenant of that name, or the default one.
    #[cfg(feature = "cluster")]
    pub(super) fn with_name(&self, name: Option<&str>) -> Option<&Arc<Hub>> {
        let mut all = self.all();
        all.find(|hub| hub.tenant().map(|tenant| &**tenant) == name)
    }

    /// To whom somebody belongs who asks for the host; none if unknown hosts are refused.
    pub(super) fn of(&self, host: Option<&str>) -> Option<&Arc<Hub>> {
        let unknown = || self.config().takes_unknown_hosts().then_some(&self.default);
        self.named(host).or_else(unknown)
    }

    /// The same; an empty one if unknown hosts are refused.
    pub(super) fn known(&self, host: Option<&str>) -> &Arc<Hub> {
        self.named(host).unwrap_or(&self.default)
    }

    /// The operator's page, if there is one.
    #[cfg(feature = "rendezvous")]
    pub(super) fn panel(&self) -> Option<&Arc<Panel>> {
        self.panel.as_ref()
    }

    /// Keeps the operator's page up to date, if there is one, in a task of its own.
    pub(super) fn spawn_panel(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        #[cfg(feature = "rendezvous")]
        if let Some(panel) = self.panel.clone() {
            let tenants = self.clone();
            tasks.spawn(async move {
                let watch = || panel.watch(&tenants);
                again_after_panics(&tenants.house, watch).await;
            });
        }
        #[cfg(not(feature = "rendezvous"))]
        let _ = tasks;
    }

    /// Waits until nothing is being written for the next start. Cancel safe.
    pub(super) async fn rested(&self) {
        #[cfg(feature = "rendezvous")]
        if let Some(panel) = &self.panel {
            panel.rested().await;
        }
    }

    /// Gives all their timeouts, for as long as the server runs.
    pub(super) async fn run_timers(&self) {
        // In most cases.
        if self.hubs.is_empty() {
            return self.default.run_timer().await;
        }
        join_all(self.all().map(|hub| hub.run_timer())).await;
    }

    /// Ends all streams, and has every link closed when it has taken what is queued for it.
    pub(super) async fn shut_down(&self) {
        self.house.stop();
        join_all(self.all().map(|hub| hub.shut_down())).await;
    }

    /// Closes the links on which a peer has joined, under whichever of its ids; how many that are.
    pub(super) async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        // Its join may be about to succeed.
        if let Some(doorkeeper) = self.house.doorkeeper() {
            doorkeeper.begin_round();
        }
        let mut links = 0;
        for hub in self.all() {
            links += hub.disconnect(peer, words).await;
        }
        links
    }

    /// Asks about everybody who has joined whether they may stay, and closes the links of those who may not; how many that
    /// are.
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

    /// What they do together.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            peers: self.all().flat_map(|hub| hub.peers()).collect(),
            top_peers: self.house.top_peers(TOP_PEERS),
            ..self.figures().snapshot
        }
    }

    /// What one of them does.
    pub(super) fn snapshot_of(&self, tenant: &str) -> Option<Snapshot> {
        let hub = self.all().find(|hub| hub.name() == tenant)?;
        Some(Snapshot {
            peers: hub.peers(),
            ..hub.figures().snapshot
        })
    }

    /// The same without the list of peers.
    pub(super) fn figures(&self) -> Figures {
        let all = self.all().map(|hub| hub.figures());
        let sum = all.reduce(Figures::plus).unwrap_or_default();
        Figures {
            snapshot: self.shared(sum.snapshot),
            ..sum
        }
    }

    /// Adds what is counted for all together.
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
