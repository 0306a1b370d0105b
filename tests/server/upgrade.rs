//! The request that becomes a link, in the spellings of clients and of proxies.

use std::net::SocketAddr;

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::Refused;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::client::{Client, Eio, dial, header, http, server, soon};

pub const QUERY: &str = "EIO=3&transport=websocket";
pub const HEADERS: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
/// The answer to that key according to RFC 6455, section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const BAD_REQUEST: &str = "{\"code\":3,\"message\":\"Bad request\"}";

pub fn request(query: &str, headers: &[&str]) -> String {
    let headers = headers.join("\r\n");
    format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")
}

/// Returns a request for a link with one more header.
pub fn link_request(name: &str, value: &str) -> String {
    let header = format!("{name}: {value}");
    let headers: Vec<_> = HEADERS.into_iter().chain([header.as_str()]).collect();
    request(QUERY, &headers)
}

/// Sends a request. Returns the head of the answer, and the connection just after the head.
pub async fn send(addr: SocketAddr, request: &[u8]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(addr).await.expect("connect");
    stream.write_all(request).await.expect("sent");
    let mut head = Vec::new();
    soon("a head", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
    })
    .await;
    (String::from_utf8(head).expect("text"), stream)
}

/// Returns the status and the header of that name from the answer to a request with these headers.
async fn answer(addr: SocketAddr, headers: &[&str], name: &str) -> (u16, Option<String>) {
    let (head, _stream) = send(addr, request(QUERY, headers).as_bytes()).await;
    let status = head[9..12].parse().expect("a status");
    let header = head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    });
    (status, header)
}

/// Returns the usual headers, with one of them replaced by others.
fn instead<'a>(of: &str, others: &[&'a str]) -> Vec<&'a str> {
    let kept = HEADERS.into_iter().filter(|header| !header.starts_with(of));
    kept.chain(others.iter().copied()).collect()
}

