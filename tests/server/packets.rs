//! Socket.IO packets that are legal but that no websocket-star peer sends on purpose. They must not harm anybody.

use futures::SinkExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::Refused;
use serde_json::{Value, json};
use tokio_websockets::{CloseCode, Message};

use crate::client::{Client, Eio, dial, header, offer, server, soon, stream_event};

const BOTH: [Eio; 2] = [Eio::V3, Eio::V4];

/// Checks that the link is alive: a request is answered, and nothing else arrives before the answer.
async fn lives(client: &mut Client) {
    assert_eq!(client.request(json!(["ss-leave", ""])).await, json!([]));
}

async fn binary(client: &mut Client, frame: Vec<u8>) {
    let message = Message::binary(frame);
    soon("send", client.socket.send(message))
        .await
        .expect("sent");
}

#[tokio::test]
async fn to_ask_for_another_namespace_is_refused_as_npm_does_and_the_link_lives() {
    let server = server().await;
    for eio in BOTH {
        let refusal = |name| match eio {
            Eio::V3 => format!("44{name},\"Invalid namespace\""),
            Eio::V4 => format!("44{name},{{\"message\":\"Invalid namespace\"}}"),
        };
        let mut client = Client::joined_as(&server, eio).await;
        for (text, name) in [
            ("40/admin,", "/admin"),
            ("40/admin", "/admin"),
            ("40/admin?token=a,", "/admin"),
            ("40/admin?token=a", "/admin"),
            ("40/admin,{\"token\":\"a\"}", "/admin"),
            ("40/a/b?c?d=/,{}", "/a/b"),
            ("40//,", "//"),
            ("40/é\"\\,", "/é\"\\"),
        ] {
            client.send(text).await;
            assert_eq!(client.text().await, refusal(name), "{text}");
        }
        // The name of an unknown namespace is not repeated if it is very long.
        client.send(format!("40/{},", "x".repeat(1000))).await;
        lives(&mut client).await;
        assert!(server.snapshot().peers.contains(&client.address));
    }
}

#[tokio::test]
async fn another_namespace_may_be_asked_for_before_ours() {
    let server = server().await;
    let mut client = Client::upgrade(&server, Eio::V4).await;
    client.text().await;
    client.send("40/admin,{}").await;
    let refusal = "44/admin,{\"message\":\"Invalid namespace\"}";
    assert_eq!(client.text().await, refusal);
    client.send("42/admin,[\"a\"]").await;
    client.send("40").await;
    assert!(client.text().await.starts_with("40{\"sid\":"));
    client.join(&Keypair::generate_ed25519()).await;
}

#[tokio::test]
async fn what_is_not_for_us_is_passed_over_with_its_attachments() {
    let server = server().await;
    for eio in BOTH {
        let mut client = Client::joined_as(&server, eio).await;
        let mut listener = Client::joined(&server).await;
        dial(&mut client, &mut listener, "d").await;
        for (text, attachments) in [
            ("41/admin,", 0),
            ("41/admin", 0),
            ("42/admin,7[\"ss-leave\",\"a\"]", 0),
            ("43/admin,0[]", 0),
            ("44/admin,\"no\"", 0),
            ("44\"no\"", 0),
            ("451-/admin,[\"a\",{\"_placeholder\":true,\"num\":0}]", 1),
            ("452-/admin?a=b,7[\"a\",{},{}]", 2),
            ("450-7[\"ss-leave\",\"a\"]", 0),
            ("452-7[\"ss-leave\",{},{}]", 2),
            ("452-[\"socket.io-pull-stream.queue.d.dialer\",{},{}]", 2),
            ("4516-[\"a\"]", 16),
            ("460-0[]", 0),
            ("461-0[{\"_placeholder\":true,\"num\":0}]", 1),
            ("463-12345[]", 3),
        ] {
            client.send(text).await;
            for _ in 0..attachments {
                // A heartbeat may come in between.
                client.send("3").await;
                binary(&mut client, b"\x04abc".to_vec()).await;
            }
            lives(&mut client).await;
        }
        client.item("d.dialer", b"an item").await;
        listener.expect_item("d.dialer", b"an item").await;
        assert_eq!(
            server.snapshot().relayed_items,
            u64::from(eio == Eio::V4) + 1
        );
    }
}

#[tokio::test]
async fn attachments_that_are_too_many_or_missing_cost_the_link() {
    let server = server().await;
    let mut bystander = Client::joined(&server).await;
    for (texts, reason) in [
        (
            &["4517-[\"a\"]"][..],
            "a packet with 17 attachments; at most 16 are allowed",
        ),
        (
            &["4699999999999-0[]"],
            "a packet with 99999999999 attachments; at most 16 are allowed",
        ),
        (
            &["452-[\"a\"]", "420[\"ss-leave\",\"a\"]"],
            "a binary event without its binary message",
        ),
        (
            &["451-/admin,[\"a\"]", "40/admin,"],
            "a binary event without its binary message",
        ),
        (
            &[
                "461-0[]",
                "451-[\"socket.io-pull-stream.queue.d.dialer\",{\"_placeholder\":true,\"num\":0}]",
            ],
            "a binary event without its binary message",
        ),
        (
            &["b4aGVsbG8="],
            "a binary message without the event it belongs to",
        ),
        (
            &["461-0[]", "b4%"],
            "a binary message that came as text but is not base64",
        ),
        (
            &["461-0[]", "b2cHJvYmU="],
            "a binary message that does not begin with 0x04",
        ),
    ] {
        let mut client = Client::connect(&server).await;
        for text in texts {
            client.send(*text).await;
        }
        let reason = Some((CloseCode::PROTOCOL_ERROR, reason.to_owned()));
        assert_eq!(client.closed().await, reason, "{texts:?}");
    }
    let violations = server.snapshot().refusals.get(Refused::ProtocolViolation);
    assert_eq!(violations, 8);
    lives(&mut bystander).await;
}

