//! Nodes of a cluster in this process.

use std::time::Duration;

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{
    Config, Server, TlsConfig,
    cluster::{Cluster, MemoryDirectory, NodeId, TrunkTls},
};
use serde_json::Value;

use super::authority::{Authority, Certified};
use crate::client::{Client, config};

/// Returns the TLS configuration of the trunks for the node of that name.
pub fn trunk_tls(authority: &Authority, name: &str) -> TrunkTls {
    let Certified { certificate, key } = authority.certify(name);
    let own = TlsConfig::from_pem(certificate.as_bytes(), key.as_bytes());
    TrunkTls::new(own.expect("a certificate"), authority.pem().as_bytes()).expect("an authority")
}

/// The longest wait. A watch that has gone silent is noticed within 15 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes with one directory, called `node-0` and so on.
pub struct Nodes {
    pub servers: Vec<Server>,
}

impl Nodes {
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, config).await
    }

    /// Starts nodes with another configuration.
    pub async fn start_with(count: usize, config: impl Fn() -> Config) -> Self {
        let (authority, directory) = (Authority::new(), MemoryDirectory::new());
        let mut servers = Vec::new();
        for n in 0..count {
            let name = format!("node-{n}");
            let id: NodeId = name.parse().expect("a name");
            let cluster = Cluster::new(id, directory.clone(), trunk_tls(&authority, &name));
            servers.push(serve(config().with_cluster(cluster)).await);
        }
        Self { servers }
    }

    /// Returns a new peer that has joined at that node.
    pub async fn joined(&self, node: usize) -> Client {
        self.joined_with_list(node).await.0
    }

    /// Returns a new peer that has joined at that node, with the peers in the answer to its join.
    pub async fn joined_with_list(&self, node: usize) -> (Client, Value) {
        let mut client = Client::connect(&self.servers[node]).await;
        let listed = client.join(&Keypair::generate_ed25519()).await;
        (client, listed)
    }

    /// Waits until every node knows that many peers, including its own, and has trunks to all others.
    pub async fn know(&self, peers: usize) {
        let all = || {
            self.servers.iter().all(|server| {
                let snapshot = server.snapshot();
                let cluster = snapshot.cluster.expect("a node");
                snapshot.peers.len() + cluster.remote_peers == peers
                    && cluster.unwritten == 0
                    && cluster.trunks + 1 == self.servers.len()
            })
        };
        let known = tokio::time::timeout(PATIENCE, async {
            while !all() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if known.await.is_err() {
            let snapshots = self.servers.iter().map(Server::snapshot);
            let each: Vec<_> = snapshots.map(|it| (it.peers.len(), it.cluster)).collect();
            panic!("not all know {peers} peers: {each:#?}");
        }
    }
}

async fn serve(config: Config) -> Server {
    Server::bind(config).await.expect("a free port")
}
