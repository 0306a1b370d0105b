//! Faults before the link is open.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use libp2p_websocket_star::error::{LinkError, ProtocolError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_websockets::Message;

use super::{link_error, listening};
use crate::support::{
    hasty, head,
    scripted::{Dripping, Link, OPEN, Scripted},
    within,
};

fn switching(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

#[tokio::test]
async fn what_is_no_websocket_server_is_named_and_tried_again() {
    let (server, mut node) = listening(hasty()).await;
    for (answer, story) in [
        (String::new(), ""),
        ("HTTP/1.1 101 Switching".to_owned(), ""),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(), ""),
        ("\0\u{1}\u{2}\r\n\r\n".to_owned(), ""),
        ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "404"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
            "Sec-WebSocket-Accept",
        ),
        (
            switching("AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            "Sec-WebSocket-Accept",
        ),
        (switching("not base64"), "Sec-WebSocket-Accept"),
    ] {
        let mut tcp = server.tcp().await;
        tcp.write_all(answer.as_bytes()).await.expect("taken");
        tcp.shutdown().await.expect("taken");
        let error = link_error(&server, &mut node).await;
        assert!(matches!(error, LinkError::Upgrade(_)), "{error}");
        assert!(error.to_string().contains(story), "{error}");
    }
    server.serve(&mut node).await;
}

/// tokio-websockets 0.13.3, which this crate once used, decodes the header into 20 bytes, and panics if there are
/// more.
#[tokio::test]
async fn an_accept_header_over_20_bytes_is_no_panic() {
    let (server, mut node) = listening(hasty()).await;
    for accept in ["QUJD".repeat(7), "QUJD".repeat(1000)] {
        let mut tcp = server.tcp().await;
        let answer = switching(&accept);
        tcp.write_all(answer.as_bytes()).await.expect("taken");
        let error = link_error(&server, &mut node).await;
        assert!(matches!(error, LinkError::Upgrade(_)), "{error}");
    }
    server.serve(&mut node).await;
}

/// Reads the upgrade request, and answers with a 101 whose head also has `more`.
async fn agree(tcp: &mut TcpStream, more: &str) {
    let request = head(tcp).await;
    let mut lines = request.lines();
    let key = lines.find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let mut sha1 = sha1_smol::Sha1::from(key.expect("a key"));
    sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = BASE64_STANDARD.encode(sha1.digest().bytes());
    let answer = switching(&accept);
    let begun = answer.strip_suffix("\r\n").expect("a head");
    let answer = format!("{begun}{more}\r\n");
    tcp.write_all(answer.as_bytes()).await.expect("taken");
}

