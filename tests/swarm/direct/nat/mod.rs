//! Upgrades to direct connections through NATs.

mod network;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, SwarmBuilder, identify, multiaddr::Protocol, noise, swarm::SwarmEvent, tcp, yamux,
};
use libp2p_websocket_star::{
    direct::Error,
    rendezvous::{self, Server},
};

use self::network::{Host, Nat, Network, RENDEZVOUS, network};
use super::{
    node::{Kind, Node, Options, event_of, listening, send_without_end, swarm},
    traffic::{go_over_busily, upgrades},
};
use crate::{node::join_at, support::log};

/// Returns the amount of data that is sent directly after the upgrade, in MiB. `STAR_DIRECT_MIB` may ask for more.
fn bulk() -> usize {
    number("STAR_DIRECT_MIB").unwrap_or(32)
}

/// Returns the time limit in seconds from the environment variable, or a generous default.
fn bound(variable: &str) -> Duration {
    Duration::from_secs(number(variable).unwrap_or(60) as u64)
}

fn number(variable: &str) -> Option<usize> {
    let asked = std::env::var(variable).ok()?;
    Some(asked.parse().expect("a number"))
}

/// Starts the rendezvous and its observer. Returns the observer's addresses, too.
async fn rendezvous(host: &Host) -> (Server, Vec<Multiaddr>) {
    host.run(async {
        let config = rendezvous::Config::default().with_listen_addr((RENDEZVOUS, 0).into());
        let server = Server::bind(config).await.expect("a free port");
        (server, observer().await)
    })
    .await
}

/// Starts a node that tells others the addresses at which it sees them.
async fn observer() -> Vec<Multiaddr> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("the key signs")
        .with_quic()
        .with_behaviour(|key| {
            identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), key.public()))
        })
        .expect("a behaviour")
        .build();
    let host = Multiaddr::from(Ipv4Addr::from(RENDEZVOUS));
    for at in [
        host.clone().with(Protocol::Tcp(0)),
        host.with(Protocol::Udp(0)).with(Protocol::QuicV1),
    ] {
        swarm.listen_on(at).expect("an address");
    }
    let mut addresses = Vec::new();
    while addresses.len() < 2 {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            addresses.push(address);
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    addresses
}

/// Starts a node that knows its public address, and joins the rendezvous.
async fn node(host: &Host, kind: Kind, at: String, observers: Vec<Multiaddr>) -> (Node, Multiaddr) {
    host.run(async move {
        let mut swarm = swarm(&Options::of(kind));
        // Listen first, so that the dial comes from the port on which the node listens.
        listening(&mut swarm, Ipv4Addr::UNSPECIFIED, kind).await;
        let observer = match kind {
            Kind::Tcp => &observers[0],
            Kind::Quic => &observers[1],
        };
        swarm.dial(observer.clone()).expect("an address");
        event_of(&mut swarm, "its address", |event| {
            matches!(event, SwarmEvent::NewExternalAddrCandidate { .. })
        })
        .await;
        let joined = join_at(&mut swarm, &at).await;
        (Node::new(swarm), joined)
    })
    .await
}

/// Starts two nodes at the rendezvous, and has `b` dial `a`.
async fn nodes(
    network: &Network,
    server: &Server,
    observers: &[Multiaddr],
    kind: Kind,
) -> [Node; 2] {
    let at = server.addresses()[0].to_string();
    let (a, joined) = node(&network.a, kind, at.clone(), observers.to_vec()).await;
    let (b, _) = node(&network.b, kind, at, observers.to_vec()).await;
    b.dial(joined);
    [a, b]
}

#[tokio::test]
async fn nodes_behind_nats_go_over_to_quic() {
    if let Some(network) = network(
        "direct::nat::nodes_behind_nats_go_over_to_quic",
        [Nat::Cone; 2],
    ) {
        go_over(&network, Kind::Quic).await;
    }
}

