//! Frames that are wrong in themselves, whatever the state of the link.

use libp2p_websocket_star::error::{LinkError, ProtocolError};
use serde_json::json;
use tokio_websockets::{CloseCode, Message};

use super::{linked, listening, loss, lost};
use crate::support::{hasty, scripted::header};

const HEADER: &str =
    r#"451-["socket.io-pull-stream.queue.a.dialer",{"_placeholder":true,"num":0}]"#;

#[tokio::test]
async fn a_frame_that_makes_no_sense_costs_the_link_and_is_named() {
    use ProtocolError as P;
    type Is = fn(&ProtocolError) -> bool;
    let text = |text: &'static str| Message::text(text);
    let binary = |data: &'static [u8]| Message::binary(data);
    let (server, mut node) = listening(hasty()).await;
    let engine_io: Is = |error| matches!(error, P::EngineIo(_));
    let socket_io: Is = |error| matches!(error, P::SocketIo(_));
    let cases: Vec<(Vec<Message>, Is)> = vec![
        (vec![text("")], engine_io),
        (vec![text("7")], engine_io),
        (vec![text("é")], engine_io),
        (vec![text("hello")], engine_io),
        (vec![text("0{}")], |error| matches!(error, P::Open(_))),
        (vec![text(crate::support::scripted::OPEN)], |error| {
            matches!(error, P::Open(_))
        }),
        (vec![text("4")], socket_io),
        (vec![text("49")], socket_io),
        (vec![text("42")], socket_io),
        (vec![text("42{}")], socket_io),
        (vec![text("42-1[]")], socket_io),
        (vec![text("4299999999999999999999[]")], socket_io),
        (vec![text("4318446744073709551616[]")], socket_io),
        (vec![text("43[]")], socket_io),
        (vec![text("44\"go away\"")], socket_io),
        (vec![text("461-[]")], socket_io),
        (vec![text("42/other,")], socket_io),
        (vec![text("4517-[\"a\"]")], |error| {
            *error == P::Attachments(17)
        }),
        (vec![text("4617-0[]")], |error| *error == P::Attachments(17)),
        (vec![text("b4aGVsbG8=")], |error| {
            *error == P::UnannouncedBinary
        }),
        (vec![text(HEADER), text("b4%")], |error| *error == P::Base64),
        (
            vec![text("452-[\"a\"]"), binary(b"\x04"), text("40")],
            |error| *error == P::MissingBinary,
        ),
        (vec![binary(b"\x04data")], |error| {
            *error == P::UnannouncedBinary
        }),
        (vec![binary(b"")], |error| *error == P::UnannouncedBinary),
        (vec![text(HEADER), text(HEADER)], |error| {
            *error == P::MissingBinary
        }),
        (vec![text(HEADER), text("42[\"ws-peer\",\"a\"]")], |error| {
            *error == P::MissingBinary
        }),
        (vec![text(HEADER), text("430[]")], |error| {
            *error == P::MissingBinary
        }),
        (vec![text(HEADER), binary(b"")], |error| {
            *error == P::BinaryPrefix
        }),
        (vec![text(HEADER), binary(b"data")], |error| {
            *error == P::BinaryPrefix
        }),
        (
            vec![text(HEADER), binary(b"\x04a"), binary(b"\x04a")],
            |error| *error == P::UnannouncedBinary,
        ),
    ];
    for (frames, is) in cases {
        let error = lost(&server, &mut node, async |link| {
            for frame in &frames {
                link.try_send(frame.clone()).await;
            }
        });
        match error.await {
            LinkError::Protocol(error) if is(&error) => {}
            other => panic!("{frames:?}: {other}"),
        }
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_frame_that_violates_websocket_costs_the_link_and_is_named() {
    let (server, mut node) = listening(hasty()).await;
    for (bytes, story) in [
        (&b"\xc1\x00"[..], "reserved bits"),
        (b"\x83\x00", "unknown type 3"),
        (b"\x8b\x00", "unknown type 11"),
        (b"\x80\x00", "continuation"),
        (b"\x81\x80\x00\x00\x00\x00", "masked"),
        (b"\x81\x02\xff\xfe", "UTF-8"),
        (b"\x09\x00", "fragmented"),
        (b"\x89\x7e\x00\x7e", "too long"),
        (b"\x81\x7e\x00\x01a", "length"),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "length"),
        (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "length"),
        (
            b"\x01\x014\x81\x014",
            "begins before the previous one has ended",
        ),
        (b"\x88\x01a", "close code"),
        (b"\x88\x02\x03\xed", "close code"),
        (b"\x88\x02\x00\x00", "close code"),
        (b"\x88\x02\xff\xff", "close code"),
        (b"\x88\x04\x03\xe8\xff\xfe", "UTF-8"),
    ] {
        let error = lost(&server, &mut node, async |link| link.raw(bytes).await).await;
        assert!(
            matches!(error, LinkError::WebSocket(_)),
            "{bytes:?}: {error}"
        );
        assert!(error.to_string().contains(story), "{bytes:?}: {error}");
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_closed_link_tells_the_servers_reason() {
    let (server, mut node) = listening(hasty()).await;
    let close = |code, reason| Message::close(code, reason);
    let away = CloseCode::try_from(4999).expect("a private code");
    for (frame, story) in [
        (close(None, ""), None),
        (close(Some(CloseCode::NORMAL_CLOSURE), "bye"), Some("bye")),
        (
            close(Some(CloseCode::GOING_AWAY), ""),
            Some("close code 1001"),
        ),
        (close(Some(away), ""), Some("close code 4999")),
        (Message::text("1"), None),
        (Message::text("41"), None),
    ] {
        let error = lost(&server, &mut node, async |link| {
            link.try_send(frame.clone()).await;
        });
        match error.await {
            LinkError::Closed(reason) => assert_eq!(reason.as_deref(), story, "{frame:?}"),
            other => panic!("{frame:?}: {other}"),
        }
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_link_that_is_cut_is_lost_wherever_the_cut_is() {
    let (server, mut node) = listening(hasty()).await;
    let item = [
        b"\x81",
        &[u8::try_from(HEADER.len()).expect("short")],
        HEADER.as_bytes(),
    ]
    .concat();
    for bytes in [
        &b""[..],
        b"\x81",
        b"\x81\x7e\x00",
        b"\x81\x0542[",
        b"\x01\x014",
        &item,
        &[
            &item,
            &b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00\x04part"[..],
        ]
        .concat(),
    ] {
        let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
        link.raw(bytes).await;
        drop(link);
        let error = loss(&server, &mut node).await;
        let is_cut = matches!(error, LinkError::Closed(None) | LinkError::Io(_));
        assert!(is_cut, "{bytes:?}: {error}");
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn events_that_make_no_sense_are_passed_over() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let deep = format!("42[\"ws-peer\",{}]", "[".repeat(100_000));
    let many = format!("42[\"ws-peer\"{}]", ",1".repeat(100_000));
    let long = format!("42[{}]", json!("x".repeat(1_000_000)));
    for text in [
        "6",
        "5",
        "3",
        "3probe",
        "40",
        "42[]",
        "42[",
        "42[1]",
        "42[null]",
        "42[\"a\\u0000b\"]",
        "42[\"ws-peer\"]",
        "42[\"ws-peer\",7]",
        "42[\"ws-peer\",\"",
        "42[\"ws-peer\",\"\\ud800\"]",
        "42[\"ss-incomming\"]",
        "42[\"ss-incomming\",\"a\",\"b\"]",
        "42[\"ss-join\",\"a\",\"b\"]",
        "421[\"ss-leave\",\"a\"]",
        "42[\"disconnect\"]",
        "42[\"socket.io-pull-stream\"]",
        "42[\"socket.io-pull-stream.\"]",
        "42[\"socket.io-pull-stream.accept\"]",
        "42[\"socket.io-pull-stream.accept.\"]",
        "42[\"socket.io-pull-stream.accept..dialer\"]",
        "42[\"socket.io-pull-stream.accept.a\"]",
        "42[\"socket.io-pull-stream.other.a.dialer\"]",
        "42[\"socket.io-pull-stream.queue.a.dialer\",null]",
        "42[\"socket.io-pull-stream.queue.a.dialer\"]",
        "42[\"socket.io-pull-stream.error.a.dialer\"]",
        "42[\"socket.io-pull-stream.error.a.listener\",{}]",
        "4312345[]",
        "4318446744073709551615[null]",
        "430[]",
        "430[null,null,[]]",
        "431[\"again\"]",
        &deep,
        &many,
        &long,
    ] {
        link.text(text).await;
    }
    for name in ["ws-peer", "socket.io-pull-stream.queue.a.dialer", "x"] {
        link.text(&format!(
            "451-[\"{name}\",{{\"_placeholder\":true,\"num\":1}}]"
        ))
        .await;
        link.binary(b"\x04data").await;
    }
    for (text, attachments) in [
        ("40/admin,", 0),
        ("42/admin,7[\"ws-peer\",\"a\"]", 0),
        ("44/admin,\"Invalid namespace\"", 0),
        ("451-/admin,[\"a\"]", 1),
        ("453-[\"a\"]", 3),
        ("462-0[]", 2),
    ] {
        link.text(text).await;
        for _ in 0..attachments {
            link.binary(b"\x04data").await;
        }
    }
    link.text(&header("gone.listener")).await;
    link.text("b4aGVsbG8=").await;
    link.text(&header("gone.listener")).await;
    link.text("2between").await;
    link.binary(b"\x04data").await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn an_incoming_dial_that_makes_no_sense_is_refused() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let from = server.somebody();
    let long = "x".repeat(129);
    for arguments in [
        json!([]),
        json!([1, 2]),
        json!(["id"]),
        json!(["", from]),
        json!([long, from]),
        json!(["a\nb", from]),
        json!(["a\"b", from]),
        json!(["id", ""]),
        json!(["id", "nonsense"]),
        json!(["id", server.addr()]),
        json!(["id", "/ip4/1.2.3.4/tcp/1"]),
        json!(["id", format!("/dns4/{}/tcp/1/ws", "x".repeat(600))]),
    ] {
        let mut event = vec![json!("ss-incomming")];
        event.extend(arguments.as_array().expect("an array").clone());
        let id = link.ask(event.into()).await;
        let answer = link.answered(id).await;
        assert!(answer[0].is_string(), "{arguments}: {answer}");
    }
    link.check(&mut node).await;
}
