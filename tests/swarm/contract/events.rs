//! The order of a listener's events, from its address to its end.

use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    Config, Error, WebSocketStarTransport,
    error::JoinError,
    rendezvous::{self, Server},
};

use super::{
    base, check_both,
    node::Node,
    order::Kind::{AddressExpired, Closed, ClosedByError, Error as Failed, Incoming, NewAddress},
    raw, settled, tasks, transport, until,
};
use crate::support::{ed25519, embedded, hasty};

#[tokio::test]
async fn an_address_is_new_before_the_first_connection_comes() {
    let star = embedded().await;
    let key = ed25519();
    let (mut listener, mut dialer) = (Node::new(transport(&key)), raw());
    let id = listener.listen_on(&base(&star)).expect("a good address");
    // The listener joins and is dialled while its events are not polled.
    assert!(listener.event_now().is_none());
    until("the join", || star.snapshot().peers.len() == 1).await;
    let to = base(&star)
        .with_p2p(key.public().to_peer_id())
        .expect("no peer yet");
    let connection = dialer.dial(&to).await.expect("dialled");
    match listener.event().await {
        TransportEvent::NewAddress {
            listener_id,
            listen_addr,
        } => assert_eq!((listener_id, listen_addr), (id, to)),
        other => panic!("{other:?}"),
    }
    let (by, accepted) = listener.accept().await;
    assert_eq!(by, id);
    check_both(connection, accepted).await;
    assert_eq!(listener.events_of(id), [NewAddress, Incoming]);
    star.shutdown().await;
}

#[tokio::test]
async fn a_lost_link_expires_the_address_and_then_is_an_error_and_the_end_comes_once() {
    let star = embedded().await;
    let before = tasks();
    let mut node = raw();
    let (id, address) = node.listen(&base(&star)).await;
    star.shutdown().await;
    match node.event().await {
        TransportEvent::AddressExpired {
            listener_id,
            listen_addr,
        } => assert_eq!((listener_id, listen_addr), (id, address)),
        other => panic!("{other:?}"),
    }
    // The listener tries again without success, and no address expires twice.
    for _ in 0..3 {
        match node.event().await {
            TransportEvent::ListenerError {
                listener_id,
                error: Error::Link { .. },
            } => assert_eq!(listener_id, id),
            other => panic!("{other:?}"),
        }
    }
    assert!(node.remove(id));
    until("the link to end", || tasks() < before).await;
    let events = node.events_of(id);
    assert_eq!(events[..3], [NewAddress, AddressExpired, Failed]);
    let (end, failures) = events[2..].split_last().expect("events");
    assert_eq!(*end, Closed);
    assert!(failures.iter().all(|kind| *kind == Failed), "{events:?}");
}

#[tokio::test]
async fn what_trying_again_cannot_mend_closes_the_listener_once() {
    let config = rendezvous::Config::default().with_challenge(false);
    let star = Server::bind(config).await.expect("a free port");
    let before = tasks();
    let mut node = raw();
    let id = node.listen_on(&base(&star)).expect("a good address");
    match node.event().await {
        TransportEvent::ListenerClosed {
            listener_id,
            reason:
                Err(Error::Join {
                    error: JoinError::ChallengeDisabled,
                    ..
                }),
        } => assert_eq!(listener_id, id),
        other => panic!("{other:?}"),
    }
    assert!(!node.remove(id));
    settled(&star, 0, before).await;
    assert_eq!(node.events_of(id), [ClosedByError]);

    // The listener is gone, so the address is free again.
    let id = node.listen_on(&base(&star)).expect("a good address");
    assert!(node.event().await.is_closed_by_error());
    settled(&star, 0, before).await;
    assert_eq!(node.events_of(id), [ClosedByError]);
    star.shutdown().await;
}

#[tokio::test]
async fn a_displaced_listener_expires_before_it_says_why() {
    let star = embedded().await;
    let key = ed25519();
    // The default back-off is so long that it does not try to get the address back during the test.
    let mut old = Node::new(WebSocketStarTransport::new(&key, Config::default()));
    let (id, address) = old.listen(&base(&star)).await;
    let mut new = Node::new(transport(&key));
    let (_, newer) = new.listen(&base(&star)).await;
    assert_eq!(newer, address);
    match old.event().await {
        TransportEvent::AddressExpired { listen_addr, .. } => assert_eq!(listen_addr, address),
        other => panic!("{other:?}"),
    }
    match old.event().await {
        TransportEvent::ListenerError {
            error:
                Error::Join {
                    error: JoinError::Displaced,
                    ..
                },
            ..
        } => {}
        other => panic!("{other:?}"),
    }
    // Dials go to the newer listener.
    let connection = raw().dial(&address).await.expect("dialled");
    check_both(connection, new.accept().await.1).await;
    assert!(old.remove(id));
    assert_eq!(
        old.events_of(id),
        [NewAddress, AddressExpired, Failed, Closed]
    );
    star.shutdown().await;
}

#[tokio::test]
async fn a_link_that_comes_back_announces_the_address_again_before_its_connections() {
    let star = embedded().await;
    let at = star.local_addr();
    let key = ed25519();
    let mut node = Node::new(WebSocketStarTransport::new(&key, hasty()));
    let (id, address) = node.listen(&base(&star)).await;
    star.shutdown().await;
    assert!(node.event().await.is_address_expired());
    let config = rendezvous::Config::default().with_listen_addr(at);
    let star = Server::bind(config).await.expect("its own port again");
    until("the join", || star.snapshot().peers.len() == 1).await;
    let connection = raw().dial(&address).await.expect("dialled");
    loop {
        match node.event().await {
            TransportEvent::ListenerError { .. } => {}
            TransportEvent::NewAddress { listen_addr, .. } => {
                break assert_eq!(listen_addr, address);
            }
            other => panic!("{other:?}"),
        }
    }
    check_both(connection, node.accept().await.1).await;
    assert!(node.remove(id));
    let events = node.events_of(id);
    let news = events.iter().filter(|kind| **kind == NewAddress).count();
    let expired = events
        .iter()
        .filter(|kind| **kind == AddressExpired)
        .count();
    assert_eq!((news, expired), (2, 1), "{events:?}");
    star.shutdown().await;
}

trait IsClosed {
    fn is_closed_by_error(&self) -> bool;
}

impl<U, E> IsClosed for TransportEvent<U, E> {
    fn is_closed_by_error(&self) -> bool {
        matches!(self, Self::ListenerClosed { reason: Err(_), .. })
    }
}
