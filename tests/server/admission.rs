//! The distribution of places when there are too few, from `accept` on. No origin can take the places of the others.

use std::{net::Ipv4Addr, time::Duration};

use libp2p_websocket_star::rendezvous::{Limits, Network, Refused, Server, TlsConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::client::{Client, config, soon, status, until};

/// The number of connections that are allowed in addition to the links.
const BESIDE_LINKS: usize = 1024;

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

async fn limited(limits: Limits) -> Server {
    let config = config().with_limits(limits.with_connection_rate(1, 100_000));
    Server::bind(config).await.expect("a free port")
}

/// Connects from a loopback address.
async fn connect(from: Ipv4Addr, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("a loopback address");
    let stream = soon("a connection", socket.connect(server.local_addr())).await;
    stream.expect("connected")
}

/// Sends an HTTP request on a connection that is kept. Returns the status line, and leaves the body unread.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    let request = format!("{request}\r\nHost: a\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    status(stream).await
}

const HEALTH: &str = "HEAD /health HTTP/1.1";
const LINK: &str = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";

/// Reads until the end or until a reset.
async fn ended(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn kept_connections_of_one_address_keep_no_other_from_a_link() {
    let server = limited(Limits::default().with_max_links(4)).await;
    let mut kept = Vec::new();
    for _ in 0..BESIDE_LINKS + 4 {
        let mut stream = connect(host(2), &server).await;
        assert_eq!(ask(&mut stream, HEALTH).await, "HTTP/1.1 200 OK");
        kept.push(stream);
    }
    // A further connection of the same address has no share left.
    assert!(ended(&mut connect(host(2), &server).await).await.is_empty());
    let snapshot = server.snapshot();
    assert_eq!(snapshot.connections, BESIDE_LINKS + 4);
    assert_eq!(snapshot.refusals.get(Refused::TooManyConnections), 1);

    // Another address has a share, and joins and dials as always.
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    crate::client::dial(&mut dialer, &mut listener, "d").await;
    // The oldest of the many connections were closed for them.
    for stream in kept.drain(..2) {
        let mut stream = stream;
        assert!(ended(&mut stream).await.is_empty());
    }
    assert_eq!(ask(&mut kept[0], HEALTH).await, "HTTP/1.1 200 OK");
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::ConnectionGaveWay), 2);
}

#[tokio::test]
async fn links_of_one_address_give_way_to_another_the_newest_that_has_not_joined_first() {
    let server = limited(Limits::default().with_max_links(4)).await;
    let mut joined = [
        Client::joined(&server).await,
        Client::joined(&server).await,
        Client::joined(&server).await,
    ];
    let mut idle = Client::connect(&server).await;
    let mut same = connect(Ipv4Addr::LOCALHOST, &server).await;
    let full = "HTTP/1.1 503 Service Unavailable";
    assert_eq!(ask(&mut same, LINK).await, full);

    let link = "HTTP/1.1 101 Switching Protocols";
    let mut others = [
        connect(host(2), &server).await,
        connect(host(3), &server).await,
    ];
    assert_eq!(ask(&mut others[0], LINK).await, link);
    let (code, reason) = idle.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1008);
    assert!(reason.contains("more of them than others"), "{reason}");
    assert_eq!(ask(&mut others[1], LINK).await, link);
    assert!(joined[2].closed().await.is_some());
    until("all are gone", || server.snapshot().links == 4).await;

    // Two links of the first host and one each of the others is a fair distribution.
    assert_eq!(ask(&mut connect(host(3), &server).await, LINK).await, full);
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::LinkGaveWay), 2);
    assert_eq!(refusals.get(Refused::TooManyLinks), 2);
    joined[0].request(serde_json::json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn an_address_that_weighs_more_has_more_links() {
    let heavy: Network = "127.0.0.2".parse().expect("an address");
    let limits = Limits::default().with_max_links(4);
    let config = config().with_limits(limits).with_origin_weight(heavy, 3);
    let server = Server::bind(config).await.expect("a free port");
    let mut links = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(host(1), &server).await;
        ask(&mut stream, LINK).await;
        links.push(stream);
    }
    let mut answers = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(host(2), &server).await;
        answers.push(ask(&mut stream, LINK).await);
        links.push(stream);
    }
    let begun = answers.iter().filter(|answer| answer.contains("101"));
    assert_eq!(begun.count(), 3, "{answers:?}");
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_reset_and_another_is_not() {
    let limits = Limits::default().with_connection_rate(1, 3);
    let server = Server::bind(config().with_limits(limits)).await;
    let server = server.expect("a free port");
    let mut answers = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(host(2), &server).await;
        answers.push(ask(&mut stream, HEALTH).await);
    }
    let answered = answers.iter().filter(|answer| answer.contains("200"));
    // Some seconds may have passed in the meantime.
    assert!((3..10).contains(&answered.count()), "{answers:?}");
    assert!(server.snapshot().refusals.get(Refused::ConnectionRate) > 10);
    Client::joined(&server).await;
}

