//! Two tenants on one binary, with npm's clients and ours.

use futures::{StreamExt as _, future::join};
use libp2p::Multiaddr;
use libp2p_websocket_star::{Discovery, Event};
use serde_json::{Value, json};

use crate::{
    access::{List, closed, cut_off, node, npm},
    support::{
        binary::{Binary, command, failure, http, value},
        js::{Peer, wire},
        raw::{Raw, echo_both_ways},
        within,
    },
};

const TENANTS: [&str; 4] = ["--tenant", "blue=localhost", "--tenant", "red=127.0.0.1"];

/// Returns the address at which the peers of a host listen.
fn under(star: &Binary, host: &str) -> String {
    let port = star.local_addr().port();
    let protocol = if host == "localhost" { "dns4" } else { "ip4" };
    format!("/{protocol}/{host}/tcp/{port}/ws/p2p-websocket-star")
}

/// Starts a node and an npm client that have joined there. Returns them with their addresses.
async fn pair(star: &Binary, host: &str) -> (Raw, Discovery, Multiaddr, Peer, String) {
    let (mut node, _) = node();
    let discovery = node.discovery();
    let (_, own) = node.listen(&under(star, host)).await;
    let npm = Peer::start();
    let ed25519 = json!({"keyType": "ed25519"});
    let theirs = npm.try_listen(&under(star, host), ed25519).await;
    (node, discovery, own, npm, theirs.expect("let in"))
}

#[tokio::test]
async fn two_tenants_never_hear_of_each_other() {
    let star = Binary::start(&[&TENANTS[..], &["--announce-interval", "100ms"]].concat()).await;
    let (blue, red) = join(pair(&star, "localhost"), pair(&star, "127.0.0.1")).await;
    for (mut node, mut discovery, own, npm, theirs) in [blue, red] {
        echo_both_ways(&mut node, &own, &npm, &theirs, 100_000, 10_000).await;
        // After some ten rounds of announcements, every peer has been announced.
        let mut heard = Vec::new();
        for _ in 0..10 {
            npm.expect("peer").await;
        }
        while let Some(Some(event)) = futures::FutureExt::now_or_never(discovery.next()) {
            if let Event::Discovered { peer, .. } = event {
                heard.push(peer.to_base58());
            }
        }
        let (_, other) = theirs.rsplit_once('/').expect("an id");
        assert_eq!(heard, [other]);
        let of_npm = npm.seen("peer");
        let is_own = |peer: &Value| peer["addr"] == *wire(&own);
        assert!(of_npm.iter().all(is_own), "{of_npm:?}");
    }
}

#[tokio::test]
async fn a_list_of_one_tenant_keeps_nobody_out_of_another() {
    let blue = List::new(&[]);
    let list = format!("blue={}", blue.path());
    let flags = [&TENANTS[..], &["--deny-peers", &list]].concat();
    let star = Binary::start(&flags).await;
    let ((mut node, of_node), (npm, of_npm)) = join(async { node() }, npm()).await;
    for host in ["localhost", "127.0.0.1"] {
        node.listen(&under(&star, host)).await;
    }
    let ed25519 = json!({"keyType": "ed25519"});
    let blue_addr = under(&star, "localhost");
    let joined = npm.try_listen(&blue_addr, ed25519.clone()).await;
    joined.expect("let in");
    blue.write(&[of_node, of_npm]);
    npm.expect_where("that it is cut off", |event| {
        event["event"] == "disconnected" && event["reason"] == "transport close"
    })
    .await;
    cut_off(&mut node).await;
    let words = closed(&mut node).await;
    assert_eq!(words, "Not allowed: your peer id is on the deny list");
    let metrics = http(star.local_addr(), "GET", "/metrics", "127.0.0.2").await;
    assert_eq!(
        value::<u64>(&metrics, "rendezvous_peers{tenant=\"blue\"}"),
        0
    );
    assert_eq!(
        value::<u64>(&metrics, "rendezvous_peers{tenant=\"red\"}"),
        1
    );
    let red_addr = under(&star, "127.0.0.1");
    let again = npm.try_listen(&red_addr, ed25519).await;
    again.expect("that is another tenant");
}

#[tokio::test]
async fn an_unknown_host_belongs_to_nobody_where_that_is_wanted() {
    let flags = ["--tenant", "blue=localhost", "--known-hosts-only"];
    let star = Binary::start(&flags).await;
    let (mut node, _) = node();
    node.listen_on(&star.addr()).expect("a good address");
    let error = node.listener_error().await.to_string();
    assert!(error.contains("421"), "{error}");
    let (mut node, ..) = pair(&star, "localhost").await;
    let answer = http(star.local_addr(), "GET", "/", "127.0.0.1").await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(futures::FutureExt::now_or_never(node.event()).is_none());
}

#[tokio::test]
async fn tenants_that_make_no_sense_are_a_reason_not_to_start() {
    for (flags, expected) in [
        (vec!["--tenant", "blue"], "must be NAME=HOST"),
        (
            vec!["--tenant", "a=x", "--tenant", "b=X.:80"],
            "two tenants have the host x",
        ),
        (
            vec!["--tenant", "a=x", "--tenant", "a=y"],
            "two tenants with the name a",
        ),
        (vec!["--known-hosts-only"], "--tenant"),
    ] {
        let (code, told) = within("an end", failure(command().args(&flags))).await;
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(told.contains(expected), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
