//! Several nodes as one network, over real sockets and trunks, with the directory in memory.

#[path = "../support/authority.rs"]
mod authority;
mod hostile;
mod nodes;
mod partitions;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{
    BindError, Limits, Refused, Server, Tenant,
    cluster::{Cluster, JoinError, MemoryDirectory, TrunkTlsError},
};
use serde_json::{Value, json};

use self::{
    authority::Authority,
    nodes::{Nodes, trunk_tls},
};
use crate::client::{Client, config, dial, offer, soon, stream_event};

#[tokio::test]
async fn peers_on_all_nodes_hear_of_dial_and_stream_to_each_other() {
    let nodes = Nodes::start(3).await;
    let mut peers = Vec::new();
    for n in 0..3 {
        peers.push(nodes.joined(n).await);
    }
    nodes.know(3).await;
    for (one, other) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        let id = format!("d{one}{other}");
        let [dialer, listener] = peers.get_disjoint_mut([one, other]).expect("two");
        dial(dialer, listener, &id).await;
        let (forth, back) = (format!("{id}.dialer"), format!("{id}.listener"));
        dialer.item(&forth, b"hello").await;
        listener.expect_item(&forth, b"hello").await;
        // One direction ends, and the other one goes on.
        dialer.send(stream_event("true", &forth)).await;
        assert_eq!(listener.text().await, stream_event("true", &forth));
        listener.item(&back, b"there").await;
        dialer.expect_item(&back, b"there").await;
        listener.send(stream_event("true", &back)).await;
        assert_eq!(dialer.text().await, stream_event("true", &back));
    }
    for server in &nodes.servers {
        soon("the end of all dials", async {
            while server.snapshot().dials > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn who_joins_anywhere_is_announced_everywhere_and_is_in_the_list() {
    let nodes = Nodes::start(2).await;
    nodes.know(0).await;
    let mut first = nodes.joined(0).await;
    nodes.know(1).await;
    let (second, listed) = nodes.joined_with_list(1).await;
    assert_eq!(listed, json!([first.address]));
    assert_eq!(first.announced().await, second.address);
}

#[tokio::test]
async fn peers_of_all_nodes_are_announced_within_the_rate_of_each() {
    const PEERS: usize = 12;
    const NODES: usize = 3;
    const RATE: usize = 20_000;
    let often = || {
        config()
            .with_announce_interval(Duration::from_millis(20))
            .with_limits(Limits::default().with_announce_rate(RATE))
    };
    let nodes = Nodes::start_with(NODES, often).await;
    let start = Instant::now();
    let mut peers = Vec::new();
    for n in 0..PEERS {
        peers.push(nodes.joined(n % NODES).await);
    }
    nodes.know(PEERS).await;
    let watcher = &mut peers[0];
    let mut bytes = 0;
    // Announcements of newcomers come at once, and so do those that had to wait.
    let mut heard = HashSet::new();
    while heard.len() < PEERS - 1 {
        let announced = watcher.announced().await;
        bytes += announced.len();
        heard.insert(announced);
    }
    heard.clear();
    let known = Instant::now();
    while known.elapsed() < Duration::from_secs(2) {
        let announced = watcher.announced().await;
        bytes += announced.len();
        heard.insert(announced);
    }
    // All links of a node get the same share. All is counted since the watcher joined, so it does not matter how late it
    // reads. The factor of two allows for the newcomers.
    let links = PEERS / NODES;
    let rate = (bytes * links) as f64 / start.elapsed().as_secs_f64();
    assert!(rate < 2.0 * RATE as f64, "{rate} bytes a second");
    assert_eq!(heard.len(), PEERS - 1, "everyone has its turn");
}

#[tokio::test]
async fn a_dial_is_refused_in_the_same_words_as_on_one_node() {
    let nodes = Nodes::start(2).await;
    let (mut here, mut there) = (nodes.joined(0).await, nodes.joined(1).await);
    nodes.know(2).await;
    let (own, other) = (here.address.clone(), there.address.clone());
    let nobody = crate::client::address(&Keypair::generate_ed25519());
    let refused = here.request(json!(["ss-dial", own, nobody, "d"])).await;
    assert_eq!(refused, json!(["Peer not found"]));
    let refused = here.request(json!(["ss-dial", other, other, "d"])).await;
    assert_eq!(refused, json!(["Not authorized for this address"]));
    let ack = offer(&mut here, &mut there, "d").await;
    let answer = there.next_ack;
    there.send(format!("43{answer}[\"no\"]")).await;
    assert_eq!(here.answer(ack).await, json!(["no"]));
    // The peer leaves before it answers.
    let ack = offer(&mut here, &mut there, "e").await;
    drop(there);
    let answer = here.answer(ack).await;
    assert_eq!(answer, json!(["Peer left before it answered the dial"]));
}

/// Dials again and again until the dial reaches the peer at its current node.
async fn reach(dialer: &mut Client, peer: &mut Client, id: &str) {
    for n in 0.. {
        let event = json!(["ss-dial", dialer.address, peer.address, format!("{id}.{n}")]);
        let ack = dialer.ask(event).await;
        let dialled = tokio::select! {
            refused = dialer.answer(ack) => {
                // The peer's old node does not know it any more.
                assert_eq!(refused, json!(["Peer not found"]));
                continue;
            }
            dialled = peer.text() => dialled,
        };
        let (number, _) = dialled.split_once('[').expect("an event");
        peer.send(format!("{}[\"no\"]", number.replacen("42", "43", 1)))
            .await;
        assert_eq!(dialer.answer(ack).await, json!(["no"]));
        return;
    }
}

#[tokio::test]
async fn a_peer_that_moves_to_another_node_is_there_and_nowhere_else() {
    let nodes = Nodes::start(3).await;
    let key = Keypair::generate_ed25519();
    let mut old = Client::connect(&nodes.servers[0]).await;
    old.join(&key).await;
    let mut others = [nodes.joined(0).await, nodes.joined(2).await];
    nodes.know(3).await;
    let mut new = Client::connect(&nodes.servers[1]).await;
    new.join(&key).await;
    let moved = Instant::now();
    // The old link gets the same event as on one node.
    let displaced = soon("the end of the old join", async {
        loop {
            let text = old.text().await;
            if !text.contains("ws-peer") {
                return text;
            }
        }
    });
    let displaced = displaced.await;
    assert!(displaced.contains(&old.address), "{displaced}");
    for (n, other) in others.iter_mut().enumerate() {
        reach(other, &mut new, &format!("d{n}")).await;
    }
    let bound =
        std::env::var("STAR_MOVED_SECONDS").map_or(10, |said| said.parse().expect("seconds"));
    let took = moved.elapsed();
    assert!(took < Duration::from_secs(bound), "{took:?}");
    // A late leave on the old link changes nothing.
    old.ask(json!(["ss-leave", old.address])).await;
    drop(old);
    for (n, other) in others.iter_mut().enumerate() {
        dial(other, &mut new, &format!("e{n}")).await;
    }
    let conflicts = |server: &Server| server.snapshot().cluster.expect("a node").conflicts;
    assert_eq!(nodes.servers.iter().map(conflicts).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_node_that_is_gone_ends_its_streams_with_an_error() {
    let mut nodes = Nodes::start(2).await;
    let (mut here, mut there) = (nodes.joined(0).await, nodes.joined(1).await);
    nodes.know(2).await;
    dial(&mut here, &mut there, "d").await;
    drop(nodes.servers.pop());
    for stream in ["d.dialer", "d.listener"] {
        let text = here.text().await;
        let start = format!("42[\"socket.io-pull-stream.error.{stream}\",\"");
        let words = text.strip_prefix(&start);
        let words = words.unwrap_or_else(|| panic!("a proper end? {text}"));
        assert!(words.contains("link to the rendezvous was lost"), "{words}");
    }
    let (own, other) = (here.address.clone(), there.address);
    // Until its lease expires, the node may come back.
    let refused = here.request(json!(["ss-dial", own, other, "e"])).await;
    let words = refused[0].as_str().expect("words");
    assert!(
        words.starts_with("Peer cannot be reached at its rendezvous: "),
        "{words}"
    );
    let snapshot = nodes.servers[0].snapshot();
    assert_eq!(snapshot.refusals.get(Refused::Unreachable), 1);
    assert_eq!(snapshot.cluster.expect("a node").cuts, 1);
}

#[tokio::test]
async fn nobody_has_a_trunk_without_a_certificate_of_the_authority_for_its_name() {
    let directory = MemoryDirectory::new();
    let (ours, others) = (Authority::new(), Authority::new());
    let bind = async |name: &str, certified: &str, authority: &Authority| {
        let id = name.parse().expect("a name");
        let cluster = Cluster::new(id, directory.clone(), trunk_tls(authority, certified));
        Server::bind(config().with_cluster(cluster)).await
    };
    let good = bind("good", "good", &ours).await.expect("a free port");
    let other = bind("other", "other", &ours).await.expect("a free port");
    let foreign = bind("foreign", "foreign", &others)
        .await
        .expect("a free port");
    let trunks = |server: &Server| server.snapshot().cluster.unwrap_or_default().trunks;
    soon("a trunk", async {
        while trunks(&good) == 0 || trunks(&other) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The foreign node has now had more time than the others needed.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!((trunks(&good), trunks(&other), trunks(&foreign)), (1, 1, 0));
    let refused = bind("name", "other-name", &ours).await;
    let Err(BindError::Cluster(JoinError::Tls(TrunkTlsError::OtherName(name)))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(name.as_str(), "name");
}

#[tokio::test]
async fn tenants_stay_apart_across_nodes() {
    let tenants = || {
        let tenant = |text: &str| text.parse::<Tenant>().expect("a tenant");
        let tenants = [tenant("blue=blue.test"), tenant("red=red.test")];
        config().with_tenants(tenants).expect("good ones")
    };
    let nodes = Nodes::start_with(2, tenants).await;
    let (mut blue, _) = crate::tenants::joined(&nodes.servers[0], "blue.test").await;
    let (mut red, listed) = crate::tenants::joined(&nodes.servers[1], "red.test").await;
    assert_eq!(listed, json!([]));
    nodes.know(2).await;
    let (own, other) = (blue.address.clone(), red.address.clone());
    let refused = blue.request(json!(["ss-dial", own, other, "d"])).await;
    assert_eq!(refused, json!(["Peer not found"]));
    let (mut second, listed): (Client, Value) =
        crate::tenants::joined(&nodes.servers[1], "blue.test").await;
    assert_eq!(listed, json!([own]));
    assert_eq!(blue.announced().await, second.address);
    dial(&mut second, &mut blue, "d").await;
    let (mut third, _) = crate::tenants::joined(&nodes.servers[0], "red.test").await;
    assert_eq!(red.announced().await, third.address);
    dial(&mut red, &mut third, "d").await;
}
