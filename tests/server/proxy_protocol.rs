//! Connections that a trusted proxy begins with a header of the PROXY protocol.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::{Config, Limits, Network, Refused, Server, TlsConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{Client, config, socket, soon, status, until},
    upgrade::link_request,
};

/// The last octets of the loopback addresses. The first two are trusted.
const PROXY: u8 = 2;
const OTHER_PROXY: u8 = 3;
const STRANGER: u8 = 4;

const HEALTH: &str = "HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK";
const LINK: &str = "HTTP/1.1 101 Switching Protocols";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests";
const BAD: &str = "HTTP/1.1 400 Bad Request";

fn trusting(config: Config) -> Config {
    let network = |host| Network::from(std::net::IpAddr::from([127, 0, 0, host]));
    config.with_trusted_proxies([PROXY, OTHER_PROXY].map(network))
}

fn spoken() -> Config {
    trusting(config()).with_proxy_protocol(true)
}

async fn bound(config: Config) -> Server {
    Server::bind(config).await.expect("a free port")
}

/// Connects from a loopback address, and sends these bytes first.
async fn begin(host: u8, bytes: &[u8], server: &Server) -> TcpStream {
    let connect = socket(host).connect(server.local_addr());
    let stream = soon("a connection", connect).await;
    let mut stream = stream.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// Sends these bytes first, and then asks for the health.
async fn health(host: u8, begun: &[u8], server: &Server) -> String {
    let bytes = [begun, HEALTH.as_bytes()].concat();
    status(&mut begin(host, &bytes, server).await).await
}

/// Has a proxy send these bytes first, and then asks for a link with that `X-Forwarded-For`.
async fn link(begun: &[u8], forwarded_for: &str, server: &Server) -> (String, TcpStream) {
    let request = link_request("X-Forwarded-For", forwarded_for);
    let bytes = [begun, request.as_bytes()].concat();
    let mut stream = begin(PROXY, &bytes, server).await;
    (status(&mut stream).await, stream)
}

/// Returns a header of version 1.
fn text(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { 6 } else { 4 };
    let to = if family == 6 { "::1" } else { "127.0.0.1" };
    format!("PROXY TCP{family} {client} {to} 51234 443\r\n").into_bytes()
}

/// Returns a header of version 2.
fn binary(client: [u8; 4]) -> Vec<u8> {
    binary_with(
        0x21,
        0x11,
        &[client, [127, 0, 0, 1], [0xc8, 0x22, 1, 0xbb]].concat(),
    )
}

fn binary_with(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, rest].concat()
}

#[tokio::test]
async fn a_connection_counts_for_whom_its_header_names() {
    let limits = Limits::default().with_max_links_per_ip(1);
    let server = bound(spoken().with_limits(limits)).await;
    let local = binary_with(0x20, 0x00, &[]);
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    let mut links = Vec::new();
    for (header, forwarded_for, expected) in [
        (text("192.0.2.1"), "", LINK),
        (text("192.0.2.2"), "", LINK),
        (binary([192, 0, 2, 1]), "", TOO_MANY),
        (text("2001:db8::1"), "", LINK),
        (text("2001:db8::2"), "", TOO_MANY),
        // This proxy passes on bytes, so the list is the client's own claim and is ignored.
        (text("192.0.2.3"), "192.0.2.9", LINK),
        (text("192.0.2.3"), "192.0.2.10", TOO_MANY),
        (text("192.0.2.9"), "", LINK),
        // The header names another trusted proxy, which asks for a client. The list of that proxy counts.
        (text("127.0.0.3"), "6.6.6.6, 192.0.2.4", LINK),
        (binary([127, 0, 0, 3]), "192.0.2.4, 127.0.0.2", TOO_MANY),
        (text("192.0.2.4"), "", TOO_MANY),
        // These headers name no client: the connection is the proxy's own.
        (local, "192.0.2.5", LINK),
        (unknown, "192.0.2.6", TOO_MANY),
        (text("192.0.2.5"), "", LINK),
    ] {
        let (status, stream) = link(&header, forwarded_for, &server).await;
        let shown = header.escape_ascii();
        assert_eq!(status, expected, "{shown} {forwarded_for}");
        links.push(stream);
    }
}