#[tokio::test]
async fn nodes_behind_nats_go_over_to_tcp() {
    if let Some(network) = network(
        "direct::nat::nodes_behind_nats_go_over_to_tcp",
        [Nat::Cone; 2],
    ) {
        go_over(&network, Kind::Tcp).await;
    }
}

async fn go_over(network: &Network, kind: Kind) {
    log();
    let (server, observers) = rendezvous(&network.internet).await;
    let [mut a, mut b] = nodes(network, &server, &observers, kind).await;
    a.identified().await;
    let began = Instant::now();
    a.connected(b.peer).await;
    let took = began.elapsed();
    assert!(took < bound("STAR_DIRECT_SECONDS"), "{took:?}");
    a.left_the_rendezvous(b.peer).await;
    b.upgraded(a.peer).await;
    let before = server.snapshot().relayed_bytes;
    b.send_pieces(a.peer, 16 * bulk()).await;
    let relayed = server.snapshot().relayed_bytes - before;
    println!(
        "direct after {took:?}; {relayed} bytes of {} MiB through the rendezvous",
        bulk()
    );
    assert!(relayed < 64 << 10, "{relayed} bytes");
    server.shutdown().await;
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_while_connections_go_over_through_nats() {
    let test = "direct::nat::no_byte_is_lost_or_doubled_while_connections_go_over_through_nats";
    let Some(network) = network(test, [Nat::Cone; 2]) else {
        return;
    };
    log();
    let (server, observers) = rendezvous(&network.internet).await;
    for round in 0..upgrades() {
        let kind = [Kind::Tcp, Kind::Quic][round % 2];
        let mut nodes = nodes(&network, &server, &observers, kind).await;
        go_over_busily(&mut nodes, round).await;
    }
    server.shutdown().await;
}

/// A symmetric NAT uses a different port for each destination, so neither node finds the other one, and the
/// connection through the rendezvous stays.
#[tokio::test]
async fn nodes_behind_a_symmetric_nat_stay_at_the_rendezvous() {
    let test = "direct::nat::nodes_behind_a_symmetric_nat_stay_at_the_rendezvous";
    let Some(network) = network(test, [Nat::Symmetric, Nat::Cone]) else {
        return;
    };
    log();
    let (server, observers) = rendezvous(&network.internet).await;
    let [mut a, mut b] = nodes(&network, &server, &observers, Kind::Quic).await;
    a.identified().await;
    b.send(a.peer, 1 << 20).await;
    assert_eq!(a.failed(b.peer).await, Error::Unreachable);
    a.send(b.peer, 1 << 20).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_path_that_is_cut_leads_back_to_the_rendezvous() {
    let test = "direct::nat::a_path_that_is_cut_leads_back_to_the_rendezvous";
    let Some(network) = network(test, [Nat::Cone; 2]) else {
        return;
    };
    log();
    let (server, observers) = rendezvous(&network.internet).await;
    for kind in [Kind::Quic, Kind::Tcp] {
        let [mut a, mut b] = nodes(&network, &server, &observers, kind).await;
        a.upgraded(b.peer).await;
        b.upgraded(a.peer).await;
        b.send(a.peer, 1 << 20).await;
        // This sender's writes block when nothing is acknowledged any more. They must not delay the end of the
        // connection.
        let (mut control, to) = (b.control.clone(), a.peer);
        let bulk = tokio::spawn(async move { send_without_end(&mut control, to).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        network.cut();
        let began = Instant::now();
        let (a_peer, b_peer) = (a.peer, b.peer);
        futures::future::join(a.lost(b_peer), b.lost(a_peer)).await;
        b.send(a.peer, 1000).await;
        let took = began.elapsed();
        println!("{kind:?}: back at the rendezvous after {took:?}");
        assert!(took < bound("STAR_BACK_SECONDS"), "{took:?}");
        network.mend();
        bulk.abort();
    }
    server.shutdown().await;
}
