//! What is wrong before the link is open.

use std::time::Duration;

use libp2p_websocket_star::error::{LinkError, ProtocolError};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_websockets::Message;

use super::{link_error, listening};
use crate::support::{
    hasty,
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

/// tokio-websockets 0.13.3, which this crate once used, decodes the header into 20 bytes and panics if
/// there are more.
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

/// It used to be gathered for the whole connect timeout.
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

/// Nothing but the connect timeout used to bound the pongs that were queued meanwhile.
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
