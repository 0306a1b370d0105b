//! Nodes that cannot reach each other, or cannot reach their directory: the answers of each side, and the recovery
//! without help.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use libp2p_websocket_star::rendezvous::{
    Server,
    cluster::{Changes, Cluster, Directory, DirectoryError, MemoryDirectory},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    authority::Authority,
    nodes::{Nodes, trunk_tls},
};
use crate::client::{Client, config, dial, soon};

/// The connection between a node and the nodes that open a trunk to it. It can be cut.
struct Line {
    addr: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Line {
    /// Makes a line that leads to the address in `to`, once that is set.
    async fn new(to: watch::Receiver<Option<SocketAddr>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let is_cut = watch::Sender::new(false);
        let cut = is_cut.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut cut, mut to) = (cut.subscribe(), to.clone());
                tokio::spawn(async move {
                    let to = to
                        .wait_for(Option::is_some)
                        .await
                        .expect("told")
                        .expect("one");
                    if *cut.borrow_and_update() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(to).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Self { addr, is_cut }
    }
}

/// A directory that a node cannot reach while it is cut off.
#[derive(Debug, Clone)]
struct Gate {
    directory: MemoryDirectory,
    is_cut: Arc<AtomicBool>,
}

impl Gate {
    fn open(&self) -> Result<(), DirectoryError> {
        match self.is_cut.load(Ordering::Relaxed) {
            true => Err(DirectoryError::Unreachable("cut off".into())),
            false => Ok(()),
        }
    }
}

impl Directory for Gate {
    fn watch(&self) -> BoxFuture<'_, Result<Changes, DirectoryError>> {
        let gate = self.clone();
        async move {
            self.open()?;
            let changes = self.directory.watch().await?;
            // After a cut, the watch stays silent for good. That is the worst that a real engine does.
            let mut is_silent = false;
            let told = changes.filter(move |_| {
                is_silent |= gate.open().is_err();
                futures::future::ready(!is_silent)
            });
            Ok(told.boxed())
        }
        .boxed()
    }

    fn put(
        &self,
        key: String,
        value: Bytes,
        time: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), DirectoryError>> {
        async move {
            self.open()?;
            self.directory.put(key, value, time).await
        }
        .boxed()
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), DirectoryError>> {
        async move {
            self.open()?;
            self.directory.delete(key).await
        }
        .boxed()
    }
}

/// Two nodes, with a line before each and a gate before its directory.
struct Parts {
    nodes: Nodes,
    lines: Vec<Line>,
    gates: Vec<Gate>,
}

impl Parts {
    async fn start() -> Self {
        let (authority, directory) = (Authority::new(), MemoryDirectory::new());
        let (mut servers, mut lines, mut gates) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..2 {
            let name = format!("node-{n}");
            let gate = Gate {
                directory: directory.clone(),
                is_cut: Arc::default(),
            };
            let (to, told) = watch::channel(None);
            let line = Line::new(told).await;
            // The port of the trunk. Nothing else uses it while the test runs.
            let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let addr = free.local_addr().expect("an address");
            drop(free);
            let id = name.parse().expect("a name");
            let cluster = Cluster::new(id, gate.clone(), trunk_tls(&authority, &name))
                .with_listen_addr(addr)
                .with_advertised(line.addr.to_string());
            servers.push(
                Server::bind(config().with_cluster(cluster))
                    .await
                    .expect("free ports"),
            );
            to.send_replace(Some(addr));
            lines.push(line);
            gates.push(gate);
        }
        Self {
            nodes: Nodes { servers },
            lines,
            gates,
        }
    }

    async fn trunks(&self, count: usize) {
        let trunks = |server: &Server| server.snapshot().cluster.unwrap_or_default().trunks;
        soon("the trunks", async {
            while !self
                .nodes
                .servers
                .iter()
                .all(|server| trunks(server) == count)
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// Returns the words with which a dial is refused. The dial's streams must end, too.
async fn refused(dialer: &mut Client, to: &str, id: &str) -> String {
    let own = dialer.address.clone();
    let answer = dialer.request(json!(["ss-dial", own, to, id])).await;
    let words = answer[0].as_str().expect("words").to_owned();
    if words != "Peer not found" {
        for side in ["dialer", "listener"] {
            let end = dialer.text().await;
            assert!(end.contains(&format!("error.{id}.{side}")), "{end}");
        }
    }
    words
}

#[tokio::test]
async fn two_that_see_the_directory_only_know_each_others_peers_and_cannot_reach_them() {
    let parts = Parts::start().await;
    let (mut here, mut there) = (parts.nodes.joined(0).await, parts.nodes.joined(1).await);
    let mut near = parts.nodes.joined(0).await;
    parts.nodes.know(3).await;
    dial(&mut here, &mut there, "a").await;
    for line in &parts.lines {
        line.is_cut.send_replace(true);
    }
    // The dial between the nodes is reset at both ends.
    for client in [&mut here, &mut there] {
        let text = client.text().await;
        assert!(text.contains("socket.io-pull-stream.error.a."), "{text}");
        assert!(text.contains("link to the rendezvous was lost"), "{text}");
        client.text().await;
    }
    parts.trunks(0).await;
    for (dialer, to) in [
        (&mut here, there.address.clone()),
        (&mut near, there.address.clone()),
    ] {
        let words = refused(dialer, &to, "b").await;
        assert!(
            words.starts_with("Peer cannot be reached at its rendezvous: "),
            "{words}"
        );
    }
    // Each node still serves its own peers.
    dial(&mut here, &mut near, "c").await;
    for line in &parts.lines {
        line.is_cut.send_replace(false);
    }
    parts.trunks(1).await;
    dial(&mut here, &mut there, "d").await;
    dial(&mut there, &mut near, "e").await;
}

#[tokio::test]
async fn two_that_see_each_other_only_reach_the_peers_they_know() {
    let parts = Parts::start().await;
    let (mut here, mut there) = (parts.nodes.joined(0).await, parts.nodes.joined(1).await);
    parts.nodes.know(2).await;
    dial(&mut here, &mut there, "a").await;
    parts.gates[0].is_cut.store(true, Ordering::Relaxed);
    // Open streams are not affected, and known peers can be reached.
    here.item("a.dialer", b"still").await;
    there.expect_item("a.dialer", b"still").await;
    dial(&mut there, &mut here, "b").await;
    // A peer that joins during the outage is known at its own node only.
    let mut new = parts.nodes.joined(1).await;
    let mut also = parts.nodes.joined(0).await;
    assert_eq!(
        refused(&mut here, &new.address, "c").await,
        "Peer not found"
    );
    assert_eq!(
        refused(&mut new, &also.address, "c").await,
        "Peer not found"
    );
    dial(&mut new, &mut there, "d").await;
    // It can dial a known peer at the other node, because the dial carries the proof of its join.
    dial(&mut new, &mut here, "e").await;
    dial(&mut also, &mut there, "f").await;
    parts.gates[0].is_cut.store(false, Ordering::Relaxed);
    parts.nodes.know(4).await;
    dial(&mut here, &mut new, "g").await;
    dial(&mut there, &mut also, "h").await;
    assert_eq!(
        parts.nodes.servers[0]
            .snapshot()
            .cluster
            .expect("a node")
            .cuts,
        0
    );
}