#[tokio::test]
async fn binary_that_is_written_as_text_is_binary() {
    let server = server().await;
    for (from, to) in [(Eio::V3, Eio::V4), (Eio::V4, Eio::V3)] {
        let mut dialer = Client::joined_as(&server, from).await;
        let mut listener = Client::joined_as(&server, to).await;
        dial(&mut dialer, &mut listener, "d").await;
        let kind = if from == Eio::V3 { "b4" } else { "b" };
        for (base64, data) in [
            ("aGVsbG8=", &b"hello"[..]),
            ("aGVsbG8", b"hello"),
            ("BAA=", b"\x04\x00"),
            ("", b""),
        ] {
            dialer.send(header("d.dialer")).await;
            dialer.send(format!("{kind}{base64}")).await;
            listener.expect_item("d.dialer", data).await;
        }
    }
    assert_eq!(server.snapshot().relayed_bytes, 2 * 12);
}

#[tokio::test]
async fn a_peer_that_disconnects_leaves_properly_and_keeps_its_link() {
    let server = server().await;
    for eio in BOTH {
        let mut leaver = Client::joined_as(&server, eio).await;
        let mut other = Client::joined(&server).await;
        dial(&mut leaver, &mut other, "d").await;
        dial(&mut other, &mut leaver, "e").await;
        leaver.item("d.dialer", b"the last words").await;
        leaver.send("41").await;
        other.expect_item("d.dialer", b"the last words").await;
        let mut ends = Vec::new();
        for _ in 0..4 {
            ends.push(other.text().await);
        }
        ends.sort();
        let streams = ["d.dialer", "d.listener", "e.dialer", "e.listener"];
        assert_eq!(ends, streams.map(|stream| stream_event("true", stream)));
        let snapshot = server.snapshot();
        assert_eq!(snapshot.peers, [other.address.clone()]);
        assert_eq!((snapshot.dials, snapshot.links), (0, 2));
        let event = json!(["ss-dial", other.address, leaver.address, "f"]);
        assert_eq!(other.request(event).await, json!(["Peer not found"]));

        // Everything else that it sends is ignored.
        let before = leaver.next_ack;
        leaver.ask(json!(["ss-leave", ""])).await;
        leaver.item("d.dialer", b"more").await;
        leaver.send("430[]").await;
        leaver.send("41").await;
        leaver.send("452-[\"a\"]").await;
        binary(&mut leaver, b"\x04".to_vec()).await;
        binary(&mut leaver, b"\x04".to_vec()).await;

        // It may connect again, and gets nothing that it has missed.
        leaver.send("40").await;
        let connected = leaver.text().await;
        assert_eq!(connected.starts_with("40{\"sid\":"), eio == Eio::V4);
        assert_eq!(connected == "40", eio == Eio::V3);
        assert_eq!(leaver.next_ack, before + 1);
        leaver.join(&Keypair::generate_ed25519()).await;
        dial(&mut leaver, &mut other, "d").await;
        leaver.item("d.dialer", b"again").await;
        other.expect_item("d.dialer", b"again").await;
        drop((leaver, other));
        soon("both to go", async {
            while server.snapshot().links > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn dials_that_wait_when_a_peer_disconnects_are_refused() {
    let server = server().await;
    let mut leaver = Client::joined(&server).await;
    let mut other = Client::joined(&server).await;
    let to_it = offer(&mut other, &mut leaver, "to").await;
    offer(&mut leaver, &mut other, "from").await;
    let answer = format!("43{}[]", other.next_ack);
    leaver.send("41").await;
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(other.text().await);
    }
    let refused = format!("43{to_it}[\"Peer left before it answered the dial\"]");
    assert!(told.contains(&refused), "{told:?}");
    for stream in ["to.dialer", "to.listener", "from.dialer", "from.listener"] {
        assert!(told.contains(&stream_event("true", stream)), "{told:?}");
    }
    // A late answer changes nothing.
    other.send(answer).await;
    lives(&mut other).await;
    assert_eq!(server.snapshot().dials, 0);
    leaver.send("40").await;
    assert_eq!(leaver.text().await, "40");
    let event = json!(["ss-dial", leaver.address, other.address, "f"]);
    let refused: Value = leaver.request(event).await;
    assert_eq!(refused, json!(["Not authorized for this address"]));
}
