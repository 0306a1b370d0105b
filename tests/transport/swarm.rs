//! Whole swarms, with noise and yamux, through the npm rendezvous and through the embedded one.

use futures::{StreamExt as _, future::join_all};
use libp2p::{
    Multiaddr, PeerId,
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use libp2p_websocket_star::{Config, Event};

use crate::support::{
    address, embedded,
    js::{Rendezvous, RendezvousOptions},
    node::{NodeEvent, exercise, listen, serve, swarm, until},
    within,
};

const BULK: usize = 64 << 20;

#[tokio::test]
async fn two_swarms_find_each_other_and_work_through_the_npm_rendezvous() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    two_swarms(&star.addr()).await;
}

#[tokio::test]
async fn fifty_connections_at_once_through_the_npm_rendezvous() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    fifty_connections(&star.addr()).await;
}

#[tokio::test]
async fn two_swarms_find_each_other_and_work_through_the_embedded_rendezvous() {
    let star = embedded().await;
    two_swarms(&address(&star)).await;
    star.shutdown().await;
}

#[tokio::test]
async fn fifty_connections_at_once_through_the_embedded_rendezvous() {
    let star = embedded().await;
    fifty_connections(&address(&star)).await;
    star.shutdown().await;
}

/// Has one swarm discover the other, dial it by its peer id alone, identify it, ping it, and send 64 MiB to it and
/// back.
async fn two_swarms(star: &str) {
    let (mut dialer, mut listener) = (
        swarm(Config::default().with_allow_local_rendezvous(true)),
        swarm(Config::default().with_allow_local_rendezvous(true)),
    );
    let peer = *listener.local_peer_id();
    let addr = listen(&mut listener, star).await;
    let listener = tokio::spawn(serve(listener));
    dialer
        .listen_on(star.parse().expect("a multiaddr"))
        .expect("a good address");
    until(&mut dialer, "the other peer", |event| match event {
        SwarmEvent::Behaviour(NodeEvent::Discovery(Event::Discovered { address, .. })) => {
            (address == addr).then_some(())
        }
        _ => None,
    })
    .await;
    dialer.dial(peer).expect("an address is known");
    connected(&mut dialer, peer).await;
    exercise(&mut dialer, peer, BULK).await;
    listener.abort();
}

async fn connected(swarm: &mut libp2p::Swarm<crate::support::node::Node>, peer: PeerId) {
    until(swarm, "the connection", |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => (peer_id == peer).then_some(()),
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
        _ => None,
    })
    .await;
}

/// Runs twenty-five swarms with two connections each at the same time, twice. After that, everything must still work.
async fn fifty_connections(star: &str) {
    let mut listener = swarm(Config::default().with_allow_local_rendezvous(true));
    let peer = *listener.local_peer_id();
    let addr = listen(&mut listener, star).await;
    let listener = tokio::spawn(serve(listener));
    for _ in 0..2 {
        within(
            "fifty dialers",
            join_all((0..25).map(|_| dial_and_close(addr.clone(), peer))),
        )
        .await;
    }
    dial_and_close(addr, peer).await;
    listener.abort();
}

/// Dials twice over the one link of a swarm, sends data, and closes.
async fn dial_and_close(addr: Multiaddr, peer: PeerId) {
    let mut dialer = swarm(Config::default().with_allow_local_rendezvous(true));
    for _ in 0..2 {
        let opts = DialOpts::peer_id(peer)
            .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
            .addresses(vec![addr.clone()])
            .build();
        dialer.dial(opts).expect("dialled");
    }
    connected(&mut dialer, peer).await;
    connected(&mut dialer, peer).await;
    exercise(&mut dialer, peer, 10_000).await;
    assert!(dialer.disconnect_peer_id(peer).is_ok());
    while dialer.is_connected(&peer) {
        within("the close", dialer.select_next_some()).await;
    }
}
