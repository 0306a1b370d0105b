//! The transport with the published JavaScript rendezvous and client.

use std::{io::ErrorKind, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::join};
use libp2p::{
    core::transport::{Transport as _, TransportEvent},
    identity::Keypair,
};
use libp2p_websocket_star::{Config, Discovery, Error, Event, error::LinkError};
use serde_json::json;

use crate::support::{
    ed25519,
    js::{Peer, Rendezvous, RendezvousOptions},
    pattern,
    raw::{Raw, check_echo, echo},
    rsa_2048, within,
};

async fn rendezvous() -> Rendezvous {
    Rendezvous::start(RendezvousOptions::default()).await
}

#[tokio::test]
async fn rust_joins_with_every_key_type() {
    let star = rendezvous().await;
    for key in [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        rsa_2048(),
    ] {
        let mut node = Raw::with(&key, Config::default().with_allow_local_rendezvous(true));
        let (_, addr) = node.listen(&star.addr()).await;
        let peer = key.public().to_peer_id();
        assert_eq!(addr.to_string(), format!("{}/p2p/{peer}", star.addr()));
    }
}

#[tokio::test]
async fn a_javascript_peer_dials_rust_and_gets_every_byte_back() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let (_, to) = rust.listen(&star.addr()).await;
    let from = js.listen(&star.addr()).await;
    let to = to.to_string().replace("/p2p/", "/ipfs/");
    for (bytes, chunk) in [
        (1, 1),
        (65_536, 65_536),
        (1_000_000, 999_000),
        (64 << 20, 65_536),
    ] {
        let dial = async { js.dial(&to, json!({"bytes": bytes, "chunk": chunk})).await };
        let answer = async {
            let (connection, send_back) = rust.accept().await;
            let peer = from.rsplit('/').next().expect("a peer id");
            assert_eq!(send_back.to_string(), format!("/p2p/{peer}"));
            echo(connection).await.expect("no reset")
        };
        let (dialled, copied) = join(dial, answer).await;
        assert_eq!((&dialled["ok"], copied), (&json!(true), bytes), "{dialled}");
    }
}

#[tokio::test]
async fn rust_dials_a_javascript_peer_and_gets_every_byte_back() {
    let star = rendezvous().await;
    let (rust, js) = (Raw::new(), Peer::start());
    let to = js.listen(&star.addr()).await;
    for (bytes, chunk) in [
        (0, 1),
        (1, 1),
        (65_536, 1000),
        (1_000_000, 1_000_000),
        (64 << 20, 65_536),
    ] {
        check_echo(rust.dial(&to).await, bytes, chunk).await;
    }
}

#[tokio::test]
async fn a_direction_that_javascript_ends_leaves_the_other_open() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let (_, to) = rust.listen(&star.addr()).await;
    js.listen(&star.addr()).await;
    let to = to.to_string().replace("/p2p/", "/ipfs/");
    let dial = async {
        js.dial(&to, json!({"mode": "half-close", "bytes": 300_000}))
            .await
    };
    let answer = async {
        let (connection, _) = rust.accept().await;
        let (mut reader, mut writer) = connection.split();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.expect("a proper end");
        writer.write_all(&all).await.expect("still writable");
        writer.close().await.expect("closable");
    };
    let (dialled, ()) = within("a half-close", join(dial, answer)).await;
    assert_eq!(dialled["ok"], true, "{dialled}");
}

#[tokio::test]
async fn a_direction_that_rust_ends_leaves_the_other_open() {
    let star = rendezvous().await;
    let (rust, js) = (Raw::new(), Peer::start());
    let to = js.listen(&star.addr()).await;
    js.mode("echo-after-end", json!({})).await;
    let mut connection = rust.dial(&to).await;
    connection
        .write_all(&pattern(0, 300_000))
        .await
        .expect("writable");
    connection.close().await.expect("closable");
    let late = connection.write_all(b"late").await.expect_err("closed");
    assert_eq!(late.kind(), ErrorKind::BrokenPipe);
    let mut all = Vec::new();
    within("the answer", connection.read_to_end(&mut all))
        .await
        .expect("a proper end");
    assert!(all == pattern(0, 300_000));
    assert_eq!(js.expect("received").await["bytes"], 300_000);
}

