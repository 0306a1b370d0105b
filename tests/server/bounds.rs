//! Every limit: the answer to a client that exceeds it, the counter, and that other clients are not affected.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::SinkExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Network, Refused, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
};
use tokio_websockets::{CloseCode, Message};

use crate::client::{Client, address, config, dial, offer, soon};

async fn limited(limits: Limits) -> Server {
    Server::bind(config().with_limits(limits))
        .await
        .expect("a free port")
}

/// Returns the reasons of refusals, with the number of each.
fn refusals(server: &Server) -> Vec<(Refused, u64)> {
    let all = server.snapshot().refusals;
    all.iter().filter(|(_, count)| *count > 0).collect()
}

/// Asks for a link from a local address. Returns the status line, and the connection to keep open.
async fn ask_for_a_link(from: Ipv4Addr, to: SocketAddr) -> (String, BufReader<TcpStream>) {
    ask_with_header(from, to, "X-Nothing: 1").await
}

/// Asks for a link as a proxy does for a client.
async fn ask_on_behalf(of: &str, from: Ipv4Addr, to: SocketAddr) -> (String, BufReader<TcpStream>) {
    ask_with_header(from, to, &format!("X-Forwarded-For: {of}")).await
}

async fn ask_with_header(
    from: Ipv4Addr,
    to: SocketAddr,
    header: &str,
) -> (String, BufReader<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((IpAddr::V4(from), 0).into())
        .expect("a loopback address");
    let mut stream = socket.connect(to).await.expect("connect");
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\n{header}\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    soon("a status", stream.read_line(&mut status))
        .await
        .expect("a status");
    (status, stream)
}

