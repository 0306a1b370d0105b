//! Listeners that are removed while something is in progress.

use libp2p::core::transport::TransportEvent;

use super::{
    Echo, MANY, base, check, check_both, counts,
    node::{ByHand, Node},
    order::Kind::{Closed, Incoming, NewAddress},
    raw, settled, steps, tasks, transport, until,
};
use crate::support::{ed25519, embedded};

/// The listener is removed while the link opens, while the join is in progress, and when the join has just been
/// answered.
#[tokio::test]
async fn a_listener_that_is_removed_at_any_step_of_its_join_leaves_nothing() {
    let star = embedded().await;
    let before = tasks();
    for count in counts() {
        let mut node = raw();
        let id = node.listen_on(&base(&star)).expect("a good address");
        let mut joined = false;
        for _ in 0..count {
            joined |= node.event_now().is_some();
            steps(1).await;
        }
        assert!(node.remove(id));
        let expected = if joined {
            &[NewAddress, Closed][..]
        } else {
            &[Closed]
        };
        assert_eq!(node.events_of(id), expected);
        settled(&star, 0, before).await;
        // Nothing that was in progress arrives after the end.
        assert_eq!(node.events_of(id), expected);
        if joined {
            assert!(count > 4, "joined in {count} steps");
            return star.shutdown().await;
        }
    }
}

/// The old listener's join may be in progress at the rendezvous when the new one asks for the same address. This is
/// tested with and without a connection that keeps the link open.
#[tokio::test]
async fn a_listener_that_takes_the_place_of_another_at_any_step_is_joined() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    for keep in [false, true] {
        for count in counts() {
            let mut node = raw();
            let kept = if keep {
                Some(node.dial(&echo.address).await.expect("dialled"))
            } else {
                None
            };
            let old = node.listen_on(&base(&star)).expect("a good address");
            let mut joined = false;
            for _ in 0..count {
                joined |= node.event_now().is_some();
                steps(1).await;
            }
            assert!(node.remove(old));
            let new = node.listen_on(&base(&star)).expect("it is free");
            assert!(matches!(
                node.event().await,
                TransportEvent::ListenerClosed { listener_id, .. } if listener_id == old
            ));
            let address = match node.event().await {
                TransportEvent::NewAddress {
                    listener_id,
                    listen_addr,
                } if listener_id == new => listen_addr,
                other => panic!("step {count}: {other:?}"),
            };
            let connection = raw().dial(&address).await.expect("dialled");
            let (by, accepted) = node.accept().await;
            assert_eq!(by, new);
            check_both(connection, accepted).await;
            if let Some(kept) = kept {
                check(kept).await;
            }
            assert!(node.remove(new));
            settled(&star, 1, before).await;
            assert_eq!(node.events_of(new), [NewAddress, Incoming, Closed]);
            if joined {
                break;
            }
        }
    }
    star.shutdown().await;
}

#[tokio::test]
async fn a_dial_of_ours_goes_on_when_the_listener_is_removed_at_any_step() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    // The link exists already, or the listener and the dial open it together.
    for joined in [true, false] {
        for count in counts() {
            let mut node = raw();
            let id = node.listen_on(&base(&star)).expect("a good address");
            if joined {
                assert!(node.event().await.is_new_address());
            } else {
                assert!(node.event_now().is_none());
            }
            let mut dial = ByHand::new(node.dial(&echo.address));
            let early = dial.run(count).await;
            let done = early.is_some();
            assert!(node.remove(id));
            let dialled = match early {
                Some(dialled) => dialled,
                None => node.during(dial.run(MANY)).await.expect("an answer"),
            };
            match dialled {
                Ok(connection) => check(connection).await,
                Err(error) => panic!("joined {joined}, step {count}: {error}"),
            }
            drop(dial);
            settled(&star, 1, before).await;
            assert_eq!(node.events_of(id).last(), Some(&Closed));
            if done {
                break;
            }
        }
    }
    star.shutdown().await;
}

