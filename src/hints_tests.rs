use futures::FutureExt as _;

use super::*;
use crate::error::DialError;

fn star(host: &str, peer: PeerId) -> Multiaddr {
    format!("{host}/tcp/443/wss/p2p-websocket-star/p2p/{peer}")
        .parse()
        .expect("a multiaddr")
}

fn rendezvous(host: &str) -> Rendezvous {
    let addr = StarAddr::try_from(&star(host, PeerId::random())).expect("valid");
    addr.rendezvous().clone()
}

fn id(id: usize) -> ConnectionId {
    ConnectionId::new_unchecked(id)
}

fn failed() -> Error {
    Error::Dial {
        rendezvous: "wss://a".into(),
        error: DialError::PeerNotFound,
    }
}

#[test]
fn names_are_remembered_by_peer_and_addresses_without_one_are_not() {
    let hints = Hints::default();
    let [a, b] = [PeerId::random(), PeerId::random()];
    hints.address(a, &star("/dns4/a", a));
    hints.address(a, &star("/dns4/a", a));
    hints.address(a, &star("/ip4/10.0.0.1", a));
    hints.address(a, &"/dns4/a/tcp/443".parse().expect("a multiaddr"));
    hints.address(b, &star("/dns6/b", b));
    assert_eq!(hints.names(&a), [rendezvous("/dns4/a")]);
    assert_eq!(hints.names(&b), [rendezvous("/dns6/b")]);
}

#[test]
fn without_a_behaviour_every_dial_stands_for_itself() {
    let hints = Arc::new(Hints::default());
    let (peer, a) = (PeerId::random(), rendezvous("/dns4/a"));
    for _ in 0..3 {
        assert!(matches!(hints.claim(peer, &a), Ok(None)));
    }
}

#[test]
fn there_are_as_many_dials_of_a_peer_at_one_rendezvous_as_attempts_to_reach_it() {
    let hints = Arc::new(Hints::default());
    let (peer, a, b) = (
        PeerId::random(),
        rendezvous("/dns4/a"),
        rendezvous("/dns4/b"),
    );
    hints.attempt_began(id(1), peer);
    hints.attempt_began(id(1), peer);
    let first = hints.claim(peer, &a).expect("the first").expect("counted");
    let over = hints.claim(peer, &a).expect_err("the same attempt");
    assert!(hints.claim(peer, &b).is_ok(), "elsewhere");
    hints.attempt_began(id(2), peer);
    let second = hints.claim(peer, &a).expect("another").expect("counted");
    assert!(hints.claim(peer, &a).is_err());

    // A waiting dial gets the same error, or may try itself once the other dial has given up.
    assert!(over.clone().now_or_never().is_none());
    first.failed(&failed());
    assert!(matches!(over.now_or_never(), Some(Ok(Error::Dial { .. }))));
    let over = hints.claim(peer, &a).expect("room").expect("counted");
    drop((over, second));
    assert!(hints.claim(peer, &a).is_ok());
}

#[test]
fn a_connection_holds_its_place_until_its_attempt_is_over() {
    let hints = Arc::new(Hints::default());
    let (peer, a) = (PeerId::random(), rendezvous("/dns4/a"));
    hints.attempt_began(id(1), peer);
    let claim = hints.claim(peer, &a).expect("the first").expect("counted");
    claim.connected();
    let over = hints.claim(peer, &a).expect_err("the same attempt");
    assert_eq!(hints.attempt_ended(id(1), true), Some(false));
    assert!(matches!(over.now_or_never(), Some(Err(_))));
    // A later attempt is not held up by the connection, although it still exists.
    hints.attempt_began(id(2), peer);
    hints.asked(&peer);
    assert!(hints.claim(peer, &a).is_ok());
    assert_eq!(hints.attempt_ended(id(2), false), Some(true));
    assert_eq!(hints.attempt_ended(id(2), false), None);
    drop(claim);
    let state = hints.lock();
    assert!(state.dials.is_empty() && state.pending.is_empty() && state.attempts.is_empty());
}
