//! Whole nodes with secio and mplex, together with js-libp2p 0.26.2.

use std::future::pending;

use futures::future::join;
use libp2p::{
    Multiaddr, PeerId,
    core::{Transport as _, upgrade::Version},
    gossipsub, identify,
    identity::Keypair,
    noise,
    swarm::SwarmEvent,
    yamux,
};
use libp2p_websocket_star::plaintext;
use serde_json::{Value, json};

use crate::support::{
    address, ed25519, embedded,
    js::{Rendezvous, RendezvousOptions},
    libp2p_js::JsNode,
    peer::{PeerEvent, PeerSwarm, during, echoes, exercise, listen, peer, peer_with, until},
    rsa_2048,
};

const BULK: usize = 10 << 20;

async fn npm() -> Rendezvous {
    Rendezvous::start(RendezvousOptions::default()).await
}

#[tokio::test]
async fn javascript_with_libp2p_mplex_dials_through_the_npm_rendezvous() {
    javascript_dials(&npm().await.addr(), "libp2p-mplex").await;
}

#[tokio::test]
async fn javascript_with_pull_mplex_dials_through_the_npm_rendezvous() {
    javascript_dials(&npm().await.addr(), "pull-mplex").await;
}

#[tokio::test]
async fn javascript_with_libp2p_mplex_is_dialled_through_the_npm_rendezvous() {
    javascript_is_dialled(&npm().await.addr(), "libp2p-mplex").await;
}

#[tokio::test]
async fn javascript_with_pull_mplex_is_dialled_through_the_npm_rendezvous() {
    javascript_is_dialled(&npm().await.addr(), "pull-mplex").await;
}

#[tokio::test]
async fn every_key_type_meets_rsa_through_the_npm_rendezvous() {
    every_key_type(&npm().await.addr()).await;
}

#[tokio::test]
async fn messages_are_exchanged_with_floodsub_through_the_npm_rendezvous() {
    pubsub(&npm().await.addr(), "floodsub").await;
}

#[tokio::test]
async fn messages_are_exchanged_with_gossipsub_through_the_npm_rendezvous() {
    pubsub(&npm().await.addr(), "gossipsub").await;
}

#[tokio::test]
async fn javascript_with_libp2p_mplex_dials_through_the_embedded_rendezvous() {
    let star = embedded().await;
    javascript_dials(&address(&star), "libp2p-mplex").await;
    star.shutdown().await;
}

#[tokio::test]
async fn javascript_with_pull_mplex_dials_through_the_embedded_rendezvous() {
    let star = embedded().await;
    javascript_dials(&address(&star), "pull-mplex").await;
    star.shutdown().await;
}

#[tokio::test]
async fn javascript_with_libp2p_mplex_is_dialled_through_the_embedded_rendezvous() {
    let star = embedded().await;
    javascript_is_dialled(&address(&star), "libp2p-mplex").await;
    star.shutdown().await;
}

#[tokio::test]
async fn javascript_with_pull_mplex_is_dialled_through_the_embedded_rendezvous() {
    let star = embedded().await;
    javascript_is_dialled(&address(&star), "pull-mplex").await;
    star.shutdown().await;
}

#[tokio::test]
async fn every_key_type_meets_rsa_through_the_embedded_rendezvous() {
    let star = embedded().await;
    every_key_type(&address(&star)).await;
    star.shutdown().await;
}

#[tokio::test]
async fn messages_are_exchanged_with_floodsub_through_the_embedded_rendezvous() {
    let star = embedded().await;
    pubsub(&address(&star), "floodsub").await;
    star.shutdown().await;
}

#[tokio::test]
async fn messages_are_exchanged_with_gossipsub_through_the_embedded_rendezvous() {
    let star = embedded().await;
    pubsub(&address(&star), "gossipsub").await;
    star.shutdown().await;
}

#[tokio::test]
async fn both_kinds_of_peers_are_served_at_the_same_time_through_the_embedded_rendezvous() {
    let star = embedded().await;
    rust_and_javascript(&address(&star)).await;
    star.shutdown().await;
}

#[tokio::test]
async fn noise_and_yamux_to_rust_and_secio_and_mplex_to_javascript_at_the_same_time() {
    rust_and_javascript(&npm().await.addr()).await;
}

#[tokio::test]
async fn old_nodes_hear_of_no_address_that_they_cannot_parse() {
    let star = npm().await;
    let js = JsNode::start(&star.addr(), json!({})).await;
    let mut rust = peer(&ed25519());
    for addr in [
        "/ip4/1.2.3.4/udp/4001/quic-v1",
        "/dns4/x.example/tcp/443/tls/ws",
    ] {
        rust.add_external_address(addr.parse().expect("a multiaddr"));
    }
    rust.add_external_address("/ip4/1.2.3.4/tcp/4001".parse().expect("a multiaddr"));
    connect(&mut rust, &js).await;
    let local = rust.local_peer_id().to_string();
    let connected = during(&mut rust, js.expect_of("connected", &local)).await;
    let told = connected["addrs"].to_string();
    assert!(told.contains("/ip4/1.2.3.4/tcp/4001"), "{told}");
    assert!(!told.contains("quic") && !told.contains("tls"), "{told}");
    exercise(&mut rust, id(&js), 1, 1000).await;
}