/// The dialer gets a connection that works, a connection that ends, or an error. The listener gets the connection
/// before its own end, or not at all.
#[tokio::test]
async fn a_dial_to_us_is_answered_or_ends_when_the_listener_is_removed_at_any_step() {
    let star = embedded().await;
    let mut dialer = raw();
    // This listener keeps the dialer's link open.
    let _listener = dialer.listen(&base(&star)).await;
    let before = tasks();
    let (mut refused, mut accepted) = (0, 0);
    for count in counts() {
        let mut node = Node::new(transport(&ed25519()));
        let (id, address) = node.listen(&base(&star)).await;
        let mut dial = ByHand::new(dialer.dial(&address));
        let early = dial.run(count).await;
        let done = early.is_some();
        let event = node.event_now();
        assert!(node.remove(id));
        let dialled = match early {
            Some(dialled) => dialled,
            None => node.during(dial.run(MANY)).await.expect("an answer"),
        };
        match event {
            None => {
                refused += 1;
                if let Ok(connection) = dialled {
                    ends(connection).await;
                }
                assert_eq!(node.events_of(id), [NewAddress, Closed]);
            }
            Some(TransportEvent::Incoming { upgrade, .. }) => {
                accepted += 1;
                let ours = upgrade.await.expect("accepted");
                check_both(dialled.expect("accepted"), ours).await;
                assert_eq!(node.events_of(id), [NewAddress, Incoming, Closed]);
            }
            Some(other) => panic!("{other:?}"),
        }
        drop(dial);
        settled(&star, 1, before).await;
        assert_eq!(node.events_of(id).last(), Some(&Closed));
        if done {
            break;
        }
    }
    assert!(refused > 1 && accepted > 0, "{refused}, {accepted}");
    star.shutdown().await;
}

/// Checks that a connection ends soon, without any data.
async fn ends(connection: libp2p_websocket_star::Connection) {
    let mut connection = connection;
    let mut byte = [0];
    let read = futures::AsyncReadExt::read(&mut connection, &mut byte);
    let read = crate::support::within("the end", read).await;
    assert!(matches!(read, Err(_) | Ok(0)), "{read:?}");
}

#[tokio::test]
async fn connections_outlive_their_listener() {
    let star = embedded().await;
    let before = tasks();
    let (mut node, mut dialer) = (raw(), raw());
    let (id, address) = node.listen(&base(&star)).await;
    let theirs = dialer.dial(&address).await.expect("dialled");
    let (_, ours) = node.accept().await;
    assert!(node.remove(id));
    assert_eq!(node.events_of(id), [NewAddress, Incoming, Closed]);
    until("the peer to leave", || {
        !star
            .snapshot()
            .peers
            .iter()
            .any(|peer| address_is(peer, &address))
    })
    .await;
    assert_eq!(star.snapshot().links, 2);
    // No peer can dial the address any more, and the open connection stays.
    assert!(dialer.dial(&address).await.is_err());
    check_both(theirs, ours).await;
    settled(&star, 0, before).await;
    star.shutdown().await;
}

fn address_is(wire: &str, address: &libp2p::Multiaddr) -> bool {
    wire.replace("/ipfs/", "/p2p/") == address.to_string()
}

/// The upgrade belongs to its caller, whatever happens to the listener.
#[tokio::test]
async fn a_connection_that_was_handed_out_survives_the_removal_of_its_listener() {
    let star = embedded().await;
    let (mut node, mut dialer) = (raw(), raw());
    let (id, address) = node.listen(&base(&star)).await;
    let theirs = dialer.dial(&address).await.expect("dialled");
    let TransportEvent::Incoming { upgrade, .. } = node.event().await else {
        panic!("no connection")
    };
    assert!(node.remove(id));
    drop(node);
    check_both(theirs, upgrade.await.expect("accepted")).await;
    star.shutdown().await;
}