#[tokio::test]
async fn a_trusted_proxy_that_sends_no_good_header_is_refused() {
    let server = bound(spoken()).await;
    let mut refused = 0;
    for begun in [
        &b""[..],
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY  TCP4 192.0.2.1 127.0.0.1 1 2\r\n",
        &[&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
        &binary_with(0x21, 0x11, &[7; 600]),
        &binary_with(0x21, 0x11, &[7; 4]),
        &binary_with(0x2f, 0x11, &[7; 12]),
    ] {
        let shown = begun.escape_ascii();
        assert_eq!(health(PROXY, begun, &server).await, "", "{shown}");
        refused += 1;
        let counted = server.snapshot().refusals.get(Refused::ProxyHeader);
        assert_eq!(counted, refused, "{shown}");
    }
    // A connection without any data is a port check, and not an error.
    drop(begin(PROXY, b"", &server).await);
    assert_eq!(health(PROXY, &text("192.0.2.1"), &server).await, OK);
    let counted = server.snapshot().refusals.get(Refused::ProxyHeader);
    assert_eq!(counted, refused);
}

#[tokio::test]
async fn nobody_else_has_a_header_or_needs_one() {
    let server = bound(spoken()).await;
    assert_eq!(health(STRANGER, b"", &server).await, OK);
    for header in [text("127.0.0.2"), binary([127, 0, 0, 2])] {
        assert_eq!(health(STRANGER, &header, &server).await, BAD);
    }
    // Without this option, a proxy has no header either.
    let server = bound(trusting(config())).await;
    assert_eq!(health(PROXY, b"", &server).await, OK);
    for header in [text("192.0.2.1"), binary([192, 0, 2, 1])] {
        assert_eq!(health(PROXY, &header, &server).await, BAD);
    }
}

#[tokio::test]
async fn a_header_that_comes_in_pieces_holds_up_nobody_and_ends_in_time() {
    let limits = Limits::default().with_handshake_timeout(Duration::from_secs(2));
    let server = bound(spoken().with_limits(limits)).await;
    let mut silent = begin(PROXY, b"", &server).await;
    let mut half = begin(PROXY, b"PROXY TCP4 192.0.2.1 127", &server).await;
    let mut slow = begin(PROXY, b"", &server).await;
    for byte in text("192.0.2.1") {
        slow.write_all(&[byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    slow.write_all(HEALTH.as_bytes()).await.expect("sent");
    assert_eq!(status(&mut slow).await, OK);
    assert_eq!(health(PROXY, &binary([192, 0, 2, 2]), &server).await, OK);
    Client::joined(&server).await;
    for late in [&mut silent, &mut half] {
        assert_eq!(status(late).await, "");
    }
    let counted = server.snapshot().refusals.get(Refused::ProxyHeader);
    assert_eq!(counted, 2);
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let own = rcgen::generate_simple_self_signed(["star.test".to_owned()]).expect("a certificate");
    let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let tls = TlsConfig::from_pem(chain.as_bytes(), key.as_bytes()).expect("a certificate");
    let server = bound(spoken().with_tls(tls)).await;
    // Plain HTTP after the header gets an answer.
    assert_eq!(health(PROXY, &text("192.0.2.1"), &server).await, BAD);
    let bad_hello = b"\x16\x03\x01\x00\x04\x63\x00\x00\x00";
    let hello = [&binary([192, 0, 2, 1])[..], bad_hello].concat();
    let mut stream = begin(PROXY, &hello, &server).await;
    // An alert (RFC 8446, section 6).
    let first = soon("an alert", stream.read_u8()).await;
    assert_eq!(first.expect("a byte"), 21);
    assert_eq!(health(PROXY, b"", &server).await, "");
}

#[tokio::test]
async fn a_client_that_connects_too_often_through_a_proxy_is_refused_and_others_are_not() {
    let limits = Limits::default().with_connection_rate(1, 3);
    let server = bound(spoken().with_limits(limits)).await;
    let mut answers = Vec::new();
    for client in [1, 1, 1, 1, 1, 1, 1, 1, 2] {
        let header = binary([192, 0, 2, client]);
        answers.push(health(PROXY, &header, &server).await);
    }
    assert_eq!(answers[..3], [OK; 3]);
    let refused = answers.iter().filter(|answer| answer.is_empty()).count();
    // Some seconds may have passed in the meantime.
    assert!(refused >= 2, "{answers:?}");
    assert_eq!(answers[8], OK);
    let counted = server.snapshot().refusals.get(Refused::ConnectionRate);
    assert_eq!(counted, refused as u64);
}

#[tokio::test]
async fn a_connection_that_waits_for_its_header_does_not_hold_up_the_end() {
    let server = bound(spoken()).await;
    let mut waiting = begin(PROXY, b"PROXY ", &server).await;
    until("a connection", || server.snapshot().connections > 0).await;
    soon("the end", server.shutdown()).await;
    assert_eq!(status(&mut waiting).await, "");
}

#[tokio::test]
async fn whoever_accepts_a_connection_itself_has_read_its_header() {
    let server = bound(spoken()).await;
    let (mut ours, its) = tokio::io::duplex(4096);
    let served = server.serve_connection(its, ([127, 0, 0, PROXY], 4000).into());
    served.await.expect("a place");
    ours.write_all(HEALTH.as_bytes()).await.expect("sent");
    assert_eq!(status(&mut ours).await, OK);
}
