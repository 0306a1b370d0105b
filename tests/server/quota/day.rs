//! The daily quota.

use libp2p_websocket_star::rendezvous::{Refused, Server};
use serde_json::{Value, json};

use super::*;
use crate::{
    client::{dialled, offer},
    tenants::joined,
};

const ITEM: usize = 16 * KIB;

/// Dials, and returns the words with which the dial is refused.
async fn refusal(dialer: &mut Client, to: &str, id: &str) -> String {
    let event = json!(["ss-dial", dialer.address, to, id]);
    let answer: Value = dialer.request(event).await;
    answer[0].as_str().expect("refused").to_owned()
}

/// Checks that the words say whose quota is spent, and how long the day still lasts.
#[track_caller]
fn check_words(words: &str, whose: &str) {
    let rest = words
        .strip_prefix("Not allowed now, again in ")
        .expect(words);
    let (seconds, rest) = rest.split_once(" s: ").expect(words);
    let seconds: u64 = seconds.parse().expect(words);
    assert!((1..=86_400).contains(&seconds), "{words}");
    assert_eq!(rest, format!("{whose} has spent its daily quota"));
}

/// Reads that many items, and the ends of both streams of these dials. Dials take turns, so the ends of one dial may
/// come before the items of another.
async fn ended(client: &mut Client, items: usize, ids: &[&str], whose: &str) {
    let mut read = 0;
    let mut open: Vec<String> = Vec::new();
    for id in ids {
        open.extend(["dialer", "listener"].map(|side| format!("{id}.{side}")));
    }
    while read < items || !open.is_empty() {
        let message = client.message().await.expect("an open link");
        let Some(told) = message.as_text() else {
            assert!(
                open.iter().any(|stream| stream == "d.dialer"),
                "data behind the end"
            );
            read += 1;
            continue;
        };
        let Some(end) = told.strip_prefix("42[\"socket.io-pull-stream.error.") else {
            assert!(
                told == header("d.dialer") || told.contains("ws-peer"),
                "{told}"
            );
            continue;
        };
        let (stream, reason) = end.split_once("\",\"").expect(told);
        let expected = format!("{whose} has spent its daily quota, again in ");
        assert!(reason.starts_with(&expected), "{told}");
        let of = open.iter().position(|open| open == stream).expect(told);
        open.swap_remove(of);
    }
    assert_eq!(read, items);
}

/// Checks that a heartbeat is answered.
async fn lives(client: &mut Client) {
    client.send("2").await;
    assert_eq!(client.text().await, "3");
}

/// Returns two peers with a dial between them, and a third peer without one. The first peer sends two items, and then
/// one that exceeds the quota.
async fn spend(server: &Server, whose: &str) -> [Client; 3] {
    let mut dialer = peer_at(server, 2, Eio::V3).await;
    let mut listener = peer_at(server, 3, Eio::V3).await;
    let third = peer_at(server, 4, Eio::V3).await;
    dial(&mut dialer, &mut listener, "d").await;
    dial(&mut dialer, &mut listener, "idle").await;
    for _ in 0..3 {
        queue_item(&mut dialer, "d.dialer", ITEM).await;
    }
    for (client, items) in [(&mut dialer, 0), (&mut listener, 2)] {
        ended(client, items, &["d", "idle"], whose).await;
        lives(client).await;
    }
    assert_eq!(refused(server, Refused::DaySpent), 2);
    assert_eq!(server.snapshot().relayed_bytes, 2 * ITEM as u64);
    [dialer, listener, third]
}

#[tokio::test]
async fn a_peer_that_has_sent_all_of_a_day_is_dialled_and_dials_no_more() {
    let server = bind(config().with_peer_quota(day(2 * ITEM))).await;
    let [mut dialer, mut listener, mut third] = spend(&server, "a peer").await;
    check_words(
        &refusal(&mut dialer, &listener.address, "e").await,
        "a peer",
    );
    check_words(
        &refusal(&mut listener, &dialer.address, "f").await,
        "a peer",
    );
    assert_eq!(refused(&server, Refused::DaySpent), 4);
    // Other peers are not affected.
    dial(&mut listener, &mut third, "g").await;
    queue_item(&mut listener, "g.dialer", ITEM).await;
    take_item(&mut third, "g.dialer", ITEM).await;
    assert_eq!(server.snapshot().dials, 1);
}

#[tokio::test]
async fn a_day_that_is_spent_is_so_after_the_peer_has_come_back_from_elsewhere() {
    let server = bind(config().with_peer_quota(day(2 * ITEM))).await;
    let key = Keypair::generate_ed25519();
    let mut listener = peer_at(&server, 3, Eio::V3).await;
    let mut dialer = Client::connect(&server).await;
    dialer.join(&key).await;
    dial(&mut dialer, &mut listener, "d").await;
    for _ in 0..2 {
        queue_item(&mut dialer, "d.dialer", ITEM).await;
        take_item(&mut listener, "d.dialer", ITEM).await;
    }
    drop(dialer);
    crate::client::until("the link is gone", || server.snapshot().links == 1).await;
    let client = Client::upgrade_on(&server, Eio::V4, socket(7)).await;
    let mut again = client.greeted().await;
    again.join(&key).await;
    check_words(&refusal(&mut again, &listener.address, "e").await, "a peer");
    let top = server.snapshot().top_peers;
    assert_eq!(top[0].sent_today, 2 * ITEM as u64);
    assert_eq!(top[0].client.to_string(), "127.0.0.7");
}

