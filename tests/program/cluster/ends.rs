//! The ways in which a node ends: killed, stopped without notice, and shut down in order.

use std::time::{Duration, Instant};

use libp2p::core::transport::TransportEvent::{AddressExpired, NewAddress};
use serde_json::json;

use super::{bound, nats::Nats, nodes::Nodes, reach, talk};
use crate::{
    access::node,
    support::{binary::http, js::Peer, raw::read_error, within},
};

/// Ends a node in the middle of a stream. Its peers must see an error within `limit`, and join at another node.
async fn is_lost(signal: &str, limit: Duration) {
    let nats = Nats::start().await;
    let nodes = Nodes::start(&nats, &[]).await;
    let (here, own) = nodes.listening(0).await;
    let key = crate::support::ed25519();
    let with_key = || crate::support::raw::Raw::with(&key, crate::support::hasty());
    let mut there = with_key();
    nodes.turn_to(1);
    let (_, addr) = there.listen(&nodes.addr()).await;
    let mut forth = reach(&here, &addr).await;
    let (mut answer, _) = there.accept().await;
    // Open a stream in the other direction, too.
    let mut back = reach(&there, &own).await;
    let start = Instant::now();
    nodes.avoid(1);
    nodes.nodes[1].signal(signal).await;
    let (one, other) = futures::future::join(read_error(&mut forth), async {
        match signal {
            // A stopped process notifies its own clients of nothing.
            "STOP" => None,
            _ => Some((read_error(&mut answer).await, read_error(&mut back).await)),
        }
    })
    .await;
    let took = start.elapsed();
    assert!(took <= limit, "{took:?}");
    assert!(one.to_string().contains("lost"), "{one}");
    assert_eq!(other.is_none(), signal == "STOP");
    // The peer joins at another node, and is found there long before the lease of the lost node expires.
    let mut again = match signal {
        "STOP" => {
            drop(there);
            with_key()
        }
        _ => there,
    };
    match signal {
        "STOP" => {
            again.listen(&nodes.addr()).await;
        }
        _ => {
            again.joined().await;
        }
    }
    talk(&here, &mut again, &addr).await;
    if signal == "STOP" {
        nodes.nodes[1].signal("CONT").await;
        // The node learns that its peer is at another node now, and goes on.
        nodes
            .wait_for("rendezvous_cluster_trunks", |trunks| trunks == 2)
            .await;
        nodes.know(&[0, 1, 2], 2).await;
    } else {
        // When the lease of the node expires, its peers are removed too.
        nodes
            .wait_at(&[0, 2], "rendezvous_cluster_nodes", |nodes| nodes == 1)
            .await;
        nodes.know(&[0, 2], 2).await;
    }
}

#[tokio::test]
async fn a_node_that_is_killed_is_an_error_to_every_peer_and_its_peers_go_elsewhere() {
    is_lost("KILL", bound("STAR_KILLED_SECONDS", 20)).await;
}

#[tokio::test]
async fn a_node_that_is_stopped_is_an_error_to_every_peer_and_its_peers_go_elsewhere() {
    is_lost("STOP", bound("STAR_STOPPED_SECONDS", 30)).await;
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_lets_its_peers_go_elsewhere() {
    let nats = Nats::start().await;
    let mut nodes = Nodes::start(&nats, &["--cluster-drain=1s"]).await;
    let (mut ours, addr) = nodes.listening(0).await;
    nodes.turn_to(0);
    let npm = Peer::start();
    let theirs = npm
        .try_listen(&nodes.addr(), json!({"keyType": "ed25519"}))
        .await;
    let theirs = theirs.expect("let in");
    let (other, _) = nodes.listening(1).await;
    nodes.know(&[0, 1, 2], 3).await;
    let stopping = nodes.nodes.remove(0);
    stopping.signal("TERM").await;
    // First the node sends new links elsewhere: its health check fails, and everything else goes on.
    within("an unhealthy node", async {
        loop {
            let health = http(stopping.local_addr(), "GET", "/health", "127.0.0.1").await;
            if health.starts_with("HTTP/1.1 503 ") {
                break;
            }
            assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
        }
    })
    .await;
    nodes.avoid(0);
    let (mut refused, _) = node();
    let port = stopping.local_addr().port();
    let there = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star");
    refused.listen_on(&there).expect("a good address");
    let error = refused.listener_error().await.to_string();
    assert!(error.contains("503"), "{error}");
    talk(&other, &mut ours, &addr).await;
    // Then it shuts down in order. Our node sees only an expired and a new address.
    let (status, last) = stopping.ended().await;
    assert_eq!(
        (status.code(), last.as_str()),
        (Some(0), "Rendezvous server stopped")
    );
    let AddressExpired { listen_addr, .. } = ours.event().await else {
        panic!("an expired address first");
    };
    assert_eq!(listen_addr, addr);
    let NewAddress { listen_addr, .. } = ours.event().await else {
        panic!("nothing but the new address");
    };
    assert_eq!(listen_addr, addr);
    talk(&other, &mut ours, &addr).await;
    reach(&other, &theirs.parse().expect("an address")).await;
    assert_eq!(npm.seen("error").len(), 0);
}