#[tokio::test]
async fn interim_answers_before_the_upgrade_are_passed_over() {
    let (server, mut node) = listening(hasty()).await;
    for interim in [
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    ] {
        let mut tcp = server.tcp().await;
        tcp.write_all(interim.as_bytes()).await.expect("taken");
        let mut link = Link::over(tcp).await;
        link.text(OPEN).await;
        link.text("40").await;
        futures::future::join(link.join(&[]), node.joined()).await;
        link.check(&mut node).await;
        drop(link);
        node.event().await;
        link_error(&server, &mut node).await;
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_given_up() {
    let (server, mut node) = listening(hasty()).await;
    let mut tcp = server.tcp().await;
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    within("the client to hang up", async {
        while tcp.write_all(interim.as_bytes()).await.is_ok() {}
    })
    .await;
    let error = link_error(&server, &mut node).await;
    assert!(error.to_string().contains("interim"), "{error}");
    server.serve(&mut node).await;
}

#[tokio::test]
async fn what_was_not_asked_for_in_the_upgrade_is_refused() {
    let (server, mut node) = listening(hasty()).await;
    for (more, named) in [
        (
            "Sec-WebSocket-Protocol: engine.io\r\n",
            "Sec-WebSocket-Protocol",
        ),
        (
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            "Sec-WebSocket-Extensions",
        ),
        ("Upgrade: h2c\r\n", "Upgrade"),
        ("Upgrade: websocket\r\n", "Upgrade"),
        ("Sec-WebSocket-Accept: no\r\n", "Sec-WebSocket-Accept"),
    ] {
        let mut tcp = server.tcp().await;
        agree(&mut tcp, more).await;
        let error = link_error(&server, &mut node).await;
        assert!(matches!(error, LinkError::Upgrade(_)), "{error}");
        let ending = format!("the answer's {named} header is missing, repeated or wrong");
        assert!(error.to_string().ends_with(&ending), "{error}");
    }
    let mut tcp = server.tcp().await;
    agree(&mut tcp, "Connection: keep-alive\r\nServer: a\r\n").await;
    let mut link = Link::serving(tcp);
    link.text(OPEN).await;
    link.text("40").await;
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

/// Returns the frames that the client sends from now until the end: the first byte and the payload of each.
async fn last_words(mut tcp: TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut sent = Vec::new();
    let read = within("the client to hang up", tcp.read_to_end(&mut sent)).await;
    read.expect("a proper end");
    let mut frames = Vec::new();
    let mut rest = &sent[..];
    while let [first, second, after @ ..] = rest {
        assert!(second & 0x80 != 0, "a masked frame");
        let (len, after) = match (second & 0x7f, after) {
            (126, [high, low, after @ ..]) => (u16::from_be_bytes([*high, *low]).into(), after),
            (len, after) => (usize::from(len), after),
        };
        let (key, payload) = (&after[..4], &after[4..4 + len]);
        let plain = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b);
        frames.push((*first, plain.collect()));
        rest = &after[4 + len..];
    }
    frames
}

/// RFC 6455, section 5.5.1, demands the answer. The client used to close the TCP connection at once.
#[tokio::test]
async fn a_close_frame_is_answered_with_a_close_frame_and_a_violation_too() {
    const CLOSED: [u8; 4] = [0x88, 2, 0x03, 0xe9];
    let (server, mut node) = listening(hasty()).await;
    let open = [&[0x81, OPEN.len() as u8], OPEN.as_bytes(), b"\x81\x0240"].concat();
    let goodbye = |code: u16| vec![(0x88, code.to_be_bytes().to_vec())];
    for (before, spoil, answer) in [
        (&b""[..], &CLOSED[..], goodbye(1001)),
        (&b""[..], &b"\x88\0"[..], vec![(0x88, vec![])]),
        (&open, &CLOSED, goodbye(1001)),
        (&open, b"\x88\0", vec![(0x88, vec![])]),
        (&open, b"\x88\0\x81\x02no", vec![(0x88, vec![])]),
        (&open, b"\x81\x011", goodbye(1000)),
        (&open, b"\x81\x01x", goodbye(1002)),
        (&open, b"\xc1\x00", goodbye(1002)),
        (&open, b"\x81\x01\xff", goodbye(1007)),
        (&open, b"\x82\x7f\0\0\0\x01\0\0\0\0", goodbye(1009)),
    ] {
        let mut tcp = server.tcp().await;
        agree(&mut tcp, "").await;
        let frames = [before, spoil].concat();
        tcp.write_all(&frames).await.expect("taken");
        let (mut sent, _) =
            futures::future::join(last_words(tcp), link_error(&server, &mut node)).await;
        sent.retain(|(first, _)| *first != 0x81);
        assert_eq!(sent, answer, "{spoil:x?}");
    }
    server.serve(&mut node).await;
}

/// The client used to collect such a head until the connect timeout.
#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let (server, mut node) = listening(hasty()).await;
    let mut tcp = server.tcp().await;
    let start = "HTTP/1.1 101 Switching Protocols\r\nX: ";
    tcp.write_all(start.as_bytes()).await.expect("taken");
    within("the client to hang up", until_closed(&mut tcp)).await;
    let error = link_error(&server, &mut node).await;
    assert!(error.to_string().contains("16384 bytes"), "{error}");
    server.serve(&mut node).await;
}

async fn until_closed(tcp: &mut TcpStream) {
    while tcp.write_all(&[b'x'; 4096]).await.is_ok() {}
}

#[tokio::test]
async fn a_server_that_stops_at_any_stage_is_given_up_in_time() {
    let config = hasty().with_connect_timeout(Duration::from_secs(1));
    let (server, mut node) = listening(config).await;
    let stage = async |server: &Scripted, node: &mut _| match link_error(server, node).await {
        LinkError::TimedOut { stage, .. } => stage,
        other => panic!("{other}"),
    };

    let silent = server.tcp().await;
    assert_eq!(stage(&server, &mut node).await, "the WebSocket upgrade");
    let upgraded = server.upgraded().await;
    assert_eq!(stage(&server, &mut node).await, "the Engine.IO handshake");
    let mut opened = server.upgraded().await;
    opened.text(OPEN).await;
    assert_eq!(stage(&server, &mut node).await, "the Engine.IO handshake");
    server.serve(&mut node).await;
    drop((silent, upgraded, opened));
}

#[tokio::test]
async fn a_link_that_does_not_open_as_engine_io_is_named_and_tried_again() {
    let (server, mut node) = listening(hasty()).await;
    let text = |text: &'static str| Message::text(text);
    for frames in [
        vec![text("")],
        vec![text("40")],
        vec![text("0")],
        vec![text("0{}")],
        vec![text(r#"0{"sid":"a","pingInterval":-1,"pingTimeout":1}"#)],
        vec![text(r#"0{"sid":"a","pingInterval":1e300,"pingTimeout":1}"#)],
        vec![text(OPEN), text(OPEN)],
        vec![text(OPEN), text("")],
        vec![text(OPEN), text("41")],
        vec![text(OPEN), text("44\"no\"")],
        vec![text(OPEN), text("40/other,")],
        vec![text(OPEN), text(r#"42["ws-peer","a"]"#)],
        vec![Message::binary(&b"0"[..])],
        vec![text(OPEN), Message::binary(&b"\x040"[..])],
    ] {
        let mut link = server.upgraded().await;
        for frame in frames {
            link.try_send(frame).await;
        }
        let error = link_error(&server, &mut node).await;
        assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    }
    let mut link = server.upgraded().await;
    link.text("1").await;
    let error = link_error(&server, &mut node).await;
    assert!(
        matches!(error, LinkError::Protocol(ProtocolError::Start { .. })),
        "{error}"
    );
    server.serve(&mut node).await;
}

/// The number of pongs that were queued used to be bounded by the connect timeout only.
#[tokio::test]
async fn pings_before_the_open_packet_are_bounded() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.upgraded().await;
    within("the client to hang up", async {
        while link.feed(Message::ping(&b"are you there"[..])).await {}
    })
    .await;
    let error = link_error(&server, &mut node).await;
    assert!(matches!(error, LinkError::Flooded), "{error}");
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_few_control_frames_before_the_open_packet_do_no_harm() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.upgraded().await;
    for _ in 0..3 {
        link.try_send(Message::ping(&b"a"[..])).await;
        link.try_send(Message::pong(&b"b"[..])).await;
    }
    link.text(OPEN).await;
    link.text("40").await;
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_server_that_writes_one_byte_at_a_time_is_understood() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = Link::over(Dripping(server.tcp().await)).await;
    link.text(OPEN).await;
    link.text("40").await;
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}
