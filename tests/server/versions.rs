//! Engine.IO 4, and streams between it and Engine.IO 3.

use std::time::Duration;

use futures::SinkExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::Server;
use serde_json::{Value, json};
use tokio_websockets::{CloseCode, Message};

use crate::client::{Client, Eio, config, dial, header, http, offer, server, soon, stream_event};

#[tokio::test]
async fn a_link_of_version_4_is_opened_when_its_client_asks_for_the_namespace() {
    let server = server().await;
    for ask in ["40", "40{\"token\":\"a\"}", "40/,{}"] {
        let mut client = Client::upgrade(&server, Eio::V4).await;
        let open = client.text().await;
        let open: Value = serde_json::from_str(&open[1..]).expect("JSON");
        assert_eq!(open["upgrades"], json!([]));
        assert_eq!(open["pingInterval"], 25_000);
        assert_eq!(open["pingTimeout"], 20_000);
        // This is one byte less than on a link of version 3, because an item grows by one byte on its way there.
        assert_eq!(open["maxPayload"], 999_998);
        assert!(open["sid"].is_string());
        client.send(ask).await;
        let connected = client.text().await;
        let connected: Value = serde_json::from_str(&connected[2..]).expect("JSON");
        assert!(connected["sid"].is_string());
        assert_eq!(client.join(&Keypair::generate_ed25519()).await, json!([]));
        client.request(json!(["ss-leave", client.address])).await;
    }
}

#[tokio::test]
async fn a_link_of_version_4_that_does_not_keep_to_it_is_closed_with_a_reason() {
    let server = server().await;
    let mut bystander = Client::joined(&server).await;
    let early = |what: &str| {
        format!("expected the Socket.IO connect packet at the start of the link, received {what:?}")
    };
    for (texts, reason) in [
        (
            vec!["420[\"ss-leave\",\"a\"]"],
            early("420[\"ss-leave\",\"a\"]"),
        ),
        (vec!["430[]"], early("430[]")),
        (
            vec!["40", "40"],
            "malformed Socket.IO packet: connected already".to_owned(),
        ),
        (vec!["41"], early("41")),
        (vec!["40/admin,", "430[]"], early("430[]")),
    ] {
        let mut client = Client::upgrade(&server, Eio::V4).await;
        for text in texts {
            client.send(text).await;
        }
        assert_eq!(
            client.closed().await,
            Some((CloseCode::PROTOCOL_ERROR, reason))
        );
    }
    let mut client = Client::upgrade(&server, Eio::V4).await;
    client.send(header("d.dialer")).await;
    let (code, _) = client.closed().await.expect("a reason");
    assert_eq!(code, CloseCode::PROTOCOL_ERROR);
    bystander.request(json!(["ss-leave", ""])).await;
}

#[tokio::test]
async fn a_link_of_version_4_gets_pings_and_is_closed_when_it_answers_none() {
    let config = config()
        .with_ping_interval(Duration::from_millis(200))
        .with_ping_timeout(Duration::from_millis(200));
    let server = Server::bind(config).await.expect("a free port");
    let mut client = Client::joined_as(&server, Eio::V4).await;
    for _ in 0..4 {
        assert_eq!(client.text().await, "2");
        client.send("3").await;
    }
    assert_eq!(client.text().await, "2");
    let reason = (CloseCode::POLICY_VIOLATION, "no sign of life".to_owned());
    assert_eq!(client.closed().await, Some(reason));
    assert_eq!(server.snapshot().peers, Vec::<String>::new());
}

#[tokio::test]
async fn a_ping_of_the_client_means_nothing_in_version_4() {
    let server = server().await;
    let mut client = Client::joined_as(&server, Eio::V4).await;
    client.send("2").await;
    assert_eq!(client.request(json!(["ss-leave", ""])).await, json!([]));
}

