//! Requests that are refused again and again. The server reads their sender more slowly, and no other link.

use std::time::{Duration, Instant};

use libp2p_websocket_star::rendezvous::{Limits, Server};
use serde_json::json;

use crate::client::{Client, config, link};

const PER_SECOND: u32 = 20;
const AT_ONCE: u32 = 10;
const REQUESTS: u32 = 30;
/// The shortest time for the requests after the burst. One request may be the last that is not refused, and the
/// clocks differ, so it is slightly less.
const LEAST: Duration =
    Duration::from_millis((REQUESTS - AT_ONCE - 1) as u64 * 1000 / PER_SECOND as u64 - 50);

async fn server(limits: Limits) -> Server {
    let limits = limits
        .with_refusal_rate(PER_SECOND, AT_ONCE)
        .with_join_rate(100, 1000);
    Server::bind(config().with_limits(limits))
        .await
        .expect("a free port")
}

/// Sends a text that many times without waiting, and reads as many answers. Returns the time that this took.
async fn send_all(client: &mut Client, text: impl Fn(u32) -> String) -> Duration {
    let started = Instant::now();
    for n in 0..REQUESTS {
        client.send(text(n)).await;
    }
    for _ in 0..REQUESTS {
        let answer = client.text().await;
        assert!(
            answer.starts_with("43") || answer.starts_with("44"),
            "{answer}"
        );
    }
    started.elapsed()
}

#[tokio::test]
async fn whoever_is_refused_too_often_is_read_more_slowly_whatever_it_asks_for() {
    let kinds: [fn(u32) -> String; 6] = [
        |n| format!("42{n}[\"nonsense\"]"),
        |n| format!("42{n}[\"ss-join\",1]"),
        |n| format!("42{n}[\"ss-join\",\"/ip4/1.2.3.4\",\"\"]"),
        |n| {
            format!(
                "42{n}[\"ss-join\",\"/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/ipfs/x{n}\",\"aa\"]"
            )
        },
        |n| format!("42{n}[\"ss-dial\",\"a\",\"b\",\"{n}\"]"),
        |_| "40/admin,".to_owned(),
    ];
    let limits = Limits::default().with_dial_rate(1, 1);
    let server = server(limits).await;
    for (n, kind) in kinds.into_iter().enumerate() {
        // Each kind comes from an address of its own.
        let mut client = link(&server, 10 + n as u8).await;
        let took = send_all(&mut client, kind).await;
        assert!(took >= LEAST, "kind {n}: {took:?}");
        assert_eq!(
            client.request(json!(["ss-leave", ""])).await,
            json!([]),
            "kind {n}"
        );
    }
}

#[tokio::test]
async fn all_links_of_an_address_together_are_refused_so_often_and_others_wait_for_nothing() {
    let server = server(Limits::default()).await;
    let mut honest = link(&server, 3).await;
    let (mut first, mut second) = (link(&server, 2).await, link(&server, 2).await);
    let nonsense = |n| format!("42{n}[\"nonsense\"]");
    let attack = async {
        let started = Instant::now();
        tokio::join!(
            send_all(&mut first, nonsense),
            send_all(&mut second, nonsense)
        );
        started.elapsed()
    };
    let honest = async {
        let started = Instant::now();
        for _ in 0..10 * REQUESTS {
            assert_eq!(honest.request(json!(["ss-leave", ""])).await, json!([]));
        }
        started.elapsed()
    };
    let (attack, honest) = tokio::join!(attack, honest);
    assert!(attack >= 2 * LEAST, "{attack:?}");
    assert!(honest < attack, "{honest:?} of {attack:?}");
}

#[tokio::test]
async fn what_is_answered_with_yes_is_not_slowed_down_and_a_link_that_rests_takes_what_it_is_sent()
{
    let server = server(Limits::default()).await;
    let mut client = link(&server, 2).await;
    for n in 0..AT_ONCE + 3 {
        client.send(format!("42{n}[\"nonsense\"]")).await;
    }
    client.next_ack = 100;
    // The link is read again some 150 ms later, and after that each time at once.
    for _ in 0..1000 {
        client.ask(json!(["ss-leave", ""])).await;
    }
    for _ in 0..AT_ONCE + 3 {
        assert!(client.text().await.contains("Unknown request"));
    }
    for ack in 100..1100 {
        assert_eq!(client.answer(ack).await, json!([]));
    }
    // In the meantime, announcements still arrive.
    let key = libp2p_identity::Keypair::generate_ed25519();
    client.join(&key).await;
    let mut other = link(&server, 3).await;
    for n in 0..AT_ONCE + 10 {
        client.send(format!("42{n}[\"nonsense\"]")).await;
    }
    let newcomer = libp2p_identity::Keypair::generate_ed25519();
    other.join(&newcomer).await;
    assert_eq!(client.announced().await, other.address);
    assert!(client.text().await.contains("Unknown request"));
}
