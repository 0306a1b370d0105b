//! Behaviour that users of the npm rendezvous rely on. Tested with its own client, with a bare socket.io client of
//! that time, and with a current one.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::json;

use crate::support::{
    address, embedded,
    js::{Peer, wire},
    raw::{Raw, check_echo, echo},
    socketio::{
        SocketIo,
        Version::{self, V2, V4},
    },
    within,
};

const SIZES: [u64; 6] = [0, 1, 4096, 65_537, 1_000_000, 16 << 20];

#[tokio::test]
async fn a_join_lists_the_others_and_is_announced_to_them_at_once() {
    let star = embedded().await;
    let npm = Peer::start();
    let mut known = vec![npm.listen(&address(&star)).await];
    for version in [V2, V4] {
        let client = SocketIo::start(version);
        client.connect(&star).await;
        let joined = client.join(&star).await;
        let mut listed: Vec<_> = joined["peers"].as_array().expect("a list").clone();
        listed.sort_by_key(ToString::to_string);
        let mut expected = known.clone();
        expected.sort();
        assert_eq!(json!(listed), json!(expected), "{version:?}");
        let addr = joined["addr"].as_str().expect("an address").to_owned();
        npm.expect_where("the newcomer", |event| event["addr"] == *addr)
            .await;
        known.push(addr);
        // It leaves before the next one comes.
        client.leave().await;
        known.pop();
    }
}