#[tokio::test]
async fn streams_are_byte_exact_between_all_versions() {
    let server = server().await;
    let sizes = [0, 1, 2, 4096, 65_536, 999_997, 999_998];
    for (from, to) in [
        (Eio::V3, Eio::V4),
        (Eio::V4, Eio::V3),
        (Eio::V4, Eio::V4),
        (Eio::V3, Eio::V3),
    ] {
        let mut dialer = Client::joined_as(&server, from).await;
        let mut listener = Client::joined_as(&server, to).await;
        dial(&mut dialer, &mut listener, "d").await;
        for size in sizes {
            // Test both values of the first byte, one of which is the prefix 4.
            for first in [4, 0] {
                let mut data: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[0]).collect();
                if let Some(byte) = data.first_mut() {
                    *byte = first;
                }
                dialer.item("d.dialer", &data).await;
                listener.expect_item("d.dialer", &data).await;
                listener.item("d.listener", &data).await;
                dialer.expect_item("d.listener", &data).await;
            }
        }
        for (sender, receiver, stream) in [(0, 1, "d.dialer"), (1, 0, "d.listener")] {
            let peers = [&mut dialer, &mut listener];
            let end = stream_event("true", stream);
            peers[sender].send(end.clone()).await;
            assert_eq!(peers[receiver].text().await, end);
        }
    }
}

#[tokio::test]
async fn the_longest_message_of_each_version_is_what_the_server_says() {
    let server = server().await;
    let (mut dialer, mut listener) = (
        Client::joined_as(&server, Eio::V4).await,
        Client::joined(&server).await,
    );
    dial(&mut dialer, &mut listener, "d").await;
    dialer.send(header("d.dialer")).await;
    let _ = dialer.socket.send(Message::binary(vec![0; 999_999])).await;
    let (code, _) = dialer.closed().await.expect("a reason");
    assert_eq!(code, CloseCode::MESSAGE_TOO_BIG);
}

#[tokio::test]
async fn a_dial_is_refused_and_cut_across_versions() {
    let server = server().await;
    let mut dialer = Client::joined_as(&server, Eio::V4).await;
    let mut listener = Client::joined(&server).await;
    let ack = offer(&mut dialer, &mut listener, "d").await;
    let incoming = listener.next_ack;
    listener.send(format!("43{incoming}[\"busy\"]")).await;
    assert_eq!(dialer.answer(ack).await, json!(["busy"]));

    dial(&mut dialer, &mut listener, "e").await;
    drop(listener);
    let reason = "\"the other peer's link to the rendezvous was lost\"";
    for stream in ["e.dialer", "e.listener"] {
        assert_eq!(dialer.text().await, stream_event(reason, stream));
    }
}

#[tokio::test]
async fn what_starts_no_session_gets_the_errors_of_engine_io() {
    let server = server().await;
    let transport = r#"{"code":0,"message":"Transport unknown"}"#;
    let version = r#"{"code":5,"message":"Unsupported protocol version"}"#;
    for (query, body) in [
        ("?EIO=4&transport=polling", transport),
        ("?EIO=3&transport=polling&t=NxYz", transport),
        ("?EIO=4&transport=webtransport", transport),
        ("?EIO=4", transport),
        ("", transport),
        ("?EIO=2&transport=websocket", version),
        ("?EIO=5&transport=websocket", version),
        ("?EIO=%20&transport=websocket", version),
        ("?EIO=%ff&transport=websocket", version),
        (
            "?EIO=4&transport=websocket&sid=x",
            r#"{"code":1,"message":"Session ID unknown"}"#,
        ),
        (
            "?EIO=3&transport=websocket",
            r#"{"code":3,"message":"Bad request"}"#,
        ),
        (
            "?EIO=4&transport=websocket",
            r#"{"code":3,"message":"Bad request"}"#,
        ),
        (
            "?transport=websocket",
            r#"{"code":3,"message":"Bad request"}"#,
        ),
    ] {
        let head = format!("GET /socket.io/{query} HTTP/1.1");
        let answer = soon("an answer", http(server.local_addr(), &head)).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{query}: {answer}");
        assert!(answer.trim_end().ends_with(body), "{query}: {answer}");
    }
    let head = "POST /socket.io/?EIO=3&transport=websocket HTTP/1.1";
    let answer = soon("an answer", http(server.local_addr(), head)).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let body = r#"{"code":2,"message":"Bad handshake method"}"#;
    assert!(answer.trim_end().ends_with(body), "{answer}");
}
