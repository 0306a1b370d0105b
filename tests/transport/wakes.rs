//! Wakes: which tasks are woken, and which are not.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::poll_fn};
use libp2p::core::{
    Endpoint, Transport as _,
    transport::{DialOpts, ListenerId, PortUse, TransportEvent},
};
use libp2p_websocket_star::{Config, WebSocketStarTransport};
use serde_json::json;

use crate::support::{
    counter::Counter,
    ed25519,
    js::{Peer, Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo},
    within,
};

async fn busy_rendezvous() -> Rendezvous {
    Rendezvous::start(RendezvousOptions {
        refresh_peer_list: Duration::from_millis(20),
        ..Default::default()
    })
    .await
}

async fn joined(transport: &mut WebSocketStarTransport, star: &Rendezvous) -> ListenerId {
    let id = ListenerId::next();
    let addr = star.addr().parse().expect("a multiaddr");
    transport.listen_on(id, addr).expect("a good address");
    let event = within("the join", poll_fn(|cx| Pin::new(&mut *transport).poll(cx))).await;
    assert!(
        matches!(event, TransportEvent::NewAddress { .. }),
        "{event:?}"
    );
    id
}

#[tokio::test]
async fn a_listener_that_starts_or_is_removed_wakes_the_transport_once() {
    let star = busy_rendezvous().await;
    let mut transport = WebSocketStarTransport::new(&ed25519(), Config::default());
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut transport).poll(&mut cx).is_pending());
    let addr = star.addr().parse().expect("a multiaddr");
    let id = ListenerId::next();
    transport.listen_on(id, addr).expect("a good address");
    assert_eq!(counter.wakes(), 1);

    let event = within("the join", poll_fn(|cx| Pin::new(&mut transport).poll(cx))).await;
    assert!(
        matches!(event, TransportEvent::NewAddress { .. }),
        "{event:?}"
    );
    assert!(Pin::new(&mut transport).poll(&mut cx).is_pending());
    assert!(transport.remove_listener(id));
    assert_eq!(counter.wakes(), 2);
    let Poll::Ready(TransportEvent::ListenerClosed {
        listener_id,
        reason: Ok(()),
    }) = Pin::new(&mut transport).poll(&mut cx)
    else {
        panic!("not closed")
    };
    assert_eq!(listener_id, id);
    assert!(Pin::new(&mut transport).poll(&mut cx).is_pending());
    assert!(!transport.remove_listener(id));
    assert_eq!(counter.wakes(), 2);
}

#[tokio::test]
async fn announcements_and_heartbeats_do_not_wake_the_transport() {
    let star = busy_rendezvous().await;
    let mut transport = WebSocketStarTransport::new(&ed25519(), Config::default());
    let id = joined(&mut transport, &star).await;
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    assert!(
        Pin::new(&mut transport)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let js = Peer::start();
    let theirs = js.listen(&star.addr()).await;
    let known = transport.discovery().next().await;
    assert!(format!("{known:?}").contains(theirs.rsplit('/').next().expect("a peer id")));
    // The rendezvous announces the two peers to each other in turn. By now, the node has received many announcements.
    for _ in 0..20 {
        js.expect("peer").await;
    }
    assert_eq!(counter.wakes(), 0);
    assert!(transport.remove_listener(id));
}

#[tokio::test]
async fn a_behaviour_that_is_never_polled_holds_nothing_up() {
    let star = busy_rendezvous().await;
    let mut rust = Raw::new();
    let discovery = rust.discovery();
    let behaviour = libp2p_websocket_star::Behaviour::new(discovery.local_peer(), discovery);
    rust.listen(&star.addr()).await;
    let js = Peer::start();
    let to = js.listen(&star.addr()).await;
    for _ in 0..20 {
        js.expect("peer").await;
    }
    check_echo(rust.dial(&to).await, 100_000, 1000).await;
    drop(behaviour);
}

#[tokio::test]
async fn a_dial_does_nothing_before_it_is_polled_and_is_gone_when_it_is_dropped() {
    let star = busy_rendezvous().await;
    let js = Peer::start();
    let to = js.listen(&star.addr()).await;
    js.mode("ignore", json!({})).await;
    let key = ed25519();
    let mut transport =
        WebSocketStarTransport::new(&key, Config::default().with_allow_local_rendezvous(true));
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::Reuse,
    };
    let mut dial = transport
        .dial(to.parse().expect("a multiaddr"), opts)
        .expect("a good address");
    let ours = format!("{}/ipfs/{}", star.addr(), key.public().to_peer_id());
    assert!(js.seen("peer").is_empty());

    assert!((&mut dial).now_or_never().is_none());
    js.expect_where("the dialer", |event| event["addr"] == *ours)
        .await;
    js.expect("incoming").await;
    // The link has no other user, so it is closed, and the node leaves the rendezvous.
    drop(dial);
    within("the server to let us go", async {
        loop {
            let dialled = js.dial(&ours, json!({"timeoutMS": 1000})).await;
            if dialled["error"] == "Peer not found" {
                break;
            }
        }
    })
    .await;
}