#[tokio::test]
async fn all_peers_of_an_address_have_one_day() {
    let server = bind(config().with_origin_quota(day(2 * ITEM))).await;
    let [mut dialer, mut listener, mut third] = spend(&server, "an address").await;
    let mut neighbour = peer_at(&server, 2, Eio::V3).await;
    for client in [&mut dialer, &mut neighbour] {
        let words = refusal(client, &listener.address, "e").await;
        check_words(&words, "an address");
    }
    dial(&mut listener, &mut third, "g").await;
}

#[tokio::test]
async fn all_together_have_one_day() {
    let server = bind(config().with_tenant_quota(day(2 * ITEM))).await;
    let [_, mut listener, third] = spend(&server, "this rendezvous").await;
    let words = refusal(&mut listener, &third.address, "e").await;
    check_words(&words, "this rendezvous");
}

#[tokio::test]
async fn a_dial_that_waits_for_its_answer_is_refused_when_the_day_is_spent() {
    let server = bind(config().with_peer_quota(day(ITEM))).await;
    let mut dialer = peer_at(&server, 2, Eio::V3).await;
    let mut listener = peer_at(&server, 3, Eio::V3).await;
    dial(&mut dialer, &mut listener, "d").await;
    let ack = offer(&mut dialer, &mut listener, "waits").await;
    for _ in 0..2 {
        queue_item(&mut dialer, "d.dialer", ITEM).await;
    }
    // Dials end in the order of their ids.
    ended(&mut dialer, 0, &["d"], "a peer").await;
    let answer = dialer.answer(ack).await;
    check_words(answer[0].as_str().expect("refused"), "a peer");
    ended(&mut listener, 1, &["d", "waits"], "a peer").await;
    lives(&mut listener).await;
}

#[tokio::test]
async fn what_is_sent_beside_items_counts_too_if_it_is_much() {
    let server = bind(config().with_peer_quota(day(2 * ITEM))).await;
    let mut dialer = peer_at(&server, 2, Eio::V3).await;
    let mut listener = peer_at(&server, 3, Eio::V3).await;
    dial(&mut dialer, &mut listener, "d").await;
    let much = "x".repeat(ITEM + KIB);
    let accept = format!("42[\"socket.io-pull-stream.accept.d.listener\",\"{much}\"]");
    let item = format!("42[\"socket.io-pull-stream.queue.d.dialer\",\"\",\"{much}\"]");
    for text in [&accept, &item] {
        dialer.send(text.clone()).await;
        assert_eq!(listener.text().await, *text);
    }
    dialer.send(accept).await;
    ended(&mut dialer, 0, &["d"], "a peer").await;
    ended(&mut listener, 0, &["d"], "a peer").await;
    assert!(server.snapshot().top_peers[0].sent_today >= 2 * ITEM as u64);
}

#[tokio::test]
async fn the_day_of_one_tenant_is_not_that_of_another() {
    let tenants = ["blue=blue.test", "red=red.test"].map(|text| text.parse().expect("a tenant"));
    let config = config().with_tenants(tenants).expect("good ones");
    let server = bind(config.with_tenant_quota(day(8 * KIB))).await;
    for host in ["blue.test", "red.test"] {
        let mut dialer = joined(&server, host).await.0;
        let mut listener = joined(&server, host).await.0;
        dial(&mut dialer, &mut listener, "d").await;
        for _ in 0..2 {
            queue_item(&mut dialer, "d.dialer", 4 * KIB).await;
            take_item(&mut listener, "d.dialer", 4 * KIB).await;
        }
        queue_item(&mut dialer, "d.dialer", 1).await;
        let told = dialer.text().await;
        let spent = "this rendezvous has spent its daily quota";
        assert!(told.contains(spent), "{told}");
    }
}

#[tokio::test]
async fn items_without_bytes_count_by_what_is_around_them() {
    let server = bind(config().with_peer_quota(day(64 * KIB))).await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let mut sent = 0;
    // The header of each item takes some seventy bytes.
    while server.snapshot().refusals.get(Refused::DaySpent) == 0 {
        queue_item(&mut dialer, "d.dialer", 0).await;
        sent += 1;
        assert!(sent < 5000, "they are free");
        if sent % 100 == 0 {
            while tokio::time::timeout(Duration::from_millis(20), listener.message())
                .await
                .is_ok()
            {}
        }
    }
    assert!(sent > 500, "{sent}");
}