/// Returns a masked frame with a text of less than 126 bytes. The mask is zero.
pub fn text_frame(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("short");
    assert!(len < 126);
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Reads frames with short texts until this text arrives.
pub async fn read_until(stream: &mut TcpStream, expected: &str) {
    soon(expected, async {
        loop {
            let first = stream.read_u8().await.expect("the link is open");
            assert_eq!(first, 0x81, "a text");
            let len = match stream.read_u8().await.expect("a length") {
                126 => stream.read_u16().await.expect("a length").into(),
                len => usize::from(len),
            };
            let mut text = vec![0; len];
            stream.read_exact(&mut text).await.expect("a text");
            if text == expected.as_bytes() {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_is_read_as_npm_reads_it() {
    let server = server().await;
    for (query, expected) in [
        ("EIO=3&transport=websocket", "40"),
        ("transport=websocket", "40"),
        ("transport=websocket&EIO=", "40"),
        ("transport=%77ebsocket", "40"),
        ("transport=%77ebsock%65", ""),
        ("%74ransport=websocket&%45IO=%33", "40"),
        ("transport=websocket&sid=", "40"),
        ("transport=websocket&transport=polling&EIO=3&EIO=4", "40"),
        ("EIO=%34&transport=websocket", "430[]"),
        ("a&=&%&%zz=1&transport=websocket&b=%ff", "40"),
    ] {
        let request = request(query, &HEADERS);
        let (head, mut stream) = send(server.local_addr(), request.as_bytes()).await;
        if expected.is_empty() {
            assert!(head.starts_with("HTTP/1.1 400 "), "{query}: {head}");
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{query}: {head}");
        if expected == "430[]" {
            for text in ["40", "420[\"ss-leave\",\"\"]"] {
                let frame = text_frame(text);
                stream.write_all(&frame).await.expect("sent");
            }
        }
        read_until(&mut stream, expected).await;
    }
}

#[tokio::test]
async fn headers_are_read_in_any_case_and_as_lists() {
    let server = server().await;
    let addr = server.local_addr();
    let accept = (101, Some(ACCEPT.to_owned()));
    for headers in [
        HEADERS.to_vec(),
        instead("Upgrade", &["upgrade: WebSocket"]),
        instead("Upgrade", &["Upgrade: h2c, websocket"]),
        instead("Upgrade", &["Upgrade: h2c", "Upgrade:websocket"]),
        instead("Connection", &["connection: keep-alive, UPGRADE"]),
        instead(
            "Connection",
            &["Connection: keep-alive", "Connection: \tupgrade "],
        ),
        instead("Sec-WebSocket-Version", &["sec-websocket-version:   13  "]),
        instead(
            "Sec-WebSocket-Key",
            &["sec-websocket-key:\tdGhlIHNhbXBsZSBub25jZQ== "],
        ),
        instead("-", &["Content-Length: 0"]),
    ] {
        let answer = answer(addr, &headers, "Sec-WebSocket-Accept").await;
        assert_eq!(answer, accept, "{headers:?}");
    }
}

#[tokio::test]
async fn another_version_of_the_websocket_protocol_is_told_ours() {
    let server = server().await;
    let name = "Sec-WebSocket-Version";
    for versions in [
        &["Sec-WebSocket-Version: 12"][..],
        &["Sec-WebSocket-Version: 8"],
        &["Sec-WebSocket-Version: 14"],
        &["Sec-WebSocket-Version: "],
        &["Sec-WebSocket-Version: x"],
        &["Sec-WebSocket-Version: 013"],
        &["Sec-WebSocket-Version: 13.0"],
        &["Sec-WebSocket-Version: 13, 8"],
        &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"],
        &["Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13"],
        &["Sec-WebSocket-Version: \u{e9}"],
        &[],
    ] {
        let answer = answer(server.local_addr(), &instead(name, versions), name).await;
        assert_eq!(answer, (400, Some("13".to_owned())), "{versions:?}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_sixteen_bytes_or_not_the_only_one_is_refused() {
    let server = server().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for keys in [
        &["Sec-WebSocket-Key: abc"][..],
        &["Sec-WebSocket-Key:"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBx"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ-_=="],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, a"],
        &[key, key],
        &[key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="],
        &[],
    ] {
        let name = "Sec-WebSocket-Key";
        let (head, mut stream) = {
            let request = request(QUERY, &instead(name, keys));
            send(server.local_addr(), request.as_bytes()).await
        };
        assert!(head.starts_with("HTTP/1.1 400 "), "{keys:?}: {head}");
        let mut body = vec![0; BAD_REQUEST.len()];
        stream.read_exact(&mut body).await.expect("a body");
        assert_eq!(body, BAD_REQUEST.as_bytes());
    }
    assert_eq!(server.snapshot().links, 0);
}

#[tokio::test]
async fn the_first_subprotocol_that_is_offered_is_taken() {
    let server = server().await;
    for (offers, taken) in [
        (
            &["Sec-WebSocket-Protocol: engine.io"][..],
            Some("engine.io"),
        ),
        (&["sec-websocket-protocol:a,b"], Some("a")),
        (&["Sec-WebSocket-Protocol: \t, ,b ,c"], Some("b")),
        (
            &[
                "Sec-WebSocket-Protocol: first",
                "Sec-WebSocket-Protocol: second",
            ],
            Some("first"),
        ),
        (
            &["Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: second"],
            Some("second"),
        ),
        (&["Sec-WebSocket-Protocol: no token, b"], Some("b")),
        (&["Sec-WebSocket-Protocol: \"quoted\", <x>"], None),
        (&["Sec-WebSocket-Protocol: \u{e9}"], None),
        (&["Sec-WebSocket-Protocol:"], None),
        (&[], None),
    ] {
        let answer = answer(
            server.local_addr(),
            &instead("-", offers),
            "Sec-WebSocket-Protocol",
        )
        .await;
        assert_eq!(answer, (101, taken.map(str::to_owned)), "{offers:?}");
    }
}

#[tokio::test]
async fn frames_in_the_same_segment_as_the_request_are_served() {
    let server = server().await;
    for (query, connect) in [(QUERY, ""), ("EIO=4&transport=websocket", "40")] {
        let mut bytes = request(query, &HEADERS).into_bytes();
        if !connect.is_empty() {
            bytes.extend(text_frame(connect));
        }
        bytes.extend(text_frame("420[\"ss-leave\",\"\"]"));
        // The second half of the last frame is sent after the answer.
        let last = text_frame("421[\"ss-leave\",\"\"]");
        let (now, later) = last.split_at(9);
        bytes.extend(now);
        let (head, mut stream) = send(server.local_addr(), &bytes).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        read_until(&mut stream, "430[]").await;
        stream.write_all(later).await.expect("sent");
        read_until(&mut stream, "431[]").await;
    }
}

#[tokio::test]
async fn a_message_behind_the_request_has_the_same_bounds() {
    let server = server().await;
    let mut bytes = request(QUERY, &HEADERS).into_bytes();
    // The message is far longer than allowed, and this is only its beginning.
    bytes.extend([0x81, 0x80 | 127, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([b'x'; 1000]);
    let (head, mut stream) = send(server.local_addr(), &bytes).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest))
        .await
        .expect("an orderly end");
    assert_eq!(server.snapshot().refusals.get(Refused::MessageTooLong), 1);
}

#[tokio::test]
async fn a_request_with_a_body_is_refused_and_its_connection_closed() {
    let server = server().await;
    for body in [
        "Content-Length: 5",
        "Content-Length: 1000000",
        "Transfer-Encoding: chunked",
    ] {
        let mut bytes = request(QUERY, &instead("-", &[body])).into_bytes();
        bytes.extend(b"5\r\nhello\r\n0\r\n\r\n");
        let (head, mut stream) = send(server.local_addr(), &bytes).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{body}: {head}");
        assert!(head.contains("connection: close\r\n"), "{body}: {head}");
        let mut rest = Vec::new();
        // The server may not read everything that was sent, which resets the connection.
        let _ = soon("the end", stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, BAD_REQUEST.as_bytes());
    }
    assert_eq!(server.snapshot().links, 0);
}

#[tokio::test]
async fn the_page_tells_the_scheme_that_the_first_proxy_was_asked_with() {
    let server = server().await;
    for (headers, scheme) in [
        ("X-Nothing: 1", "ws"),
        ("X-Forwarded-Proto: https", "wss"),
        ("x-forwarded-proto:HTTPS", "wss"),
        ("X-Forwarded-Proto: https,http", "wss"),
        ("X-Forwarded-Proto: https , http", "wss"),
        ("X-Forwarded-Proto: http, https", "ws"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http", "wss"),
        ("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https", "ws"),
        ("X-Forwarded-Proto: ", "ws"),
        ("X-Forwarded-Proto: httpsx", "ws"),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{headers}");
        let page = http(server.local_addr(), &head).await;
        let expected = format!(
            ">/dns4/a/tcp/{}/{scheme}/p2p-websocket-star<",
            if scheme == "ws" { 80 } else { 443 }
        );
        assert!(page.contains(&expected), "{headers}: {page}");
    }
}

#[tokio::test]
async fn a_client_that_asks_for_it_gets_binary_as_text() {
    let server = server().await;
    for (eio, query, expected) in [
        (Eio::V3, "EIO=3&transport=websocket&b64=1", "b4aGVsbG8="),
        (Eio::V4, "EIO=4&transport=websocket&b64=true", "baGVsbG8="),
    ] {
        let mut listener = Client::connect_with(&server, eio, query).await;
        listener.join(&Keypair::generate_ed25519()).await;
        let mut dialer = Client::joined(&server).await;
        dial(&mut dialer, &mut listener, "d").await;
        dialer.item("d.dialer", b"hello").await;
        assert_eq!(listener.text().await, header("d.dialer"));
        assert_eq!(listener.text().await, expected);
    }
    // An empty value counts as none.
    let query = "EIO=3&transport=websocket&b64=";
    let mut listener = Client::connect_with(&server, Eio::V3, query).await;
    listener.join(&Keypair::generate_ed25519()).await;
    let mut dialer = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    dialer.item("d.dialer", b"hello").await;
    listener.expect_item("d.dialer", b"hello").await;
}
