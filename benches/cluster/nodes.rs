//! The nodes: each is a process of its own.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{
    Config, Server, TlsConfig,
    cluster::{Cluster, NatsConfig, NatsDirectory, TrunkTls},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    authority::{Authority, Certified},
    limits,
    nats::Nats,
    other::{Other, tell},
};

/// The argument that makes this program a node instead of the benchmark.
pub const SERVE: &str = "--serve-until-stdin-ends";
/// The longest time to wait for a state of a node.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server without a cluster.
    Alone,
    /// Nodes of a cluster.
    Tls,
    /// Nodes of a cluster, with trunks without TLS.
    #[cfg(feature = "_plain-trunks")]
    Plain,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Tls => "tls",
            #[cfg(feature = "_plain-trunks")]
            Self::Plain => "plain",
        }
    }
}

/// Several nodes, with their NATS server and certificates.
pub struct Nodes {
    pub nodes: Vec<Other>,
    _nats: Option<Nats>,
    _certificates: TempDir,
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}

impl Nodes {
    /// Starts `count` nodes, and waits until all their trunks are up.
    pub async fn start(kind: Kind, count: usize) -> io::Result<Self> {
        let certificates = tempfile::tempdir()?;
        let dir = certificates.path();
        let nats = match kind {
            Kind::Alone => None,
            _ => Some(Nats::start().await),
        };
        let authority = Authority::new();
        write(&dir.join("ca.pem"), authority.pem())?;
        let mut nodes = Vec::new();
        for n in 0..count {
            let name = format!("node-{n}");
            let Certified { certificate, key } = authority.certify(&name);
            write(&dir.join(format!("{name}.pem")), &certificate)?;
            write(&dir.join(format!("{name}.key")), &key)?;
            let url = nats.as_ref().map_or_else(String::new, Nats::url);
            let arguments = [SERVE, kind.name(), &name, &dir.display().to_string(), &url];
            nodes.push(Other::start(&arguments.map(str::to_owned), false).await?);
        }
        let mut nodes = Self {
            nodes,
            _nats: nats,
            _certificates: certificates,
        };
        if kind != Kind::Alone {
            nodes
                .wait_for(|said| said["trunks"] == count as u64 - 1)
                .await?;
        }
        Ok(nodes)
    }

    /// Waits until the report of every node fulfils a condition.
    pub async fn wait_for(&mut self, is_so: impl Fn(&Value) -> bool) -> io::Result<()> {
        let wait = async {
            for node in &mut self.nodes {
                while !is_so(&node.ask().await?) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Ok(())
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.map_err(|_| io::Error::other("a node does not reach the expected state in time"))?
    }

    /// Waits until every node knows this number of peers, its own included.
    pub async fn know(&mut self, peers: u64) -> io::Result<()> {
        let count = |said: &Value, name: &str| said[name].as_u64().unwrap_or_default();
        self.wait_for(|said| {
            count(said, "peers") + count(said, "remote") == peers && said["unwritten"] == 0
        })
        .await
    }

    /// Returns the address at which clients reach a node.
    pub fn addr(&self, node: usize) -> SocketAddr {
        let port = self.nodes[node].said["port"].as_u64().unwrap_or_default();
        (Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or_default()).into()
    }

    /// Returns the processor time that all nodes have used, in seconds.
    pub fn cpu(&self) -> f64 {
        self.nodes.iter().map(|node| node.usage().cpu).sum()
    }
}

/// Runs this process as a node. It has the default configuration, except for limits that would refuse the benchmark's
/// load.
pub async fn serve(arguments: &[String]) -> io::Result<()> {
    let [_, kind, name, dir, url] = arguments else {
        return Err(io::Error::other("wrong arguments for a node"));
    };
    // In the part `stalled`, a thousand queues are full.
    let limits = limits::unrefused().with_max_memory(8 << 30);
    let mut config = Config::default()
        .with_listen_addr((Ipv4Addr::LOCALHOST, 0).into())
        .with_limits(limits);
    if kind != Kind::Alone.name() {
        config = config.with_cluster(cluster(kind, name, Path::new(dir), url).await?);
    }
    let server = Server::bind(config).await.map_err(io::Error::other)?;
    tell(|| {
        let now = server.snapshot();
        let cluster = now.cluster.unwrap_or_default();
        json!({
            "port": server.local_addr().port(),
            "links": now.links,
            "peers": now.peers.len(),
            "queued": now.queued_bytes,
            "trunks": cluster.trunks,
            "remote": cluster.remote_peers,
            "unwritten": cluster.unwritten,
        })
    })
    .await
}

async fn cluster(kind: &str, name: &str, dir: &Path, url: &str) -> io::Result<Cluster> {
    let read = |file: String| std::fs::read(dir.join(file));
    let (cert, key) = (read(format!("{name}.pem"))?, read(format!("{name}.key"))?);
    let own = TlsConfig::from_pem(&cert, &key).map_err(io::Error::other)?;
    let tls = TrunkTls::new(own, &read("ca.pem".to_owned())?).map_err(io::Error::other)?;
    let tls = match kind {
        #[cfg(feature = "_plain-trunks")]
        "plain" => tls.without_tls(),
        _ => tls,
    };
    let directory = NatsDirectory::connect(NatsConfig::new([url.to_owned()])).await;
    let directory = directory.map_err(io::Error::other)?;
    let id = name.parse().map_err(io::Error::other)?;
    Ok(Cluster::new(id, directory, tls))
}