#[tokio::test]
async fn peers_are_announced_again_every_interval_until_they_leave() {
    let config = Config::default().with_announce_interval(Duration::from_millis(100));
    let star = Server::bind(config).await.expect("a free port");
    let (old, of_old) = SocketIo::joined(V2, &star).await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    let npm = Peer::start();
    let of_npm = npm.listen(&address(&star)).await;
    for _ in 0..3 {
        old.expect_peer(&of_new).await;
        old.expect_peer(&of_npm).await;
        new.expect_peer(&of_old).await;
        new.expect_peer(&of_npm).await;
        npm.expect_where("the older", |event| event["addr"] == *of_old)
            .await;
        npm.expect_where("the newer", |event| event["addr"] == *of_new)
            .await;
    }
    new.leave().await;
    assert!(!star.snapshot().peers.contains(&of_new));
    old.close().await;
    within("the other to be gone", async {
        while star.snapshot().peers != [of_npm.clone()] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn streams_between_all_clients_are_byte_exact() {
    let star = embedded().await;
    let (old, of_old) = SocketIo::joined(V2, &star).await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    let npm = Peer::start();
    let of_npm = npm.listen(&address(&star)).await;
    for bytes in SIZES {
        // Each pair runs in both directions, so both conversions run in both roles.
        new.echo(&of_old, bytes).await;
        old.echo(&of_new, bytes).await;
        new.echo(&of_npm, bytes).await;
        npm.echo(&of_new, bytes).await;
        npm.echo(&of_old, bytes).await;
        old.echo(&of_npm, bytes).await;
    }
}

#[tokio::test]
async fn clients_that_write_binary_as_text_are_understood_and_answered_so() {
    let star = embedded().await;
    let npm = Peer::start();
    let of_npm = npm.listen(&address(&star)).await;
    let mut rust = Raw::new();
    let (_, ours) = rust.listen(&address(&star)).await;
    for version in [V2, V4] {
        let client = SocketIo::start(version);
        client
            .connect_with(&star, json!({"forceBase64": true}))
            .await;
        let joined = client.join(&star).await;
        let addr = joined["addr"].as_str().expect("an address");
        for bytes in [0, 1, 65_537, 1 << 20] {
            client.echo(&of_npm, bytes).await;
            npm.echo(addr, bytes).await;
            let answer = async { echo(rust.accept().await.0).await.expect("no reset") };
            let ours = wire(&ours);
            let (_, copied) = futures::future::join(client.echo(&ours, bytes), answer).await;
            assert_eq!(copied, bytes);
        }
    }
}

#[tokio::test]
async fn clients_that_offer_subprotocols_get_a_link() {
    let star = embedded().await;
    for version in [V2, V4] {
        let client = SocketIo::start(version);
        let protocols = json!({"protocols": ["engine.io", "other"]});
        client.connect_with(&star, protocols).await;
        let joined = client.join(&star).await;
        assert_eq!(joined["event"], "joined", "{joined}");
    }
}

#[tokio::test]
async fn without_a_challenge_an_npm_client_listens_again_at_once_however_often() {
    let config = Config::default().with_challenge(false);
    let star = Server::bind(config).await.expect("a free port");
    let npm = Peer::start();
    npm.send(json!({"cmd": "relisten", "addr": address(&star), "times": 300}))
        .await;
    let ended = npm
        .expect_where("the end", |event| {
            event["event"] == "relistened" || event["event"] == "error"
        })
        .await;
    assert_eq!(ended["event"], "relistened", "{ended}");
    assert_eq!(star.snapshot().counters.joins, 300);
    within("it to be gone", async {
        while star.snapshot().links > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_modern_client_and_rust_reach_each_other() {
    let star = embedded().await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    let mut rust = Raw::new();
    let (_, ours) = rust.listen(&address(&star)).await;
    for bytes in SIZES {
        let size = usize::try_from(bytes).expect("small");
        check_echo(rust.dial(&of_new).await, size, 65_536).await;
        let answer = async { echo(rust.accept().await.0).await.expect("no reset") };
        let ours = wire(&ours);
        let (_, copied) = futures::future::join(new.echo(&ours, bytes), answer).await;
        assert_eq!(copied, bytes);
    }
}

#[tokio::test]
async fn one_direction_ends_and_the_other_stays_open() {
    let star = embedded().await;
    let (old, of_old) = SocketIo::joined(V2, &star).await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    let npm = Peer::start();
    let of_npm = npm.listen(&address(&star)).await;
    old.mode("echo-after-end").await;
    new.mode("echo-after-end").await;
    npm.mode("echo-after-end", json!({})).await;
    for (client, to) in [
        (&old, &of_new),
        (&old, &of_npm),
        (&new, &of_old),
        (&new, &of_npm),
    ] {
        let dialled = client.dial(to, 300_000, true).await;
        assert_eq!(dialled["bytes"], 300_000, "{dialled}");
    }
    for to in [&of_old, &of_new] {
        let dialled = npm
            .dial(to, json!({"mode": "half-close", "bytes": 300_000}))
            .await;
        assert_eq!(dialled["ok"], true, "{dialled}");
    }
}

#[tokio::test]
async fn a_dial_that_is_refused_says_why() {
    let star = embedded().await;
    for (from, to) in [(V2, V4), (V4, V2), (V2, V2), (V4, V4)] {
        let (dialer, _) = SocketIo::joined(from, &star).await;
        let (listener, addr) = SocketIo::joined(to, &star).await;
        listener.mode("refuse").await;
        let dialled = dialer.dial(&addr, 1, false).await;
        assert_eq!(dialled["error"], "not today", "{from:?} to {to:?}");
        listener.leave().await;
        let dialled = dialer.dial(&addr, 1, false).await;
        assert_eq!(dialled["error"], "Peer not found", "{from:?} to {to:?}");
    }
}

#[tokio::test]
async fn clients_that_disconnect_are_gone_and_may_come_back() {
    let star = embedded().await;
    let (watcher, _) = SocketIo::joined(V2, &star).await;
    for version in [V2, V4] {
        let (client, addr) = SocketIo::joined(version, &star).await;
        watcher.echo(&addr, 1000).await;
        client.close().await;
        within("it to be gone", async {
            while watcher.dial(&addr, 1, false).await["error"] != "Peer not found" {}
        })
        .await;
        client.connect(&star).await;
        client.join(&star).await;
        watcher.echo(&addr, 1000).await;
    }
}

#[tokio::test]
async fn streams_of_a_client_that_disconnects_end_properly() {
    let star = embedded().await;
    let rust = Raw::new();
    for version in [V2, V4] {
        let (client, addr) = SocketIo::joined(version, &star).await;
        let mut connection = rust.dial(&addr).await;
        connection.write_all(b"hello").await.expect("writable");
        connection.flush().await.expect("flushed");
        let mut hello = [0; 5];
        let echoed = within("an echo", connection.read_exact(&mut hello)).await;
        echoed.expect("no reset");
        client.close().await;
        let mut rest = Vec::new();
        let end = within("the end", connection.read_to_end(&mut rest)).await;
        end.expect("a proper end");
        assert_eq!(rest, b"");
    }
}

#[tokio::test]
async fn clients_come_back_by_themselves_after_a_restart() {
    let star = embedded().await;
    let port = star.local_addr();
    let (old, of_old) = SocketIo::joined(V2, &star).await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    let npm = Peer::start();
    let of_npm = npm.listen(&address(&star)).await;
    star.shutdown().await;
    for client in [&old, &new] {
        client.expect("disconnected").await;
    }
    npm.expect("disconnected").await;

    let star = within("the port", async {
        loop {
            // Another test's outgoing connection may have used the port for a moment.
            if let Ok(star) = Server::bind(Config::default().with_listen_addr(port)).await {
                break star;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    npm.expect("rejoined").await;
    for client in [&old, &new] {
        // The bare clients reconnect by themselves, but the user of the client has to join again.
        client.expect("connected").await;
        let joined = client.join(&star).await;
        assert_eq!(joined["event"], "joined", "{joined}");
    }
    new.echo(&of_npm, 100_000).await;
    npm.echo(&of_old, 100_000).await;
    old.echo(&of_new, 100_000).await;
}

#[tokio::test]
async fn heartbeats_of_both_versions_keep_an_idle_link() {
    let config = Config::default()
        .with_ping_interval(Duration::from_millis(200))
        .with_ping_timeout(Duration::from_millis(400))
        .with_announce_interval(Duration::from_secs(2));
    let star = Server::bind(config).await.expect("a free port");
    let (old, of_old) = SocketIo::joined(V2, &star).await;
    let (new, of_new) = SocketIo::joined(V4, &star).await;
    // The interval of announcements is three times as long as an idle link without heartbeats would last.
    old.expect_peer(&of_new).await;
    old.expect_peer(&of_new).await;
    new.expect_peer(&of_old).await;
    new.expect_peer(&of_old).await;
    assert_eq!(star.snapshot().links, 2);
    let refusals = star.snapshot().refusals;
    assert!(refusals.iter().all(|(_, count)| count == 0), "{refusals:?}");
    new.echo(&of_old, 1000).await;
}

#[tokio::test]
async fn polling_is_refused_so_that_the_client_hears_of_it() {
    let star = embedded().await;
    let refused = async |version: Version| {
        let client = SocketIo::start(version);
        let url = format!("http://{}", star.local_addr());
        client
            .send(json!({"cmd": "connect", "url": url, "polling": true}))
            .await;
        client.expect("refused").await
    };
    assert_eq!(refused(V2).await["error"], "xhr poll error");
    let refused = refused(V4).await;
    assert_eq!(
        (&refused["error"], &refused["status"]),
        (&json!("xhr poll error"), &json!(400))
    );
}