#[tokio::test]
async fn a_tls_handshake_too_many_is_refused_before_it_begins() {
    let own = rcgen::generate_simple_self_signed(["star.test".to_owned()]).expect("a certificate");
    let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let tls = TlsConfig::from_pem(chain.as_bytes(), key.as_bytes()).expect("a certificate");
    let limits = Limits::default().with_connection_rate(1, 3);
    let server = Server::bind(config().with_limits(limits).with_tls(tls)).await;
    let server = server.expect("a free port");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(connect(host(2), &server).await);
    }
    until("all are in", || server.snapshot().connections == 3).await;
    while server.snapshot().refusals.get(Refused::ConnectionRate) == 0 {
        // Another second may have begun in the meantime.
        waiting.push(connect(host(2), &server).await);
        until("it is known", || {
            let now = server.snapshot();
            let refused = now.refusals.get(Refused::ConnectionRate) as usize;
            now.connections + refused == waiting.len()
        })
        .await;
    }
    let mut refused = waiting.pop().expect("the last");
    assert!(ended(&mut refused).await.is_empty());
    waiting.push(connect(host(3), &server).await);
    until("another is in", || {
        server.snapshot().connections == waiting.len()
    })
    .await;
}

#[tokio::test]
async fn connections_through_a_proxy_count_for_whom_they_name() {
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let limits = Limits::default().with_max_links(4);
    let config = config().with_limits(limits).with_trusted_proxies([proxy]);
    let server = Server::bind(config).await.expect("a free port");
    let mut kept = Vec::new();
    for _ in 0..BESIDE_LINKS + 4 {
        let mut stream = connect(host(2), &server).await;
        let health = format!("{HEALTH}\r\nX-Forwarded-For: 192.0.2.1");
        assert_eq!(ask(&mut stream, &health).await, "HTTP/1.1 200 OK");
        kept.push(stream);
    }
    let full = "HTTP/1.1 503 Service Unavailable";
    let link = |client| format!("{LINK}\r\nX-Forwarded-For: {client}");
    let mut stream = connect(host(2), &server).await;
    assert_eq!(ask(&mut stream, &link("192.0.2.1")).await, full);
    let begun = "HTTP/1.1 101 Switching Protocols";
    let mut stream = connect(host(2), &server).await;
    assert_eq!(ask(&mut stream, &link("192.0.2.2")).await, begun);
    assert!(ended(&mut kept[0]).await.is_empty());
    // A proxy's connection without a request takes no place from connections whose client is known.
    let _silent = connect(host(2), &server).await;
    Client::joined(&server).await;
}

#[tokio::test]
async fn whoever_opens_links_too_often_through_a_proxy_is_told_and_others_are_not() {
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let limits = Limits::default().with_connection_rate(1, 3);
    let config = config().with_limits(limits).with_trusted_proxies([proxy]);
    let server = Server::bind(config).await.expect("a free port");
    let mut links = Vec::new();
    let mut answers = Vec::new();
    for client in [1, 1, 1, 1, 1, 1, 1, 1, 2] {
        let mut stream = connect(host(2), &server).await;
        let request = format!("{LINK}\r\nX-Forwarded-For: 192.0.2.{client}");
        answers.push(ask(&mut stream, &request).await);
        links.push(stream);
    }
    assert!(answers[..3].iter().all(|answer| answer.contains("101")));
    let refused = answers.iter().filter(|answer| answer.contains("429"));
    assert!(refused.count() >= 2, "{answers:?}");
    assert!(answers[8].contains("101"), "{answers:?}");
}

#[tokio::test]
async fn a_connection_that_is_refused_leaves_nothing_behind() {
    let server = limited(Limits::default().with_max_links(1)).await;
    let mut kept = Vec::new();
    for _ in 0..BESIDE_LINKS + 1 {
        kept.push(connect(host(2), &server).await);
    }
    until("all are in", || {
        server.snapshot().connections == BESIDE_LINKS + 1
    })
    .await;
    for _ in 0..100 {
        ended(&mut connect(host(2), &server).await).await;
    }
    assert_eq!(server.snapshot().connections, BESIDE_LINKS + 1);
    drop(kept);
    until("all are gone", || server.snapshot().connections == 0).await;
    let mut stream = connect(host(2), &server).await;
    assert_eq!(ask(&mut stream, HEALTH).await, "HTTP/1.1 200 OK");
    tokio::time::timeout(Duration::from_secs(20), server.shutdown())
        .await
        .expect("it stops");
}
