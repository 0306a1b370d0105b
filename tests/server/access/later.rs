//! Verdicts that take time.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Refused, Server, Verdict};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_websockets::Message;

use super::{Ask, Bans, Slow, Waiting, count, key, next, serving, serving_with, waiting};
use crate::client::{Client, config, link, soon};

async fn gone(ask: Ask) {
    let mut reply = ask.reply;
    soon("the future to be dropped", reply.closed()).await;
}

/// Has a client join, and allows it.
async fn let_in(client: &mut Client, key: &Keypair, asks: &mut mpsc::Receiver<Ask>) {
    let ack = client.prove(key).await;
    let ask = next(asks).await;
    ask.reply.send(Verdict::allow()).expect("it waits");
    assert_eq!(client.answer(ack).await[0], Value::Null);
}

/// Returns a client that has joined.
async fn joined(server: &Server, asks: &mut mpsc::Receiver<Ask>) -> Client {
    let mut client = Client::connect(server).await;
    let_in(&mut client, &key(), asks).await;
    client
}

#[tokio::test]
async fn until_it_is_decided_a_link_is_not_read_and_is_written_to() {
    let (access, mut asks) = Waiting::new();
    let hasty = config()
        .with_ping_interval(Duration::from_millis(100))
        .with_ping_timeout(Duration::from_millis(200));
    let server = serving_with(hasty, access).await;
    let mut client = Client::connect(&server).await;
    let ack = client.prove(&key()).await;
    let ask = next(&mut asks).await;
    assert_eq!(ask.join.address(), client.address);
    let later = client.ask(json!(["ss-leave", "/ip4/192.0.2.1"])).await;
    // This takes longer than a link may be silent. The server keeps the link alive without a request from the client.
    for _ in 0..5 {
        assert_eq!(client.text().await, "3");
    }
    assert_eq!(server.snapshot().peers.len(), 0);
    ask.reply.send(Verdict::allow()).expect("it waits");
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let text = client.text().await;
        if text != "3" {
            answers.push(text);
        }
    }
    assert!(
        answers[0].starts_with(&format!("43{ack}[null,null,")),
        "{answers:?}"
    );
    assert_eq!(answers[1], format!("43{later}[]"));
}

#[tokio::test]
async fn what_is_not_decided_in_time_is_refused_for_a_while() {
    let (access, mut asks) = Waiting::new();
    let hasty = config().with_access_timeout(Duration::from_millis(200));
    let server = serving_with(hasty, access).await;
    let mut client = Client::connect(&server).await;
    let ack = client.prove(&key()).await;
    let ask = next(&mut asks).await;
    let words = "Not allowed now, again in 5 s: nobody has decided in time";
    assert_eq!(client.answer(ack).await, json!([words]));
    gone(ask).await;
    assert_eq!(count(&server, Refused::Undecided), 1);
    // The link stays open.
    let_in(&mut client, &key(), &mut asks).await;
}

#[tokio::test]
async fn nobody_is_asked_any_more_about_a_peer_that_is_gone() {
    let (access, mut asks) = Waiting::new();
    let server = serving(access).await;
    let mut client = Client::connect(&server).await;
    client.prove(&key()).await;
    let ask = next(&mut asks).await;
    drop(client);
    gone(ask).await;

    // The same holds when the client closes the link properly, and when the server is stopped.
    let mut client = Client::connect(&server).await;
    client.prove(&key()).await;
    let ask = next(&mut asks).await;
    let close = futures::SinkExt::close(&mut client.socket);
    soon("the close", close).await.expect("closed");
    gone(ask).await;

    let mut client = Client::connect(&server).await;
    client.prove(&key()).await;
    let ask = next(&mut asks).await;
    tokio::join!(server.shutdown(), gone(ask));
}

#[tokio::test]
async fn whoever_closes_its_link_leaves_its_place_to_the_next_at_once() {
    let (access, mut asks) = Waiting::new();
    let server = serving_with(config().with_access_in_flight(1), access).await;
    let mut client = Client::connect(&server).await;
    client.prove(&key()).await;
    let ask = next(&mut asks).await;
    let mut other = link(&server, 3).await;
    other.prove(&key()).await;
    // The client keeps its socket open. The server waits two seconds for the client to close it.
    let closed = Instant::now();
    let close = futures::SinkExt::send(&mut client.socket, Message::close(None, ""));
    close.await.expect("open");
    gone(ask).await;
    assert_eq!(next(&mut asks).await.join.address(), other.address);
    assert!(closed.elapsed() < Duration::from_secs(2), "it waited");
    drop(client);
}