#[tokio::test]
async fn without_encryption_both_sides_dial_if_they_insist() {
    let star = npm().await;
    let plain = || {
        let key = ed25519();
        peer_with(&key, plaintext::insecure_transport)
    };
    let js = JsNode::start(&star.addr(), json!({ "encryption": "plaintext" })).await;
    let mut rust = plain();
    connect(&mut rust, &js).await;
    exercise(&mut rust, id(&js), 1, 100_000).await;

    let mut rust = plain();
    let addr = listen(&mut rust, &star.addr()).await.to_string();
    let to = addr.replace("/p2p/", "/ipfs/");
    during(
        &mut rust,
        js.run(json!({ "cmd": "ping", "to": to }), "pinged"),
    )
    .await;
    assert!(rust.is_connected(&id(&js)));
}

#[tokio::test]
async fn the_preset_does_not_fall_back_to_plaintext() {
    let star = npm().await;
    let js = JsNode::start(&star.addr(), json!({ "encryption": "plaintext" })).await;
    let mut rust = peer(&ed25519());
    rust.dial(js.addr.parse::<Multiaddr>().expect("a multiaddr"))
        .expect("dialled");
    until(&mut rust, "a refusal", |event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(error),
        SwarmEvent::ConnectionEstablished { .. } => panic!("without encryption"),
        _ => None,
    })
    .await;
}

/// A JavaScript node identifies and pings a Rust node, and has it echo 10 MiB and 100 streams.
async fn javascript_dials(star: &str, muxer: &str) {
    let mut rust = peer(&ed25519());
    let addr = listen(&mut rust, star).await.to_string();
    // JavaScript nodes of that age call the last part /ipfs.
    let to = addr.replace("/p2p/", "/ipfs/");
    let local = rust.local_peer_id().to_string();
    let js = JsNode::start(star, json!({ "muxer": muxer })).await;
    let exercise = async {
        js.run(json!({ "cmd": "dial", "to": to }), "dialled").await;
        js.expect_of("connected", &local).await;
        js.run(json!({ "cmd": "ping", "to": to }), "pinged").await;
        let one = json!({ "cmd": "echo", "to": to, "bytes": BULK });
        js.run(one, "echoed").await;
        let many = json!({ "cmd": "echo", "to": to, "streams": 100, "bytes": 1000 });
        js.run(many, "echoed").await;
    };
    during(&mut rust, exercise).await;
    assert!(rust.is_connected(&id(&js)));
}

/// A JavaScript node is identified and pinged, and echoes 10 MiB and 100 streams.
async fn javascript_is_dialled(star: &str, muxer: &str) {
    let js = JsNode::start(star, json!({ "muxer": muxer })).await;
    js.run(json!({ "cmd": "subscribe", "topic": "news" }), "subscribed")
        .await;
    let mut rust = peer(&ed25519());
    listen(&mut rust, star).await;
    let info = connect(&mut rust, &js).await;
    assert!(info.protocols.iter().any(|p| p.as_ref() == "/echo/1.0.0"));
    let told = settled(&mut rust, &js).await.to_string();
    let ours = format!("{star}/ipfs/{}", rust.local_peer_id());
    assert!(told.contains(&ours), "{told}");
    exercise(&mut rust, id(&js), 1, BULK).await;
    exercise(&mut rust, id(&js), 100, 1000).await;
    assert!(rust.is_connected(&id(&js)));
}

/// Waits until the JavaScript node, which has subscribed to something, has identified the Rust node and opened its
/// streams. Returns the Rust node's addresses as the JavaScript node knows them.
///
/// A JavaScript node closes its connection if the negotiation of one of its streams takes longer than the 10 s that
/// Rust gives it. On a slow machine, that may happen behind 10 MiB of another stream.
async fn settled(rust: &mut PeerSwarm, js: &JsNode) -> Value {
    heard_subscription(rust, id(js)).await;
    let local = rust.local_peer_id().to_string();
    during(rust, js.expect_of("connected", &local)).await["addrs"].clone()
}

/// Waits until that peer is known to have subscribed to something. The event may be long past.
async fn heard_subscription(rust: &mut PeerSwarm, peer: PeerId) {
    let subscribed = |rust: &PeerSwarm| {
        let mut peers = rust.behaviour().pubsub.all_peers();
        peers.any(|(of, topics)| *of == peer && !topics.is_empty())
    };
    while !subscribed(rust) {
        until(rust, "their subscription", Some).await;
    }
}

