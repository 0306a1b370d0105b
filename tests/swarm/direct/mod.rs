//! Connections through a rendezvous move to direct ones, on loopback and through NATs.

mod behaviours;
mod hostile;
#[cfg(target_os = "linux")]
mod nat;
mod node;
mod traffic;

use std::time::Duration;

use libp2p_websocket_star::direct::Error;

use self::node::{Kind, Options, apart, pair};
use crate::support::{embedded, log, panics};

/// Many times the grace period.
const LONG: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_connection_goes_over_to_tcp_and_so_do_streams() {
    goes_over(Kind::Tcp).await;
}

#[tokio::test]
async fn a_connection_goes_over_to_quic_and_so_do_streams() {
    goes_over(Kind::Quic).await;
}

async fn goes_over(kind: Kind) {
    log();
    let server = embedded().await;
    let options = Options::of(kind);
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    one.upgraded(two.peer).await;
    two.upgraded(one.peer).await;
    let before = server.snapshot().relayed_bytes;
    one.send(two.peer, 1 << 20).await;
    two.send(one.peer, 1 << 20).await;
    // The messages that close the connection through the rendezvous may still be in transit.
    let relayed = server.snapshot().relayed_bytes - before;
    assert!(relayed < 1000, "{relayed} bytes");
    assert_eq!(panics(), 0);
    server.shutdown().await;
}

/// The two dials make two connections through the rendezvous, and each node would lead the upgrade of one of them.
#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_go_over() {
    log();
    let server = embedded().await;
    for kind in [Kind::Tcp, Kind::Quic] {
        let options = [Options::of(kind), Options::of(kind)];
        let ([mut one, mut two], at) = apart(&server, options).await;
        let [at_one, at_two] = at;
        one.dial(at_two);
        two.dial(at_one);
        one.upgraded(two.peer).await;
        two.upgraded(one.peer).await;
        one.send(two.peer, 1 << 16).await;
    }
    assert_eq!(panics(), 0);
    server.shutdown().await;
}

/// Pings cross the connection all the time, but they must not keep it open.
#[tokio::test]
async fn pings_do_not_hold_up_the_end_of_the_connection_through_the_rendezvous() {
    log();
    let server = embedded().await;
    let mut options = Options::of(Kind::Tcp);
    options.ping = Duration::from_millis(50);
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    one.upgraded(two.peer).await;
    two.upgraded(one.peer).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_node_that_learns_its_address_later_is_upgraded_then() {
    log();
    let server = embedded().await;
    let mut later = Options::of(Kind::Tcp);
    later.listens = false;
    let [mut one, mut two] = pair(&server, [Options::of(Kind::Tcp), later]).await;
    two.quiet_for(Duration::from_millis(500)).await;
    two.listen(Kind::Tcp);
    one.upgraded(two.peer).await;
    two.upgraded(one.peer).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_node_without_the_behaviour_stays_at_the_rendezvous() {
    log();
    let server = embedded().await;
    let mut without = Options::of(Kind::Tcp);
    without.direct = false;
    let [mut one, mut two] = pair(&server, [Options::of(Kind::Tcp), without]).await;
    one.quiet_for(LONG).await;
    one.send(two.peer, 1 << 16).await;
    two.send(one.peer, 1 << 16).await;
    server.shutdown().await;
}

/// The limit is one connection with each peer. The direct connection is refused, and neither node retries again and
/// again.
#[tokio::test]
async fn with_one_connection_a_peer_the_one_through_the_rendezvous_stays() {
    log();
    let server = embedded().await;
    let mut options = Options::of(Kind::Quic);
    options.limit = Some(1);
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    let error = one.failed(two.peer).await;
    assert!(
        matches!(error, Error::Denied | Error::Unreachable),
        "{error}"
    );
    one.quiet_for(LONG).await;
    for node in [&one, &two] {
        assert!(node.dials() <= 4, "{} dials", node.dials());
    }
    one.send(two.peer, 1 << 16).await;
    two.send(one.peer, 1 << 16).await;
    assert_eq!(panics(), 0);
    server.shutdown().await;
}
