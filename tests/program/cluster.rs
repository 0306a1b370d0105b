//! Three nodes of a cluster, each an instance of the binary, with a real nats-server as their directory.

#[path = "../support/authority.rs"]
mod authority;
mod ends;
#[path = "../support/nats.rs"]
mod nats;
mod nodes;
mod outages;
mod starts;

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p_websocket_star::Connection;
use serde_json::json;

use self::{nats::Nats, nodes::Nodes};
use crate::support::{
    js::{Peer, wire},
    raw::{Raw, check_echo, echo, echo_both_ways},
    within,
};

/// Returns a time limit in seconds. `.ci/long` may set it by an environment variable.
fn bound(variable: &str, otherwise: u64) -> Duration {
    let said = std::env::var(variable).ok();
    let seconds = said.map_or(otherwise as f64, |said| said.parse().expect("seconds"));
    Duration::from_secs_f64(seconds)
}

/// Dials again and again until the dialer's node knows the peer.
async fn reach(dialer: &Raw, to: &Multiaddr) -> Connection {
    within("a dial that succeeds", async {
        loop {
            match dialer.start_dial(&to.to_string()).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

/// Has 100,000 bytes echoed.
async fn talk(dialer: &Raw, listener: &mut Raw, to: &Multiaddr) {
    let connection = reach(dialer, to).await;
    let answer = async { echo(listener.accept().await.0).await.expect("no reset") };
    let check = check_echo(connection, 100_000, 10_000);
    let ((), echoed) = futures::future::join(check, answer).await;
    assert_eq!(echoed, 100_000);
}

#[tokio::test]
async fn every_pair_of_peers_hears_of_and_reaches_each_other() {
    let nats = Nats::start().await;
    let nodes = Nodes::start(&nats, &["--announce-interval", "100ms"]).await;
    for (of_ours, of_npm) in [(0, 1), (1, 2), (2, 0)] {
        let (mut ours, own) = nodes.listening(of_ours).await;
        nodes.turn_to(of_npm);
        let npm = Peer::start();
        let ed25519 = json!({"keyType": "ed25519"});
        let theirs = npm.try_listen(&nodes.addr(), ed25519.clone()).await;
        let theirs = theirs.expect("let in");
        nodes.know(&[0, 1, 2], 2).await;
        let hears = |of: String| {
            move |event: &serde_json::Value| event["event"] == "peer" && event["addr"] == *of
        };
        npm.expect_where("the announcement", hears(wire(&own)))
            .await;
        echo_both_ways(&mut ours, &own, &npm, &theirs, 100_000, 10_000).await;
        // Now two npm clients at two nodes.
        nodes.turn_to(of_ours);
        let second = Peer::start();
        let also = second.try_listen(&nodes.addr(), ed25519).await;
        let also = also.expect("let in");
        nodes.know(&[0, 1, 2], 3).await;
        second
            .expect_where("the announcement", hears(theirs.clone()))
            .await;
        second.echo(&theirs, 100_000).await;
        npm.expect_where("the announcement", hears(also.clone()))
            .await;
        npm.echo(&also, 100_000).await;
    }
}

#[tokio::test]
async fn metrics_tell_of_the_directory_and_of_each_trunk() {
    let nats = Nats::start().await;
    let nodes = Nodes::start(&nats, &[]).await;
    let (here, _) = nodes.listening(0).await;
    let (mut there, addr) = nodes.listening(1).await;
    talk(&here, &mut there, &addr).await;
    let connection = reach(&here, &addr).await;
    let trunk = |figure: &str| format!("rendezvous_cluster_trunk_{figure}{{node=\"node-1\"}}");
    assert_eq!(nodes.figure(0, "rendezvous_cluster_watched").await, 1);
    assert_eq!(nodes.figure(0, "rendezvous_cluster_unwritten").await, 0);
    assert_eq!(
        nodes
            .figure(0, "rendezvous_cluster_bad_records_total")
            .await,
        0
    );
    assert_eq!(nodes.figure(0, &trunk("open")).await, 1);
    assert_eq!(nodes.figure(0, &trunk("streams")).await, 1);
    assert_eq!(nodes.figure(0, &trunk("stalled_streams")).await, 0);
    assert!(nodes.figure(0, &trunk("sent_bytes_total")).await >= 100_000);
    assert!(nodes.figure(0, &trunk("received_bytes_total")).await >= 100_000);
    let metrics = nodes.metrics(0).await;
    let time = |name: &str| crate::support::binary::value::<f64>(&metrics, name);
    // The node renews its record every 5 s.
    assert!(time("rendezvous_cluster_directory_age_seconds") < 15.0);
    assert!((0.0..1.0).contains(&time(&trunk("round_trip_seconds"))));
    // The loss of a node is counted.
    let name = "rendezvous_cluster_trunk_cuts_by_reason_total{node=\"node-1\",reason=\"lost\"}";
    assert_eq!(nodes.figure(0, name).await, 0);
    nodes.nodes[1].signal("KILL").await;
    nodes.wait_at(&[0], name, |cuts| cuts == 1).await;
    drop(connection);
}