#[tokio::test]
async fn of_two_links_with_one_key_the_later_has_the_address_whichever_is_decided_first() {
    let (access, mut asks) = Waiting::new();
    let server = serving_with(config(), access).await;
    let key = key();
    let mut early = Client::connect(&server).await;
    let early_ack = early.prove(&key).await;
    let early_ask = next(&mut asks).await;
    let mut late = Client::connect(&server).await;
    let late_ack = late.prove(&key).await;
    let late_ask = next(&mut asks).await;
    late_ask.reply.send(Verdict::allow()).expect("it waits");
    assert_eq!(late.answer(late_ack).await[0], Value::Null);
    early_ask.reply.send(Verdict::allow()).expect("it waits");
    let words = "Not allowed now, again in 60 s: another link has joined under this address since";
    assert_eq!(early.answer(early_ack).await, json!([words]));
    assert_eq!(count(&server, Refused::Overtaken), 1);
    // Dials go to the later link, and its peer may join again.
    let mut dialer = joined(&server, &mut asks).await;
    crate::client::dial(&mut dialer, &mut late, "d").await;
    let_in(&mut late, &key, &mut asks).await;
}

#[tokio::test]
async fn a_verdict_that_is_no_longer_right_is_looked_at_once_more() {
    let (access, mut asks) = Waiting::new();
    let banned = Bans::default();
    let server = serving(Slow(access, banned.clone())).await;
    let (bad, good) = (key(), key());
    let clients = waiting(&server, [&bad, &good], &mut asks).await;
    banned.ban(&bad);
    assert_eq!(server.recheck_access().await, 0, "neither has joined");
    let mut told = Vec::new();
    for (mut client, ack, ask) in clients {
        ask.reply.send(Verdict::allow()).expect("it waits");
        if told.is_empty() {
            let (code, reason) = client.closed().await.expect("a reason");
            told.push((u16::from(code), reason));
        } else {
            assert_eq!(client.answer(ack).await[0], Value::Null);
        }
    }
    assert_eq!(told, [(1008, "you are no longer allowed here".to_owned())]);
    assert_eq!(count(&server, Refused::NoLongerAllowed), 1);
}

fn few_at_a_time() -> Config {
    config()
        .with_access_in_flight(4)
        .with_access_timeout(Duration::from_secs(10))
}

/// Checks that the application is asked nothing for a while.
async fn nothing(asks: &mut mpsc::Receiver<Ask>) {
    let told = tokio::time::timeout(Duration::from_millis(100), asks.recv()).await;
    assert!(told.is_err(), "more are worked on: {told:?}");
}

#[tokio::test]
async fn a_stranger_with_many_keys_is_one_among_the_others() {
    let (access, mut asks) = Waiting::new();
    let server = serving_with(few_at_a_time(), access).await;
    let mut flood = Vec::new();
    for _ in 0..30 {
        let mut client = link(&server, 2).await;
        client.prove(&key()).await;
        flood.push(client);
    }
    let (first, second) = (next(&mut asks).await, next(&mut asks).await);
    let third = next(&mut asks).await;
    // The last place is kept for other clients.
    nothing(&mut asks).await;
    let mut honest = link(&server, 3).await;
    let ack = honest.prove(&key()).await;
    let asked = next(&mut asks).await;
    assert_eq!(asked.join.address(), honest.address);
    let mut more = link(&server, 4).await;
    let more_ack = more.prove(&key()).await;
    nothing(&mut asks).await;
    // All places are taken now, and this client is next.
    first.reply.send(Verdict::refuse("no")).expect("it waits");
    let next_asked = next(&mut asks).await;
    assert_eq!(next_asked.join.address(), more.address);
    for (client, ack, ask) in [(&mut honest, ack, asked), (&mut more, more_ack, next_asked)] {
        ask.reply.send(Verdict::allow()).expect("it waits");
        assert_eq!(client.answer(ack).await[0], Value::Null);
    }
    // Then it is the turn of the flood again.
    let fifth = next(&mut asks).await;
    assert!(fifth.join.client() == Ipv4Addr::new(127, 0, 0, 2));
    drop((second, third, flood));
}

#[tokio::test]
async fn other_links_are_served_meanwhile() {
    let (access, mut asks) = Waiting::new();
    let server = serving_with(few_at_a_time(), access).await;
    let mut dialer = joined(&server, &mut asks).await;
    let mut listener = joined(&server, &mut asks).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(&server).await;
        client.prove(&key()).await;
        waiting.push(client);
    }
    crate::client::dial(&mut dialer, &mut listener, "d").await;
    let item = vec![7; 100_000];
    dialer.item("d.dialer", &item).await;
    listener.expect_item("d.dialer", &item).await;
}