/// One node in the middle works with a Rust peer and a JavaScript peer at the same time.
async fn rust_and_javascript(star: &str) {
    let js = JsNode::start(star, json!({})).await;
    let (mut rust, mut other) = (peer(&ed25519()), noise_and_yamux_only());
    let far = *other.local_peer_id();
    listen(&mut rust, star).await;
    let addr = listen(&mut other, star).await;
    let other = tokio::spawn(async move { during(&mut other, pending::<()>()).await });
    connect(&mut rust, &js).await;
    rust.dial(addr).expect("dialled");
    until(&mut rust, "the Rust peer", |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => (peer_id == far).then_some(()),
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
        _ => None,
    })
    .await;
    let control = rust.behaviour().streams.new_control();
    during(
        &mut rust,
        join(
            echoes(control.clone(), far, 10, 100_000),
            echoes(control, id(&js), 10, 100_000),
        ),
    )
    .await;
    exercise(&mut rust, far, 1, 1000).await;
    exercise(&mut rust, id(&js), 1, 1000).await;
    other.abort();
}

/// Returns a Rust node that does not know secio.
fn noise_and_yamux_only() -> PeerSwarm {
    let key = ed25519();
    peer_with(&key, |star| {
        star.upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).expect("the key signs"))
            .multiplex(yamux::Config::default())
            .boxed()
    })
}

async fn every_key_type(star: &str) {
    let js = JsNode::start(star, json!({ "keyType": "rsa" })).await;
    for key in [ed25519(), Keypair::generate_secp256k1(), rsa_2048()] {
        let mut rust = peer(&key);
        listen(&mut rust, star).await;
        connect(&mut rust, &js).await;
        exercise(&mut rust, id(&js), 1, 1000).await;
    }
}

/// Dials the node, and waits until it is identified.
async fn connect(rust: &mut PeerSwarm, js: &JsNode) -> identify::Info {
    let addr: Multiaddr = js.addr.parse().expect("a multiaddr");
    let peer = id(js);
    rust.dial(addr).expect("dialled");
    until(rust, "the connection", |event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
        SwarmEvent::ConnectionClosed { cause, .. } => panic!("closed: {cause:?}"),
        SwarmEvent::Behaviour(PeerEvent::Identify(identify::Event::Received {
            peer_id,
            info,
            ..
        })) => {
            assert_eq!(info.public_key.to_peer_id(), peer);
            (peer_id == peer).then_some(info)
        }
        _ => None,
    })
    .await
}

fn id(js: &JsNode) -> PeerId {
    js.peer.parse().expect("a peer id")
}

async fn pubsub(star: &str, kind: &str) {
    let js = JsNode::start(star, json!({ "pubsub": kind })).await;
    js.run(json!({ "cmd": "subscribe", "topic": "news" }), "subscribed")
        .await;
    let mut rust = peer(&ed25519());
    let topic = gossipsub::IdentTopic::new("news");
    rust.behaviour_mut()
        .pubsub
        .subscribe(&topic)
        .expect("subscribed");
    listen(&mut rust, star).await;
    connect(&mut rust, &js).await;
    let local = rust.local_peer_id().to_string();
    let knows = js.expect_where("our subscription", |event| {
        event["event"] == "subscription"
            && event["peer"] == local.as_str()
            && event["topics"] == json!(["news"])
    });
    during(&mut rust, knows).await;
    heard_subscription(&mut rust, id(&js)).await;
    for number in 0..3 {
        to_javascript(&mut rust, &js, &topic, &format!("from Rust {number}")).await;
        to_rust(&mut rust, &js, &format!("from JavaScript {number}")).await;
    }
}

async fn to_javascript(
    rust: &mut PeerSwarm,
    js: &JsNode,
    topic: &gossipsub::IdentTopic,
    text: &str,
) {
    let published = rust
        .behaviour_mut()
        .pubsub
        .publish(topic.clone(), text.as_bytes());
    published.expect("published");
    let message = during(
        rust,
        js.expect_where("the message", |event| {
            event["event"] == "message" && event["data"] == text
        }),
    )
    .await;
    assert_eq!(message["topic"], "news", "{message}");
}

async fn to_rust(rust: &mut PeerSwarm, js: &JsNode, text: &str) {
    let command = json!({ "cmd": "publish", "topic": "news", "data": text });
    let message = until(rust, "a message", {
        js.run(command, "published").await;
        |event| match event {
            SwarmEvent::Behaviour(PeerEvent::Pubsub(gossipsub::Event::Message {
                message, ..
            })) => Some(message),
            _ => None,
        }
    })
    .await;
    assert_eq!(message.data, text.as_bytes());
}