#[tokio::test]
async fn empty_items_and_json_items_are_data_and_no_end() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let (_, to) = rust.listen(&star.addr()).await;
    js.listen(&star.addr()).await;
    let to = to.to_string().replace("/p2p/", "/ipfs/");
    for options in [
        json!({"bytes": 5000, "chunk": 100, "empty": true}),
        json!({"mode": "items", "items": ["a", "", "h\u{e9}", "b"]}),
    ] {
        let dial = async { js.dial(&to, options.clone()).await };
        let answer = async { echo(rust.accept().await.0).await.expect("a proper end") };
        let (dialled, copied) = within("an echo", join(dial, answer)).await;
        assert_eq!(dialled["ok"], true, "{dialled}");
        assert_eq!(dialled["bytes"], copied);
    }
}

#[tokio::test]
async fn a_javascript_peer_that_gives_up_resets_the_connection_after_its_data() {
    let star = rendezvous().await;
    let (rust, js) = (Raw::new(), Peer::start());
    let to = js.listen(&star.addr()).await;
    js.mode("source", json!({"bytes": 1000, "fail": "out of paper"}))
        .await;
    let mut connection = rust.dial(&to).await;
    let mut all = Vec::new();
    let error = within("the reset", connection.read_to_end(&mut all))
        .await
        .expect_err("a reset");
    assert_eq!(all, pattern(0, 1000));
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(error.to_string().contains("out of paper"), "{error}");
}

#[tokio::test]
async fn peers_hear_of_each_other_in_the_answer_to_the_join_and_later() {
    let star = Rendezvous::start(RendezvousOptions {
        refresh_peer_list: Duration::from_millis(200),
        ..Default::default()
    })
    .await;
    let (earlier, later) = (Peer::start(), Peer::start());
    let first = earlier.listen(&star.addr()).await;
    let mut rust = Raw::new();
    let mut discovery = rust.discovery();
    let (_, addr) = rust.listen(&star.addr()).await;
    assert_eq!(discovered(&mut discovery).await, first);
    let second = later.listen(&star.addr()).await;
    assert_eq!(discovered(&mut discovery).await, second);
    for js in [&earlier, &later] {
        let ours = addr.to_string().replace("/p2p/", "/ipfs/");
        js.expect_where("the Rust peer", |event| event["addr"] == *ours)
            .await;
    }
}