#[tokio::test]
async fn one_address_has_so_many_links_and_another_address_its_own() {
    let server = limited(Limits::default().with_max_links_per_ip(2)).await;
    let first = Client::joined(&server).await;
    let mut second = Client::joined(&server).await;

    let (status, _) = ask_for_a_link(Ipv4Addr::LOCALHOST, server.local_addr()).await;
    assert!(status.starts_with("HTTP/1.1 429"), "{status}");
    assert_eq!(refusals(&server), [(Refused::TooManyLinksPerIp, 1)]);
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    let (status, _link) = ask_for_a_link(elsewhere, server.local_addr()).await;
    assert!(status.starts_with("HTTP/1.1 101"), "{status}");

    // A link that is closed makes room for another.
    drop(first);
    soon("room", async {
        while server.snapshot().links > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Client::joined(&server).await;
    second.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn those_who_come_through_a_trusted_proxy_are_counted_apart() {
    let limits = Limits::default().with_max_links_per_ip(1);
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let config = config().with_limits(limits).with_trusted_proxies([proxy]);
    let server = Server::bind(config).await.expect("a free port");
    let (to, proxy) = (server.local_addr(), Ipv4Addr::new(127, 0, 0, 2));
    let mut links = Vec::new();
    for (client, expected) in [
        ("192.0.2.1", "101"),
        ("192.0.2.2", "101"),
        ("192.0.2.1", "429"),
        // The first entry is the client's own claim.
        ("192.0.2.3, 192.0.2.2", "429"),
        ("2001:db8::1", "101"),
        ("[2001:db8::2]:80", "429"),
        // The proxy itself, in two spellings.
        ("127.0.0.2", "101"),
        ("nonsense", "429"),
    ] {
        let (status, link) = ask_on_behalf(client, proxy, to).await;
        let expected = format!("HTTP/1.1 {expected} ");
        assert!(status.starts_with(&expected), "{client}: {status}");
        links.push(link);
    }
    assert_eq!(refusals(&server), [(Refused::TooManyLinksPerIp, 4)]);

    // The header of any other host is ignored.
    let stranger = Ipv4Addr::new(127, 0, 0, 3);
    let (status, _link) = ask_on_behalf("192.0.2.1", stranger, to).await;
    assert!(status.starts_with("HTTP/1.1 101 "), "{status}");
    let (status, _) = ask_on_behalf("192.0.2.9", stranger, to).await;
    assert!(status.starts_with("HTTP/1.1 429 "), "{status}");

    // A link that is closed makes room for another one of its client.
    links.remove(0);
    soon("room", async {
        while server.snapshot().links > 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (status, _link) = ask_on_behalf("192.0.2.1", proxy, to).await;
    assert!(status.starts_with("HTTP/1.1 101 "), "{status}");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let server = limited(Limits::default().with_max_links(1)).await;
    let mut only = Client::joined(&server).await;
    let (status, _) = ask_for_a_link(Ipv4Addr::LOCALHOST, server.local_addr()).await;
    assert!(status.starts_with("HTTP/1.1 503"), "{status}");
    assert_eq!(refusals(&server), [(Refused::TooManyLinks, 1)]);
    only.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn a_link_dials_so_often_and_another_link_dials_on() {
    let server = limited(Limits::default().with_dial_rate(1, 3)).await;
    let mut eager = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    let absent = address(&Keypair::generate_ed25519());
    let dial_absent = json!(["ss-dial", eager.address, absent, "d"]);
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(eager.request(dial_absent.clone()).await);
    }
    assert_eq!(answers[..3], vec![json!(["Peer not found"]); 3]);
    let refused = answers
        .iter()
        .filter(|answer| **answer == json!(["Too many dials a second"]))
        .count();
    // Another second may have begun in the meantime.
    assert!(refused >= 4, "{answers:?}");
    let expected = [
        (Refused::PeerNotFound, 10 - refused as u64),
        (Refused::DialRate, refused as u64),
    ];
    assert_eq!(refusals(&server), expected);
    let mut other = Client::joined(&server).await;
    dial(&mut other, &mut listener, "e").await;
}

#[tokio::test]
async fn a_link_has_so_many_addresses() {
    let server = limited(Limits::default().with_max_joins(1)).await;
    let mut client = Client::joined(&server).await;
    let another = address(&Keypair::generate_ed25519());
    let refused = client.request(json!(["ss-join", another, "00"])).await;
    assert_eq!(refused, json!(["Too many addresses on one link"]));
    assert_eq!(refusals(&server), [(Refused::TooManyJoins, 1)]);
    Client::joined(&server).await;
}

#[tokio::test]
async fn a_link_has_so_many_dials_and_is_dialled_so_often() {
    let server = limited(Limits::default().with_max_pending_dials(1)).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    let mut other = Client::joined(&server).await;
    let pending = offer(&mut dialer, &mut listener, "d").await;
    let event = json!(["ss-dial", dialer.address, other.address, "e"]);
    let refused = dialer.request(event).await;
    assert_eq!(refused, json!(["Too many dials on one link"]));
    let event = json!(["ss-dial", other.address, listener.address, "f"]);
    let refused = other.request(event).await;
    assert_eq!(refused, json!(["Peer has too many dials"]));
    assert_eq!(
        refusals(&server),
        [(Refused::TooManyDials, 1), (Refused::PeerBusy, 1)]
    );
    let answer = format!("43{}[]", listener.next_ack);
    listener.send(answer).await;
    assert_eq!(dialer.answer(pending).await, json!([]));
}

#[tokio::test]
async fn a_link_has_so_many_open_streams() {
    let server = limited(Limits::default().with_max_open_dials(1)).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    let other = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    let event = json!(["ss-dial", dialer.address, other.address, "e"]);
    let refused = dialer.request(event).await;
    assert_eq!(refused, json!(["Too many dials on one link"]));
    assert_eq!(refusals(&server), [(Refused::TooManyDials, 1)]);
    dialer.item("d.dialer", b"still").await;
    listener.expect_item("d.dialer", b"still").await;
}

#[tokio::test]
async fn a_dial_waits_so_long_for_its_answer() {
    let limits = Limits::default().with_dial_timeout(Duration::from_millis(50));
    let server = limited(limits).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    let ack = offer(&mut dialer, &mut listener, "d").await;
    let refused = json!(["Peer did not answer the dial in time"]);
    assert_eq!(dialer.answer(ack).await, refused);
    assert_eq!(refusals(&server), [(Refused::DialTimedOut, 1)]);
}

#[tokio::test]
async fn a_message_has_so_many_bytes() {
    let server = limited(Limits::default().with_message_limit(1000)).await;
    let mut bystander = Client::joined(&server).await;
    let mut client = Client::joined(&server).await;
    let event = |bytes: usize| format!("42[\"a\",\"{}\"]", "x".repeat(bytes - 10));
    assert_eq!(event(999).len(), 999);
    client.send(event(999)).await;
    client.request(json!(["ss-leave", ""])).await;
    client.send(event(1000)).await;
    let (code, _) = client.closed().await.expect("a reason");
    assert_eq!(code, CloseCode::MESSAGE_TOO_BIG);
    assert_eq!(refusals(&server), [(Refused::MessageTooLong, 1)]);
    bystander.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn a_link_joins_in_time_or_is_closed() {
    let limits = Limits::default().with_join_timeout(Duration::from_millis(100));
    let server = limited(limits).await;
    let mut joined = Client::joined(&server).await;
    let mut client = Client::connect(&server).await;
    let reason = "did not join in time".to_owned();
    let expected = Some((CloseCode::POLICY_VIOLATION, reason));
    assert_eq!(client.closed().await, expected);
    assert_eq!(refusals(&server), [(Refused::JoinTimedOut, 1)]);
    joined.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn a_link_that_reads_nothing_is_closed_and_counted() {
    let limits = Limits::default()
        .with_stall_timeout(Duration::from_millis(500))
        .with_refusal_rate(u32::MAX, u32::MAX);
    let server = limited(limits).await;
    let mut bystander = Client::joined(&server).await;
    let mut client = Client::joined(&server).await;
    let event = "421[\"no such event\"]";
    while client.socket.send(Message::text(event)).await.is_ok() {}
    assert_eq!(server.snapshot().refusals.get(Refused::Stalled), 1);
    let answer: Value = bystander.request(json!(["ss-leave", ""])).await;
    assert_eq!(answer, json!([]));
}

#[tokio::test]
async fn a_link_that_says_nothing_is_closed_and_counted() {
    let config = config()
        .with_ping_interval(Duration::from_millis(100))
        .with_ping_timeout(Duration::from_millis(100));
    let server = Server::bind(config).await.expect("a free port");
    let mut client = Client::joined(&server).await;
    assert!(client.closed().await.is_some());
    assert_eq!(refusals(&server), [(Refused::Silent, 1)]);
}
