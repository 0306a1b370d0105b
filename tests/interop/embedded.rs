//! JavaScript and Rust peers through the crate's own rendezvous.

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use libp2p::core::Transport as _;
use serde_json::json;

use crate::support::{
    address, embedded,
    js::{Peer, wire},
    pattern,
    raw::{Raw, check_echo, echo},
    within,
};

#[tokio::test]
async fn javascript_peers_reach_each_other() {
    let star = embedded().await;
    let (a, b) = (Peer::start(), Peer::start());
    let from = a.listen(&address(&star)).await;
    let to = b.listen(&address(&star)).await;
    a.expect_where("the later peer", |event| event["addr"] == *to)
        .await;
    b.expect_where("the earlier peer", |event| event["addr"] == *from)
        .await;
    for bytes in [0, 1, 65_536, 1_000_000, 64 << 20] {
        a.echo(&to, bytes).await;
    }
    let ids = [
        a.begin_dial(&to, json!({"bytes": 300_000})).await,
        a.begin_dial(&to, json!({"bytes": 5000, "chunk": 100, "empty": true}))
            .await,
        b.begin_dial(
            &from,
            json!({"mode": "items", "items": ["a", "", [0, 255]]}),
        )
        .await,
    ];
    for (peer, id) in [&a, &a, &b].into_iter().zip(ids) {
        assert_eq!(peer.dialled(id).await["ok"], true);
    }
    b.mode("echo-after-end", json!({})).await;
    let dialled = a
        .dial(&to, json!({"mode": "half-close", "bytes": 1_000_000}))
        .await;
    assert_eq!(dialled["ok"], true, "{dialled}");
    b.mode("refuse", json!({"reason": "not today"})).await;
    let dialled = a.dial(&to, json!({})).await;
    assert_eq!(dialled["error"], "not today");
    b.leave().await;
    let dialled = a.dial(&to, json!({})).await;
    assert_eq!(dialled["error"], "Peer not found");
    star.shutdown().await;
}

#[tokio::test]
async fn rust_and_javascript_peers_reach_each_other() {
    let star = embedded().await;
    let (mut rust, js) = (Raw::new(), Peer::start());
    let theirs = js.listen(&address(&star)).await;
    let (_, ours) = rust.listen(&address(&star)).await;
    for (bytes, chunk) in [(0, 1), (1, 1), (65_536, 1000), (64 << 20, 65_536)] {
        check_echo(rust.dial(&theirs).await, bytes, chunk).await;
        let options = json!({"bytes": bytes, "chunk": chunk.max(999)});
        let answer = async { echo(rust.accept().await.0).await.expect("no reset") };
        let (dialled, copied) = join(js.dial(&wire(&ours), options), answer).await;
        assert_eq!(
            (&dialled["ok"], copied),
            (&json!(true), bytes as u64),
            "{dialled}"
        );
    }
    star.shutdown().await;
}

#[tokio::test]
async fn a_dropped_connection_is_noticed_by_its_reader_and_by_its_writer() {
    let star = embedded().await;
    let (mut a, mut b) = (Raw::new(), Raw::new());
    let (_, to) = a.listen(&address(&star)).await;
    b.listen(&address(&star)).await;

    let mut connection = b.dial(&to.to_string()).await;
    let (mut accepted, _) = a.accept().await;
    accepted.write_all(b"last words").await.expect("writable");
    accepted.flush().await.expect("flushed");
    drop(accepted);
    let mut words = Vec::new();
    let error = within("the reset", connection.read_to_end(&mut words))
        .await
        .expect_err("a reset");
    assert_eq!(
        (words.as_slice(), error.kind()),
        (&b"last words"[..], std::io::ErrorKind::ConnectionReset)
    );

    // A connection that has ended its own direction and is then dropped stops the writer of the other side.
    let mut connection = b.dial(&to.to_string()).await;
    let (mut accepted, _) = a.accept().await;
    accepted.close().await.expect("closable");
    drop(accepted);
    let mut rest = Vec::new();
    within("the end", connection.read_to_end(&mut rest))
        .await
        .expect("a proper end");
    let error = within("the writer to be stopped", async {
        loop {
            if let Err(error) = connection.write_all(&pattern(0, 65_536)).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    star.shutdown().await;
}

#[tokio::test]
async fn the_link_of_a_lost_peer_resets_its_connections_at_the_others() {
    let star = embedded().await;
    let (a, js) = (Raw::new(), Peer::start());
    let to = js.listen(&address(&star)).await;
    js.mode("stall", json!({})).await;
    let mut connection = a.dial(&to).await;
    js.send(json!({"cmd": "drop"})).await;
    let error = within("the reset", connection.read(&mut [0]))
        .await
        .expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(error.to_string().contains("link"), "{error}");
    star.shutdown().await;
}

#[tokio::test]
async fn a_link_is_closed_after_its_last_user() {
    let star = embedded().await;
    let (mut a, b) = (Raw::new(), Raw::new());
    let (listener, to) = a.listen(&address(&star)).await;
    let connection = b.dial(&to.to_string()).await;
    assert_eq!(star.snapshot().links, 2);
    assert!(a.transport().remove_listener(listener));
    let (accepted, _) = a.accept().await;
    let echoed = tokio::spawn(echo(accepted));
    check_echo(connection, 100_000, 1000).await;
    echoed.await.expect("no panic").expect("no reset");
    within("both links to close", async {
        while star.snapshot().links > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    star.shutdown().await;
}
