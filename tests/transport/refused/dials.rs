//! Dials that fail, because of the link or because of the peer.

use std::time::Duration;

use libp2p::{
    PeerId,
    core::{Transport as _, transport::ListenerId},
};
use libp2p_websocket_star::{
    Config,
    error::{DialError, JoinError, LinkError},
};
use serde_json::{Value, json};

use super::{dial_error, dialled, js_listen, link_error, url};
use crate::support::{
    ed25519, hasty,
    js::{Peer, Rendezvous, RendezvousOptions},
    raw::Raw,
    scripted::{Scripted, error},
};

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_of_the_link() {
    let server = Scripted::start().await;
    let (addr, to, url) = (server.addr(), server.somebody(), server.url());
    drop(server);
    let mut node = Raw::with(&ed25519(), hasty());
    match link_error(node.try_dial(&to).await.expect_err("nobody"), &url) {
        LinkError::Connect(_) => {}
        other => panic!("{other:?}"),
    }
    node.listen_on(&addr).expect("a good address");
    for _ in 0..3 {
        match link_error(node.listener_error().await, &url) {
            LinkError::Connect(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_dial_at_a_server_that_is_no_websocket_server_fails() {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty());
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    drop(server.tcp().await);
    match link_error(dialled(dial).await.expect_err("no server"), &server.url()) {
        LinkError::Upgrade(_) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_an_error_of_the_link() {
    let node = Raw::new();
    let addr = format!(
        "/dns4/host.invalid/tcp/1/ws/p2p-websocket-star/p2p/{}",
        PeerId::random()
    );
    let error = node.try_dial(&addr).await.expect_err("no such host");
    match link_error(error, "ws://host.invalid:1") {
        LinkError::Resolve { host, .. } => assert_eq!(host, "host.invalid"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dial_to_an_absent_peer_fails_with_the_servers_reason() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    let node = Raw::new();
    let to = format!("{}/p2p/{}", star.addr(), PeerId::random());
    for _ in 0..2 {
        match dial_error(
            node.try_dial(&to).await,
            &url(&star),
            "not at the rendezvous",
        ) {
            DialError::PeerNotFound => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_javascript_peer_that_refuses_gives_its_reason_and_one_that_is_silent_none() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    let timeout = Duration::from_secs(1);
    let node = Raw::with(
        &ed25519(),
        Config::default()
            .with_allow_local_rendezvous(true)
            .with_dial_timeout(timeout),
    );
    let js = Peer::start();
    let to = js_listen(&js, &star).await;

    js.mode("refuse", json!({"reason": "we are closed"})).await;
    match dial_error(node.try_dial(&to).await, &url(&star), "we are closed") {
        DialError::Refused(reason) => assert_eq!(reason, "we are closed"),
        other => panic!("{other:?}"),
    }
    js.mode("ignore", json!({})).await;
    match dial_error(node.try_dial(&to).await, &url(&star), "no answer") {
        DialError::TimedOut(found) => assert_eq!(found, timeout),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_answer_to_a_dial_has_an_error_of_its_own() {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty());
    // This connection keeps the link open, so that all dials use the same link.
    let first = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.joined().await;
    link.take_dial().await;
    let _connection = dialled(first).await.expect("a connection");

    type Is = fn(&DialError) -> bool;
    let cases: [(Value, Is); 9] = [
        (json!(["Peer not found"]), |e| *e == DialError::PeerNotFound),
        (json!(["Not authorized for this address"]), |e| {
            *e == DialError::NotAuthorized
        }),
        (json!(["no"]), |e| *e == DialError::Refused("no".to_owned())),
        (json!([{}]), |e| *e == DialError::Refused("{}".to_owned())),
        (json!([true]), |e| {
            *e == DialError::Refused("true".to_owned())
        }),
        (json!(["x".repeat(1000)]), |e| {
            *e == DialError::Refused("x".repeat(256))
        }),
        (json!([["nested"]]), |e| {
            *e == DialError::Refused("[\"nested\"]".to_owned())
        }),
        (json!([null, 2, 3, 4, 5, 6, 7, 8, 9]), |e| {
            matches!(e, DialError::Malformed(_))
        }),
        (json!(["\u{202e}odd\n"]), |e| {
            matches!(e, DialError::Refused(_))
        }),
    ];
    for (answer, is) in cases {
        let dial = tokio::spawn(node.start_dial(&server.somebody()));
        let call = link.expect("ss-dial").await;
        link.answer(&call, answer.clone()).await;
        let error = dial_error(dialled(dial).await, &server.url(), "");
        assert!(is(&error), "{answer}: {error:?}");
    }
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let call = link.expect("ss-dial").await;
    link.text(&format!(
        "43{}[null",
        call.ack.expect("an answer is wanted")
    ))
    .await;
    match dial_error(
        dialled(dial).await,
        &server.url(),
        "malformed answer to the dial",
    ) {
        DialError::Malformed(_) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dial_that_is_never_answered_is_given_up_in_time() {
    let timeout = Duration::from_secs(1);
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty().with_dial_timeout(timeout));
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.joined().await;
    let call = link.expect("ss-dial").await;
    match dial_error(dialled(dial).await, &server.url(), "no answer") {
        DialError::TimedOut(found) => assert_eq!(found, timeout),
        other => panic!("{other:?}"),
    }
    let stream = error(&format!("{}.dialer", call.arg(2)));
    let told = link.expect(&stream).await;
    assert!(told.args[0].is_string(), "{told:?}");
    link.until_gone().await;
}

#[tokio::test]
async fn a_dial_whose_join_is_never_answered_is_given_up_in_time() {
    let timeout = Duration::from_secs(1);
    let server = Scripted::start().await;
    let by_join = Raw::with(&ed25519(), hasty().with_join_timeout(timeout));
    let dial = tokio::spawn(by_join.start_dial(&server.somebody()));
    let _link = server.link().await;
    match dial_error(
        dialled(dial).await,
        &server.url(),
        "did not answer the join",
    ) {
        DialError::Join(JoinError::TimedOut(found)) => assert_eq!(found, timeout),
        other => panic!("{other:?}"),
    }
    let by_dial = Raw::with(&ed25519(), hasty().with_dial_timeout(timeout));
    let dial = tokio::spawn(by_dial.start_dial(&server.somebody()));
    let _link = server.link().await;
    match dial_error(dialled(dial).await, &server.url(), "no answer to the dial") {
        DialError::TimedOut(found) => assert_eq!(found, timeout),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_only_dials_joins_by_itself_and_refuses_to_be_dialled() {
    let server = Scripted::start().await;
    let key = ed25519();
    let mut node = Raw::with(&key, hasty());
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.link().await;
    let own = link.join(&[]).await;
    let call = link.expect("ss-dial").await;
    assert_eq!(call.arg(0), own);
    link.answer(&call, json!([])).await;
    let _connection = dialled(dial).await.expect("a connection");
    let ack = link.incoming("inbound").await;
    assert_eq!(link.answered(ack).await, json!(["not listening"]));

    // The dial has joined this address already.
    let id = ListenerId::next();
    let addr = server.addr().parse().expect("a multiaddr");
    node.transport()
        .listen_on(id, addr)
        .expect("a good address");
    assert_eq!(
        node.joined().await.to_string().replace("/p2p/", "/ipfs/"),
        own
    );
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_javascript_peer_cannot_dial_a_node_that_only_dials() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    let key = ed25519();
    let (node, js) = (
        Raw::with(&key, Config::default().with_allow_local_rendezvous(true)),
        Peer::start(),
    );
    let to = js_listen(&js, &star).await;
    let _connection = node.dial(&to).await;
    let own = format!("{}/ipfs/{}", star.addr(), key.public().to_peer_id());
    let event = js.dial(&own, json!({})).await;
    assert_eq!(
        (&event["ok"], &event["stage"]),
        (&json!(false), &json!("open")),
        "{event}"
    );
    assert!(
        event["error"].to_string().contains("not listening"),
        "{event}"
    );
}
