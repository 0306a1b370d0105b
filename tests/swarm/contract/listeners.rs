//! Listeners: their ids, their addresses, and several listeners at once.

use futures::future::join_all;
use libp2p::{
    Multiaddr,
    core::{
        Transport as _,
        transport::{ListenerId, TransportError, TransportEvent},
    },
};
use libp2p_websocket_star::{Error, WebSocketStarTransport};

use super::{
    Echo, base, check, check_both,
    node::Node,
    order::Kind::{AddressExpired, Closed, Incoming, NewAddress},
    raw, settled, steps, tasks, until,
};
use crate::support::embedded;

#[tokio::test]
async fn an_id_that_is_unknown_is_not_removed_and_nothing_happens() {
    let star = embedded().await;
    let (mut node, mut other) = (raw(), raw());
    assert!(!node.remove(ListenerId::next()));
    assert!(node.event_now().is_none());

    let (id, address) = node.listen(&base(&star)).await;
    let (foreign, _) = other.listen(&base(&star)).await;
    for unknown in [ListenerId::next(), foreign] {
        assert!(!node.remove(unknown));
        assert!(node.event_now().is_none());
    }
    let connection = other.dial(&address).await.expect("dialled");
    check_both(connection, node.accept().await.1).await;
    assert_eq!(node.events_of(id), [NewAddress, Incoming]);
    assert_eq!(other.events_of(foreign), [NewAddress]);
    star.shutdown().await;
}

#[tokio::test]
async fn a_listener_is_removed_once() {
    let star = embedded().await;
    let before = tasks();
    let mut node = raw();
    let (id, _) = node.listen(&base(&star)).await;
    assert!(node.remove(id));
    assert!(!node.remove(id));
    assert!(matches!(
        node.event().await,
        TransportEvent::ListenerClosed { listener_id, reason: Ok(()) } if listener_id == id
    ));
    assert!(!node.remove(id));
    settled(&star, 0, before).await;
    assert!(!node.remove(id));
    assert_eq!(node.events_of(id), [NewAddress, Closed]);
    star.shutdown().await;
}

#[tokio::test]
async fn a_listener_that_is_removed_before_the_first_poll_has_never_been_at_the_rendezvous() {
    let star = embedded().await;
    let before = tasks();
    let mut node = raw();
    let id = node.listen_on(&base(&star)).expect("a good address");
    assert!(node.remove(id));
    assert!(!node.remove(id));
    assert_eq!(node.events_of(id), [Closed]);
    steps(20).await;
    assert_eq!(node.events_of(id), [Closed]);
    assert_eq!((tasks(), star.snapshot().links), (before, 0));

    // It does not prevent the next listener, either.
    let (next, _) = node.listen(&base(&star)).await;
    assert_eq!(star.snapshot().counters.joins, 1);
    assert_eq!(node.events_of(next), [NewAddress]);
    star.shutdown().await;
}

#[tokio::test]
async fn a_closed_address_can_be_listened_on_again_and_again() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    let mut node = raw();
    let mut ids = Vec::new();
    for round in 0..6 {
        let (id, address) = node.listen(&base(&star)).await;
        assert!(!ids.contains(&id));
        // A dial from another node reaches the new listener, and no other.
        let connection = raw().dial(&address).await.expect("dialled");
        let (by, accepted) = node.accept().await;
        assert_eq!(by, id);
        check_both(connection, accepted).await;
        check(node.dial(&echo.address).await.expect("dialled")).await;
        assert!(node.remove(id));
        // In every second round, the old link is closed already.
        if round % 2 == 0 {
            settled(&star, 1, before).await;
        }
        let TransportEvent::ListenerClosed { .. } = node.event().await else {
            panic!("not closed")
        };
        ids.push(id);
    }
    settled(&star, 1, before).await;
    for id in ids {
        assert_eq!(node.events_of(id), [NewAddress, Incoming, Closed]);
    }
    star.shutdown().await;
}

