//! Addresses that are refused before anything is sent.

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint, Transport as _,
        transport::{DialOpts, PortUse, TransportError},
    },
};
use libp2p_websocket_star::{
    Config, Connection,
    error::{AddressError, Error},
};

use super::listening;
use crate::support::{ed25519, hasty, raw::Raw};

#[tokio::test]
async fn an_address_of_another_transport_is_left_to_it() {
    let node = Raw::new();
    let peer = PeerId::random();
    for addr in [
        "/ip4/127.0.0.1/tcp/1".to_owned(),
        "/ip4/127.0.0.1/tcp/1/ws".to_owned(),
        format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{peer}"),
        format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}/p2p-circuit"),
        format!("/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/p2p/{peer}/p2p-circuit"),
        format!("/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/p2p/{peer}/p2p-circuit/p2p/{peer}"),
        "/memory/1".to_owned(),
    ] {
        let ours = addr.parse::<Multiaddr>().expect("a multiaddr");
        match node.listen_on(&addr) {
            Err(TransportError::MultiaddrNotSupported(theirs)) => assert_eq!(ours, theirs),
            other => panic!("{addr}: {other:?}"),
        }
        match dial_as(&node, &addr, Endpoint::Dialer) {
            Err(TransportError::MultiaddrNotSupported(theirs)) => assert_eq!(ours, theirs),
            other => panic!("{addr}: {:?}", other.err()),
        }
    }
}

fn dial_as(
    node: &Raw,
    addr: &str,
    role: Endpoint,
) -> Result<impl Future<Output = Result<Connection, Error>> + use<>, TransportError<Error>> {
    let opts = DialOpts {
        role,
        port_use: PortUse::Reuse,
    };
    let addr = addr.parse().expect("a multiaddr");
    node.transport().dial(addr, opts)
}

#[tokio::test]
async fn an_address_of_ours_that_is_malformed_is_an_error_that_says_where() {
    let node = Raw::new();
    for (addr, story) in [
        ("/p2p-websocket-star", "host"),
        ("/ip4/127.0.0.1/p2p-websocket-star", "port"),
        ("/ip4/127.0.0.1/tcp/0/ws/p2p-websocket-star", "port"),
        ("/ip4/127.0.0.1/tcp/1/p2p-websocket-star", "/wss"),
        (
            "/ip4/127.0.0.1/wss/p2p-websocket-star",
            "(usually /tcp/443 for wss)",
        ),
        (
            "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t",
            "peer id",
        ),
    ] {
        let is = |error: &TransportError<Error>| {
            matches!(error, TransportError::Other(Error::Address(inner))
                if *inner != AddressError::NotWebsocketStar && inner.to_string().contains(story))
        };
        let listened = node.listen_on(addr).expect_err("malformed");
        assert!(is(&listened), "{addr}: {listened:?}");
        let dialled = dial_as(&node, addr, Endpoint::Dialer)
            .err()
            .expect("malformed");
        assert!(is(&dialled), "{addr}: {dialled:?}");
    }
}

#[tokio::test]
async fn a_dial_in_the_role_of_the_listener_is_left_to_other_transports() {
    let node = Raw::new();
    let addr = format!(
        "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/p2p/{}",
        PeerId::random()
    );
    match dial_as(&node, &addr, Endpoint::Listener) {
        Err(TransportError::MultiaddrNotSupported(found)) => assert_eq!(found.to_string(), addr),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn a_dial_to_nobody_or_to_oneself_is_an_error_at_once() {
    let key = ed25519();
    let node = Raw::with(&key, Config::default());
    let addr = "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star";
    match dial_as(&node, addr, Endpoint::Dialer) {
        Err(TransportError::Other(Error::MissingPeerId(found))) => {
            assert_eq!(found.to_string(), addr);
        }
        other => panic!("{:?}", other.err()),
    }
    let own = format!("{addr}/p2p/{}", key.public().to_peer_id());
    match dial_as(&node, &own, Endpoint::Dialer) {
        Err(TransportError::Other(Error::DialedSelf)) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn listening_as_somebody_else_is_an_error_at_once() {
    let key = ed25519();
    let node = Raw::with(&key, Config::default());
    let (other, addr) = (
        PeerId::random(),
        "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star",
    );
    match node.listen_on(&format!("{addr}/p2p/{other}")) {
        Err(TransportError::Other(error @ Error::WrongPeerId { .. })) => {
            let text = error.to_string();
            let local = key.public().to_peer_id().to_string();
            assert!(
                text.contains(&other.to_string()) && text.contains(&local),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn listening_twice_on_one_address_is_an_error_however_it_is_written() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    let (own, _) = futures::future::join(link.join(&[]), node.joined()).await;
    for addr in [server.addr(), own.clone(), own.replace("/ipfs/", "/p2p/")] {
        match node.listen_on(&addr) {
            Err(TransportError::Other(Error::AlreadyListening(_))) => {}
            other => panic!("{addr}: {other:?}"),
        }
    }
    link.check(&mut node).await;
}