/// Returns the next peer's address in the spelling of JavaScript.
async fn discovered(discovery: &mut Discovery) -> String {
    match within("a peer", discovery.next()).await {
        Some(Event::Discovered { address, .. }) => address.to_string().replace("/p2p/", "/ipfs/"),
        other => panic!("not discovered: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_is_announced_no_more_expires() {
    let interval = Duration::from_millis(200);
    let star = Rendezvous::start(RendezvousOptions {
        refresh_peer_list: interval,
        ..Default::default()
    })
    .await;
    let js = Peer::start();
    let theirs = js.listen(&star.addr()).await;
    let mut rust = Raw::with(
        &ed25519(),
        Config::default().with_announce_interval(interval),
    );
    let mut discovery = rust.discovery();
    rust.listen(&star.addr()).await;
    assert_eq!(discovered(&mut discovery).await, theirs);
    // Wait until the node has learned the interval of announcements. The other peer gets the same announcements as
    // the node.
    let other = Peer::start();
    let others = other.listen(&star.addr()).await;
    assert_eq!(discovered(&mut discovery).await, others);
    for _ in 0..4 {
        other
            .expect_where("the peer again", |event| event["addr"] == *theirs)
            .await;
    }
    js.leave().await;
    let expired = within("the expiry", discovery.next()).await;
    let Some(Event::Expired { address, .. }) = expired else {
        panic!("not expired: {expired:?}")
    };
    assert_eq!(address.to_string().replace("/p2p/", "/ipfs/"), theirs);
}

#[tokio::test]
async fn a_rendezvous_that_is_absent_at_first_is_joined_when_it_appears() {
    let (here, mut absent) = (rendezvous().await, rendezvous().await);
    absent.kill().await;
    let mut rust = Raw::with(&ed25519(), fast_backoff());
    let missing = rust.listen_on(&absent.addr()).expect("a good address");
    let error = rust.listener_error().await;
    assert!(
        matches!(
            error,
            Error::Link {
                error: LinkError::Connect(_),
                ..
            }
        ),
        "{error}"
    );

    rust.listen(&here.addr()).await;
    let js = Peer::start();
    let to = js.listen(&here.addr()).await;
    check_echo(rust.dial(&to).await, 1000, 100).await;

    absent.restart().await;
    let joined = rust.joined().await;
    assert!(joined.to_string().starts_with(&absent.addr()), "{joined}");
    let js = Peer::start();
    let to = js.listen(&absent.addr()).await;
    check_echo(rust.dial(&to).await, 1000, 100).await;
    assert!(rust.transport().remove_listener(missing));
}

#[tokio::test]
async fn a_rendezvous_that_dies_and_comes_back_is_joined_again() {
    let mut star = rendezvous().await;
    let mut rust = Raw::with(&ed25519(), fast_backoff());
    let (listener, addr) = rust.listen(&star.addr()).await;
    let js = Peer::start();
    let to = js.listen(&star.addr()).await;
    let mut connection = rust.dial(&to).await;
    connection.write_all(b"hello").await.expect("writable");
    connection.flush().await.expect("flushed");
    let mut buffer = [0; 5];
    connection.read_exact(&mut buffer).await.expect("an echo");

    star.kill().await;
    let error = within("the reset", connection.read(&mut buffer))
        .await
        .expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = connection.write(b"a").await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let TransportEvent::AddressExpired {
        listener_id,
        listen_addr,
    } = rust.event().await
    else {
        panic!("not expired")
    };
    assert_eq!((listener_id, listen_addr), (listener, addr.clone()));
    rust.listener_error().await;

    star.restart().await;
    assert_eq!(rust.joined().await, addr);
    js.expect("rejoined").await;
    check_echo(rust.dial(&to).await, 1000, 100).await;
    let ours = addr.to_string().replace("/p2p/", "/ipfs/");
    let (dialled, ()) = join(js.dial(&ours, json!({"bytes": 1000})), async {
        echo(rust.accept().await.0).await.expect("no reset");
    })
    .await;
    assert_eq!(dialled["ok"], true, "{dialled}");
}

#[tokio::test]
async fn a_removed_listener_leaves_and_its_connections_live_on() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let (listener, addr) = rust.listen(&star.addr()).await;
    let ours = addr.to_string().replace("/p2p/", "/ipfs/");
    js.listen(&star.addr()).await;
    let dial = js.begin_dial(&ours, json!({"bytes": 200_000})).await;
    let (connection, _) = rust.accept().await;
    assert!(rust.transport().remove_listener(listener));
    assert!(!rust.transport().remove_listener(listener));
    assert!(matches!(
        rust.event().await,
        TransportEvent::ListenerClosed { reason: Ok(()), .. }
    ));
    refused_as_absent(&js, &ours).await;
    within("an echo", echo(connection))
        .await
        .expect("still open");
    assert_eq!(js.dialled(dial).await["ok"], true);

    // The deployed server never clears a nonce, so the transport needs a workaround to listen again on the same link.
    let (_, again) = rust.listen(&star.addr()).await;
    assert_eq!(again, addr);
}

/// Waits until the address is refused as absent. The server may not have handled the leave yet.
async fn refused_as_absent(js: &Peer, addr: &str) {
    within("the server to let us go", async {
        loop {
            let dialled = js.dial(addr, json!({"timeoutMS": 1000})).await;
            if dialled["error"] == "Peer not found" {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn listening_again_on_a_link_that_is_still_open_works() {
    let star = rendezvous().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let to = js.listen(&star.addr()).await;
    let (listener, addr) = rust.listen(&star.addr()).await;
    let held = rust.dial(&to).await;
    rust.transport().remove_listener(listener);
    rust.event().await;
    let (_, again) = rust.listen(&star.addr()).await;
    assert_eq!(again, addr);
    check_echo(held, 1000, 100).await;
}

fn fast_backoff() -> Config {
    Config::default()
        .with_allow_local_rendezvous(true)
        .with_backoff(Duration::from_millis(50), Duration::from_millis(200))
}
