//! Several rendezvous as one network: peers on any node hear of, dial and stream to peers on every other node.
//!
//! A [`Directory`] tells every node which peer has joined at which node. It is an external engine such as NATS
//! JetStream. The data that peers send each other never passes through it. That data goes over *trunks*: each node has
//! one HTTP/2 connection with mutual TLS to each other node. On a trunk, each client link that dials peers at the other
//! node has a stream of its own. The other node treats this stream like a link of the client, with the same limits,
//! which count for the client's own address.
//!
//! If a peer joins at two nodes, the later join counts, by the time in its nonce. The directory holds the proof of each
//! join: the peer's key, the nonce, which names the node and the time, and the signature. So a node cannot claim a peer
//! that never joined at it. In everything else, a node with a valid certificate is trusted: the addresses that its
//! clients come from, that a peer which once joined at it is still there if it is at no other node, and the data that
//! it relays for its own clients.
//!
//! If the directory fails, nothing that is open ends. Known peers can still be dialled. New peers are known only at
//! their own node until the directory is back. If a trunk fails, its streams end with an error at both ends, and the
//! peers behind it cannot be dialled until the trunk is open again. Limits, shares and quotas apply on each node
//! separately.

mod book;
mod clock;
mod directory;
mod guest;
mod memory;
mod nats;
mod node;
mod record;
mod status;
mod tls;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

pub(super) use self::{
    book::{Book, Event, LEASE, NodeNumber, Tenant, Write},
    clock::{Clock, millis},
    guest::GuestCheck,
    node::{Key, Run, Slot},
    record::{JoinProof, NodeRecord, PeerRecord, RecordError},
    status::TrunkCounts,
    tls::{Line, Proved},
};
pub use self::{
    directory::{Change, Changes, Directory, DirectoryError},
    memory::MemoryDirectory,
    nats::{NatsConfig, NatsDirectory},
    node::{NodeId, NodeIdError},
    status::{ClusterStatus, Cut, TrunkStatus},
    tls::{TrunkTls, TrunkTlsError},
};
use crate::protocol::engine_io::Version;

/// The version that nodes speak with each other. Most clients speak it, too, so their items are forwarded as they came.
/// Otherwise an item would have to be copied to add a byte in front of it.
pub(super) const VERSION: Version = Version::V3;
/// The time that a node continues after it was told to stop: a few health checks of a load balancer.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The reason why a server cannot be a node of a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The challenge is off.
    #[error(
        "a cluster needs the challenge: without it, peers do not prove their joins to the other nodes"
    )]
    NoChallenge,
    /// The certificate of the node cannot be used.
    #[error("the node's certificate cannot be used for trunks")]
    Tls(#[from] TrunkTlsError),
    /// The address for trunks cannot be listened on.
    #[error("cannot listen for trunks on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// The settings that make a rendezvous a node of a cluster, for [`Config::with_cluster`](super::Config::with_cluster).
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
    /// Creates the settings for a node with this id, which no other node may have at the same time. The node listens
    /// for trunks on a free port of the loopback interface, which suits nodes on one machine.
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

    /// Sets the address on which the node listens for the trunks of other nodes. Port 0 takes any free port.
    #[must_use]
    pub fn with_listen_addr(mut self, addr: SocketAddr) -> Self {
        self.listen_addr = addr;
        self
    }

    /// Sets the address at which other nodes reach the listener for trunks: a name or an IP address, and a port, as in
    /// `star-1.internal:9443`. The default is the address that the node listens on.
    #[must_use]
    pub fn with_advertised(mut self, address: impl Into<String>) -> Self {
        self.advertised = Some(address.into());
        self
    }

    /// Sets the time that the server continues after it was told to stop, while it already answers `/health` and new
    /// links with 503. In this time, a load balancer in front of the nodes can notice it, before the open links have to
    /// move to other nodes. Default 5 s.
    #[must_use]
    pub fn with_drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Checks what can be checked before the server becomes a node of its cluster. `challenge` tells whether peers have to
    /// prove their keys.
    pub(super) fn check(&self, challenge: bool) -> Result<(), JoinError> {
        if !challenge {
            return Err(JoinError::NoChallenge);
        }
        Ok(self.tls.check(&self.id)?)
    }

    pub(super) fn id(&self) -> &NodeId {
        &self.id
    }

    pub(super) fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    pub(super) fn tls(&self) -> &TrunkTls {
        &self.tls
    }

    pub(super) fn listen_addr(&self) -> SocketAddr {
        self.listen_addr
    }

    pub(super) fn advertised(&self) -> Option<&str> {
        self.advertised.as_deref()
    }

    pub(super) fn drain_delay(&self) -> Duration {
        self.drain_delay
    }
}

#[cfg(test)]
#[path = "cluster/simulation_tests.rs"]
mod simulation_tests;
