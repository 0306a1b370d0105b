//! Several rendezvous as one network: peers on any node hear of, dial and stream to peers on every other.
//!
//! A [`Directory`] tells every node who has joined at which: an engine of somebody else's, such as NATS JetStream. What peers
//! send each other never passes through it. It goes over *trunks*, one connection of HTTP/2 with mutual TLS from each node to
//! each other. On a trunk, each link of a client that dials peers there has a stream of its own, so that the other node treats it
//! like a link of the client's: with the same limits, for the client's own address.
//!
//! Of a peer that joins at two nodes, the later join counts, by the time in its nonce. The directory has what proves it: the
//! peer's key, the nonce, which names the node and the time, and the signature. So a node cannot take a peer that never joined
//! at it. But one with a good certificate is believed in everything else: from which address its clients come, that a peer
//! that was at it once is there still when it is at no other node, and what it relays of its own clients.
//!
//! If the directory fails, nothing that is open ends. Peers that are known go on being dialled, and new ones are known at their
//! own node only, until it is back. If a trunk fails, its streams end with an error at both ends, and the peers behind
//! it cannot be dialled until it is open again. Limits, shares and quotas hold on each node by itself.

mod book;
mod clock;
mod desk;
mod directory;
mod driver;
mod guest;
mod memory;
mod nats;
mod node;
mod record;
mod status;
mod trunk;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};

use self::driver::Driver;
pub(super) use self::{
    book::{Event, NodeNumber},
    clock::Clock,
    desk::{Desk, OpenWay},
    guest::GuestCheck,
    record::{JoinProof, PeerRecord},
};
pub use self::{
    directory::{Change, Changes, Directory, DirectoryError},
    memory::MemoryDirectory,
    nats::{NatsConfig, NatsDirectory},
    node::{NodeId, NodeIdError},
    status::{ClusterStatus, Cut, TrunkStatus},
    trunk::{TrunkTls, TrunkTlsError},
};

use super::{config::Config, tenants::Tenants};

/// How long a node goes on after it was told to stop: some rounds of what asks for its health.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// Why a server cannot be a node of a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The challenge is off.
    #[error("without the challenge, nobody proves a join to the other nodes")]
    NoChallenge,
    /// Its certificate cannot be used.
    #[error("its certificate cannot be used for trunks")]
    Tls(#[from] TrunkTlsError),
    /// The address for trunks cannot be listened on.
    #[error("cannot listen for trunks on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// What a node listens on for trunks.
#[derive(Debug)]
pub(super) struct Bound(TcpListener);

/// Listens for trunks, if the server is to be a node of a cluster.
pub(super) fn bind(config: &Config) -> Result<Option<Bound>, JoinError> {
    let Some(cluster) = config.cluster() else {
        return Ok(None);
    };
    cluster.check(config)?;
    let addr = cluster.listen_addr;
    let listen = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = listen().map_err(|source| JoinError::Listen { addr, source })?;
    Ok(Some(Bound(listener)))
}

impl Bound {
    /// Has the server be a node from now on, in a task of its own.
    pub(super) fn spawn(self, tenants: &Arc<Tenants>, tasks: &mut JoinSet<()>) -> Option<Running> {
        let house = tenants.house();
        let (cluster, desk) = (house.config().cluster()?, house.desk()?);
        let driver = Driver::new(tenants.clone(), cluster.clone(), desk.clone(), &self.0);
        match driver {
            Ok(driver) => {
                let driver = Arc::new(driver);
                tasks.spawn(driver.clone().run(self.0));
                Some(Running(driver))
            }
            Err(error) => {
                tracing::error!(%error, "this is no node of a cluster");
                None
            }
        }
    }
}

/// A node at work.
pub(super) struct Running(Arc<Driver>);

impl Running {
    /// The server is about to stop: what shares out links is told, and given time to notice.
    pub(super) async fn drain(&self, tenants: &Tenants) {
        tenants.house().drain();
        self.0.leave().await;
        if let Some(cluster) = tenants.config().cluster() {
            tokio::time::sleep(cluster.drain_delay).await;
        }
    }

    /// Returns when the directory knows that all peers here have left. Cancel safe.
    pub(super) async fn rested(&self) {
        self.0.rested().await;
    }
}

/// How a rendezvous is one node of a cluster: for [`Config::with_cluster`](super::Config::with_cluster).
#[derive(Clone)]
pub struct Cluster {
    id: NodeId,
    directory: Arc<dyn Directory>,
    tls: TrunkTls,
    listen_addr: SocketAddr,
    advertised: Option<String>,
    drain_delay: Duration,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.id)
            .field("directory", &self.directory)
            .field("listen_addr", &self.listen_addr)
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A node of that name, which no other node may have at the same time. It waits for trunks at a free port of the loopback
    /// interface, for nodes on one machine.
    pub fn new(id: NodeId, directory: impl Directory, tls: TrunkTls) -> Self {
        Self {
            id,
            directory: Arc::new(directory),
            tls,
            listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            advertised: None,
            drain_delay: DRAIN_DELAY,
        }
    }

    /// Where it waits for the trunks of other nodes; port 0 takes any free one.
    #[must_use]
    pub fn with_listen_addr(mut self, addr: SocketAddr) -> Self {
        self.listen_addr = addr;
        self
    }

    /// Where others reach that: a name or an address, and a port, as in `star-1.internal:9443`. Without, it is the address that
    /// it listens on.
    #[must_use]
    pub fn with_advertised(mut self, address: impl Into<String>) -> Self {
        self.advertised = Some(address.into());
        self
    }

    /// How long the server goes on after it was told to stop, while `/health` and new links are already answered with 503: so
    /// that whatever shares out links among the nodes notices before those that are open have to go elsewhere. Default 5 s.
    #[must_use]
    pub fn with_drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Checks what can be checked before it is one of its cluster.
    fn check(&self, config: &Config) -> Result<(), JoinError> {
        if !config.challenge() {
            return Err(JoinError::NoChallenge);
        }
        Ok(self.tls.check(&self.id)?)
    }

    pub(super) fn desk(&self) -> Desk {
        Desk::new(Clock::new(&self.id))
    }
}

#[cfg(test)]
#[path = "cluster/simulation_tests.rs"]
mod simulation_tests;
