//! Dials and incoming connections with noise and yamux on top. Such futures await many times, and are dropped at each
//! await.

use std::future::poll_fn;

use libp2p::{
    PeerId,
    core::{
        Transport as _,
        muxing::{StreamMuxerBox, StreamMuxerExt as _},
        transport::{Boxed, TransportEvent},
        upgrade,
    },
    identity::Keypair,
    noise, yamux,
};

use super::{
    base, counts,
    node::{ByHand, Node},
    order::Kind::{Closed, Incoming, NewAddress},
    settled, tasks, transport,
};
use crate::support::{ed25519, embedded, within};

fn secured(key: &Keypair) -> Node<Boxed<(PeerId, StreamMuxerBox)>> {
    let transport = transport(key)
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default());
    Node::new(transport.boxed())
}

/// Serves a connection until the other end closes it.
async fn serve(mut muxer: StreamMuxerBox) {
    while poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await.is_ok() {}
}

#[tokio::test]
async fn a_secured_dial_that_is_dropped_at_any_poll_leaves_nothing() {
    let star = embedded().await;
    let keys = [ed25519(), ed25519()];
    let (mut listener, mut dialer) = (secured(&keys[0]), secured(&keys[1]));
    let (_, address) = listener.listen(&base(&star)).await;
    let served = tokio::spawn(async move {
        loop {
            let event = poll_fn(|cx| listener.poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                tokio::spawn(async move {
                    // The dialer may be gone.
                    if let Ok((_, muxer)) = upgrade.await {
                        serve(muxer).await;
                    }
                });
            }
        }
    });
    let before = tasks();
    for count in counts() {
        let mut dial = ByHand::new(dialer.dial(&address));
        let dialled = dial.polls(count).await;
        drop(dial);
        let done = dialled.map(|dialled| dialled.expect("dialled").0);
        settled(&star, 1, before).await;
        if let Some(peer) = done {
            assert_eq!(peer, keys[0].public().to_peer_id());
            // The polls are those of the dial itself, of the negotiation, and of noise.
            assert!(count > 2, "all in {count} polls");
            break;
        }
    }
    assert!(dialer.event_now().is_none());
    served.abort();
    settled(&star, 0, before).await;
    star.shutdown().await;
}

#[tokio::test]
async fn an_incoming_connection_that_is_dropped_at_any_poll_of_its_upgrade_ends_at_the_dialer() {
    let star = embedded().await;
    let unused = tasks();
    let keys = [ed25519(), ed25519()];
    let (mut listener, mut dialer) = (secured(&keys[0]), secured(&keys[1]));
    let (id, address) = listener.listen(&base(&star)).await;
    let before = tasks();
    let mut expected = vec![NewAddress];
    for count in counts() {
        let dial = dialer.dial(&address);
        let dialled = tokio::spawn(async move {
            // The dial may fail now or later.
            if let Ok((_, muxer)) = dial.await {
                serve(muxer).await;
            }
        });
        let TransportEvent::Incoming { upgrade, .. } = listener.event().await else {
            panic!("no connection")
        };
        expected.push(Incoming);
        let mut upgrade = ByHand::new(upgrade);
        let upgraded = upgrade.polls(count).await;
        drop(upgrade);
        let done = upgraded.map(|upgraded| upgraded.expect("upgraded").0);
        within("the dialer to hear of it", dialled)
            .await
            .expect("no panic");
        settled(&star, 1, before).await;
        if let Some(peer) = done {
            assert_eq!(peer, keys[1].public().to_peer_id());
            assert!(count > 2, "all in {count} polls");
            break;
        }
    }
    assert!(listener.remove(id));
    expected.push(Closed);
    assert_eq!(listener.events_of(id), expected);
    settled(&star, 0, unused).await;
    star.shutdown().await;
}
