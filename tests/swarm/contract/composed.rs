//! If it is composed with other transports, the transport handles only its own listeners, dials and events.

use std::fmt::Debug;

use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, OrTransport, Transport, TransportError, TransportEvent},
    tcp,
};
use libp2p_websocket_star::WebSocketStarTransport;

use super::{
    base, check_both,
    node::Node,
    order::Kind::{AddressExpired, Closed, Incoming, NewAddress},
    raw, settled, tasks, transport, until,
};
use crate::support::{ed25519, embedded};

fn tcp() -> tcp::tokio::Transport {
    tcp::tokio::Transport::new(tcp::Config::default())
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")
}

#[tokio::test]
async fn star_before_tcp_and_tcp_before_star_keep_their_listeners_apart() {
    beside_tcp(OrTransport::new(transport(&ed25519()), tcp())).await;
    beside_tcp(OrTransport::new(tcp(), transport(&ed25519()))).await;
}

#[tokio::test]
async fn boxed_star_before_tcp_and_tcp_before_boxed_star_keep_their_listeners_apart() {
    let star = || transport(&ed25519()).boxed();
    beside_tcp(OrTransport::new(star(), tcp()).boxed()).await;
    beside_tcp(OrTransport::new(tcp(), star()).boxed()).await;
}

async fn beside_tcp<T: Transport + Unpin>(both: T)
where
    T::Error: Debug,
{
    let star = embedded().await;
    let before = tasks();
    let mut node = Node::new(both);
    let ours = node.listen_on(&base(&star)).expect("a good address");
    let theirs = node.listen_on(&loopback()).expect("a good address");
    let (mut star_addr, mut tcp_addr) = (None, None);
    while star_addr.is_none() || tcp_addr.is_none() {
        match node.event().await {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } if listener_id == ours => star_addr = Some(listen_addr),
            TransportEvent::NewAddress { listen_addr, .. } => tcp_addr = Some(listen_addr),
            other => panic!("{other:?}"),
        }
    }
    let (star_addr, tcp_addr) = (star_addr.expect("found"), tcp_addr.expect("found"));
    assert!(star_addr.to_string().contains("p2p-websocket-star"));
    assert!(!tcp_addr.to_string().contains("p2p-websocket-star"));

    // Each connection arrives at its own listener.
    let mut dialer = OrTransport::new(transport(&ed25519()), tcp());
    for (addr, id) in [(&star_addr, ours), (&tcp_addr, theirs)] {
        let dial = dialer
            .dial(addr.clone(), super::node::DIALER)
            .map_err(|error| format!("{error:?}"))
            .expect("a good address");
        let dialled = node.during(dial).await;
        assert!(dialled.is_ok(), "{addr}");
        let (by, accepted) = node.accept().await;
        assert_eq!(by, id);
        drop((dialled, accepted));
    }

    assert!(!node.remove(ListenerId::next()));
    assert!(node.remove(ours));
    assert!(!node.remove(ours));
    settled(&star, 0, before).await;
    assert_eq!(node.events_of(ours), [NewAddress, Incoming, Closed]);
    assert_eq!(node.events_of(theirs), [NewAddress, Incoming]);
    assert!(node.remove(theirs));
    assert!(node.events_of(theirs).ends_with(&[Closed]));
    assert!(!node.remove(theirs));
    assert_eq!(node.events_of(ours).len(), 3);
    star.shutdown().await;
}

/// The caller chooses the listener ids. Only the transport that has a listener knows its id.
#[tokio::test]
async fn two_star_transports_in_one_keep_their_listeners_apart() {
    let (star, other) = (embedded().await, embedded().await);
    let (mut first, mut second) = (transport(&ed25519()), transport(&ed25519()));
    let ids = [ListenerId::next(), ListenerId::next(), ListenerId::next()];
    // Both listen at the same rendezvous. The second transport also listens at another one.
    first
        .listen_on(ids[0], base(&star))
        .expect("a good address");
    second
        .listen_on(ids[1], base(&star))
        .expect("a good address");
    second
        .listen_on(ids[2], base(&other))
        .expect("a good address");
    let both = OrTransport::new(first, second);
    let mut node = ids.into_iter().fold(Node::new(both), Node::knows);
    let mut addresses = [const { None }; 3];
    while addresses.iter().any(Option::is_none) {
        match node.event().await {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => {
                let which = ids.iter().position(|id| *id == listener_id);
                addresses[which.expect("one of three")] = Some(listen_addr);
            }
            other => panic!("{other:?}"),
        }
    }
    let addresses = addresses.map(|address| address.expect("all are there"));
    assert_ne!(addresses[0], addresses[1]);
    for (id, address) in ids.iter().zip(&addresses) {
        let connection = raw().dial(address).await.expect("dialled");
        let (by, accepted) = node.accept().await;
        assert_eq!(by, *id);
        check_both(connection, accepted.into_inner()).await;
    }
    // First remove the second transport's listener by its id, then stop the other rendezvous.
    assert!(node.remove(ids[1]));
    assert!(!node.remove(ids[1]));
    until("the link to close", || star.snapshot().links == 1).await;
    other.shutdown().await;
    until("the other link to be lost", || {
        node.events_of(ids[2]).contains(&AddressExpired)
    })
    .await;
    assert_eq!(node.events_of(ids[0]), [NewAddress, Incoming]);
    assert_eq!(node.events_of(ids[1]), [NewAddress, Incoming, Closed]);
    assert!(node.remove(ids[2]));
    assert!(node.remove(ids[0]));
    for id in ids {
        assert!(node.events_of(id).ends_with(&[Closed]));
    }
    star.shutdown().await;
}

/// Only the first transport is asked for a websocket-star address, and its answer counts.
#[tokio::test]
async fn a_second_star_transport_does_not_take_what_the_first_refuses() {
    let star = embedded().await;
    let second: WebSocketStarTransport = transport(&ed25519());
    let mut node = Node::new(OrTransport::new(transport(&ed25519()), second));
    let (id, address) = node.listen(&base(&star)).await;
    match node.listen_on(&base(&star)) {
        Err(TransportError::Other(error)) => assert!(error.is_left(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    // This is the first transport's own address. It refuses the dial, and the second transport must not dial it.
    match node.transport.dial(address, super::node::DIALER) {
        Err(TransportError::Other(error)) => assert!(error.is_left(), "{error:?}"),
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(star.snapshot().links, 1);
    assert_eq!(node.events_of(id), [NewAddress]);
    star.shutdown().await;
}