#[tokio::test]
async fn an_address_has_one_listener_and_the_first_keeps_it() {
    let star = embedded().await;
    let mut node = raw();
    let id = node.listen_on(&base(&star)).expect("a good address");
    // This holds while the first listener is joining, and after it has joined.
    for joined in [false, true] {
        if joined {
            assert!(node.event().await.is_new_address());
        }
        match node.listen_on(&base(&star)) {
            Err(TransportError::Other(Error::AlreadyListening(addr))) => {
                assert_eq!(addr, base(&star));
            }
            other => panic!("{other:?}"),
        }
        assert!(node.event_now().is_none());
    }
    assert!(node.remove(id));
    assert!(matches!(
        node.event().await,
        TransportEvent::ListenerClosed { .. }
    ));
    let (next, _) = node.listen(&base(&star)).await;
    assert_eq!(node.events_of(id), [NewAddress, Closed]);
    assert_eq!(node.events_of(next), [NewAddress]);
    star.shutdown().await;
}

#[tokio::test]
async fn an_id_that_is_in_use_is_refused_and_its_listener_goes_on() {
    let (star, other) = (embedded().await, embedded().await);
    let before = tasks();
    let mut node = raw();
    let (id, address) = node.listen(&base(&star)).await;
    match node.transport.listen_on(id, base(&other)) {
        Err(TransportError::Other(Error::AlreadyListening(at))) => assert_eq!(at, address),
        result => panic!("{result:?}"),
    }
    assert!(node.event_now().is_none());
    let connection = raw().dial(&address).await.expect("dialled");
    check_both(connection, node.accept().await.1).await;
    assert!(node.remove(id));
    settled(&star, 0, before).await;
    assert_eq!(other.snapshot().counters.joins, 0);
    assert_eq!(node.events_of(id), [NewAddress, Incoming, Closed]);
    star.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn listeners_at_several_rendezvous_have_nothing_to_do_with_each_other() {
    let stars = join_all((0..3).map(|_| embedded())).await;
    let mut node = raw();
    let mut listeners = Vec::new();
    for star in &stars {
        listeners.push(node.listen_on(&base(star)).expect("a good address"));
    }
    let mut addresses = vec![None; 3];
    for _ in 0..3 {
        match node.event().await {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => {
                let which = listeners.iter().position(|id| *id == listener_id);
                let which = which.expect("one of ours");
                assert!(
                    listen_addr
                        .to_string()
                        .starts_with(&base(&stars[which]).to_string())
                );
                assert_eq!(addresses[which].replace(listen_addr), None);
            }
            other => panic!("{other:?}"),
        }
    }
    let addresses: Vec<_> = addresses.into_iter().flatten().collect();
    for (id, address) in listeners.iter().zip(&addresses) {
        reaches(&mut node, address, *id).await;
    }
    // One listener is removed, and another loses its rendezvous. The third is not affected.
    assert!(node.remove(listeners[0]));
    until("the first link to close", || stars[0].snapshot().links == 0).await;
    let mut stars = stars.into_iter();
    let (first, second, third) = (stars.next(), stars.next(), stars.next());
    second.expect("three").shutdown().await;
    until("the second link to be lost", || {
        node.events_of(listeners[1]).contains(&AddressExpired)
    })
    .await;
    reaches(&mut node, &addresses[2], listeners[2]).await;
    assert_eq!(node.events_of(listeners[0]), [NewAddress, Incoming, Closed]);
    assert_eq!(
        node.events_of(listeners[2]),
        [NewAddress, Incoming, Incoming]
    );
    first.expect("three").shutdown().await;
    third.expect("three").shutdown().await;
}

/// Checks that another node reaches the node at `address` through the listener `id`. Skips errors of other listeners.
async fn reaches(node: &mut Node<WebSocketStarTransport>, address: &Multiaddr, id: ListenerId) {
    let connection = node.during(raw().dial(address)).await.expect("dialled");
    let accepted = loop {
        match node.event().await {
            TransportEvent::ListenerError { .. } => {}
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                ..
            } => {
                assert_eq!((listener_id, &local_addr), (id, address));
                break upgrade.await.expect("accepted");
            }
            other => panic!("{other:?}"),
        }
    };
    check_both(connection, accepted).await;
}
