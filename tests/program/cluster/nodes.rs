//! The nodes of a cluster, each an instance of the binary, behind one port.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::Multiaddr;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::{
    authority::{Authority, Certified},
    nats::Nats,
};
use crate::support::{
    binary::{Binary, http, value},
    raw::Raw,
    within,
};

/// A folder with the certificates of the nodes.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub fn new(names: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        write("ca.pem", authority.pem());
        for name in names {
            let Certified { certificate, key } = authority.certify(name);
            write(&format!("{name}.pem"), &certificate);
            write(&format!("{name}.key"), &key);
        }
        Self { dir }
    }

    /// Returns the flags of the node with that name.
    pub fn flags(&self, name: &str) -> Vec<String> {
        let path = |file: &str| self.dir.path().join(file).display().to_string();
        vec![
            format!("--node-id={name}"),
            format!("--cluster-cert={}", path(&format!("{name}.pem"))),
            format!("--cluster-key={}", path(&format!("{name}.key"))),
            format!("--cluster-ca={}", path("ca.pem")),
            "--cluster-listen=127.0.0.1:0".to_owned(),
        ]
    }
}

/// Three nodes, and one port that leads to each of them in turn.
pub struct Nodes {
    pub nodes: Vec<Binary>,
    certificates: Certificates,
    front: Front,
}

impl Nodes {
    /// Starts the nodes with the flags in `more`.
    pub async fn start(nats: &Nats, more: &[&str]) -> Self {
        Self::start_at(&[nats.url()], more).await
    }

    /// Starts the nodes with several NATS servers. Each node has a different server first in its list.
    pub async fn start_at(nats: &[String], more: &[&str]) -> Self {
        let names: Vec<String> = (0..3).map(|n| format!("node-{n}")).collect();
        let certificates = Certificates::new(&names);
        let mut nodes = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let mut urls = nats.to_vec();
            urls.rotate_left(n % nats.len());
            let mut flags = certificates.flags(name);
            flags.push(format!("--cluster={}", urls.join(",")));
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            nodes.push(Binary::start(&[&flags[..], more].concat()).await);
        }
        let front = Front::start(nodes.iter().map(Binary::local_addr).collect()).await;
        let nodes = Self {
            nodes,
            certificates,
            front,
        };
        nodes
            .wait_for("rendezvous_cluster_trunks", |trunks| trunks == 2)
            .await;
        nodes
    }

    /// Returns the flags of the node with that name.
    pub fn flags(&self, name: &str) -> Vec<String> {
        self.certificates.flags(name)
    }

    /// Returns the address of the port that leads to all nodes in turn.
    pub fn addr(&self) -> String {
        let port = self.front.addr.port();
        format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star")
    }

    /// Directs the next link to that node, and the links after it to the following nodes.
    pub fn turn_to(&self, node: usize) {
        self.front.next.store(node, Ordering::Relaxed);
    }

    /// Directs no further link to that node.
    pub fn avoid(&self, node: usize) {
        self.front.avoided.store(node, Ordering::Relaxed);
    }

    /// Returns a new node of ours that listens at that node of the cluster.
    pub async fn listening(&self, node: usize) -> (Raw, Multiaddr) {
        let (mut raw, _) = crate::access::node();
        self.turn_to(node);
        let (_, addr) = raw.listen(&self.addr()).await;
        (raw, addr)
    }

    /// Waits until every node reports such a figure.
    pub async fn wait_for(&self, figure: &str, is_it: impl Fn(u64) -> bool) {
        self.wait_at(&[0, 1, 2], figure, is_it).await;
    }

    /// Waits until some nodes report such a figure.
    pub async fn wait_at(&self, nodes: &[usize], figure: &str, is_it: impl Fn(u64) -> bool) {
        within(figure, async {
            for node in nodes {
                while !is_it(self.figure(*node, figure).await) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await;
    }

    /// Waits until some nodes know that many peers, including their own.
    pub async fn know(&self, nodes: &[usize], peers: u64) {
        within("all to know all", async {
            for node in nodes {
                loop {
                    let own = self.figure(*node, "rendezvous_peers").await;
                    let others = self.figure(*node, "rendezvous_cluster_remote_peers").await;
                    if own + others == peers {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
        .await;
    }

    pub async fn figure(&self, node: usize, figure: &str) -> u64 {
        value(&self.metrics(node).await, figure)
    }

    pub async fn metrics(&self, node: usize) -> String {
        let addr = self.nodes[node].local_addr();
        http(addr, "GET", "/metrics", "127.0.0.1").await
    }
}

/// A port that leads to several servers in turn, like a load balancer.
struct Front {
    addr: SocketAddr,
    next: Arc<AtomicUsize>,
    avoided: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn start(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let next = Arc::new(AtomicUsize::new(0));
        let avoided = Arc::new(AtomicUsize::new(usize::MAX));
        let (turn, not) = (next.clone(), avoided.clone());
        let addr = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.expect("accepted");
                let (servers, turn, not) = (servers.clone(), turn.clone(), not.clone());
                tokio::spawn(async move {
                    for _ in 0..servers.len() {
                        let n = turn.fetch_add(1, Ordering::Relaxed) % servers.len();
                        if n == not.load(Ordering::Relaxed) {
                            continue;
                        }
                        // If a server is down, the next one is tried.
                        if let Ok(mut server) = TcpStream::connect(servers[n]).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Self {
            addr,
            next,
            avoided,
            task,
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
