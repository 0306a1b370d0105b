//! The rendezvous over real sockets, driven by a raw WebSocket client.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Refused, Server};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_websockets::{ClientBuilder, CloseCode, Message};

use crate::client::{
    Client, address, config, dial, dialled, header, http, offer, server, soon, stream_event,
};

#[tokio::test]
async fn peers_that_join_are_listed_and_announced() {
    let server = server().await;
    let mut first = Client::connect(&server).await;
    assert_eq!(first.join(&Keypair::generate_ed25519()).await, json!([]));
    let mut second = Client::connect(&server).await;
    let others = second.join(&Keypair::generate_ed25519()).await;
    assert_eq!(others, json!([first.address]));
    assert_eq!(first.announced().await, second.address);

    let mut peers = server.snapshot().peers;
    peers.sort();
    let mut expected = [first.address, second.address];
    expected.sort();
    assert_eq!(peers, expected);
}

#[tokio::test]
async fn announcements_are_repeated_every_interval() {
    let config = config().with_announce_interval(Duration::from_millis(50));
    let server = Server::bind(config).await.expect("a free port");
    let mut first = Client::joined(&server).await;
    let second = Client::joined(&server).await;
    for _ in 0..4 {
        assert_eq!(first.announced().await, second.address);
    }
}

#[tokio::test]
async fn a_join_with_a_wrong_signature_is_refused_and_its_nonce_is_used_up() {
    let server = server().await;
    let key = Keypair::generate_ed25519();
    let mut client = Client::connect(&server).await;
    let public = hex::encode(key.public().encode_protobuf());
    let join = |data: &str| json!(["ss-join", address(&key), data]);
    let answer = client.request(join(&public)).await;
    let nonce = answer[1].as_str().expect("a nonce").to_owned();
    let refused = client.request(join(&"00".repeat(64))).await;
    assert_eq!(refused, json!(["Signature Invalid"]));
    let signature = hex::encode(key.sign(nonce.as_bytes()).expect("signs"));
    let refused = client.request(join(&signature)).await;
    assert_eq!(refused, json!(["Crypto error"]));
    assert_eq!(client.join(&key).await, json!([]));
}

#[tokio::test]
async fn a_dial_is_relayed_both_ways_and_each_direction_ends_alone() {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let big = vec![7; 999_998];
    for data in [&b"hello"[..], b"", &big] {
        dialer.item("d.dialer", data).await;
        listener.expect_item("d.dialer", data).await;
    }
    let end = stream_event("true", "d.dialer");
    dialer.send(end.clone()).await;
    assert_eq!(listener.text().await, end);

    let text = "42[\"socket.io-pull-stream.queue.d.listener\",\"text, too\"]";
    listener.send(text).await;
    assert_eq!(dialer.text().await, text);
    listener.item("d.listener", &big).await;
    dialer.expect_item("d.listener", &big).await;
    let end = stream_event("true", "d.listener");
    listener.send(end.clone()).await;
    assert_eq!(dialer.text().await, end);

    let snapshot = soon("the dial is forgotten", async {
        loop {
            let snapshot = server.snapshot();
            if snapshot.dials == 0 {
                return snapshot;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(snapshot.relayed_items, 5);
    assert_eq!(snapshot.relayed_bytes, 5 + 9 + 2 * 999_998);
    // The dial id may be used again.
    dial(&mut listener, &mut dialer, "d").await;
}

#[tokio::test]
async fn a_stream_that_is_cut_never_looks_complete() {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    dialer.item("d.dialer", b"begun").await;
    listener.expect_item("d.dialer", b"begun").await;
    drop(dialer);
    let reason = "\"the other peer's link to the rendezvous was lost\"";
    for stream in ["d.dialer", "d.listener"] {
        assert_eq!(listener.text().await, stream_event(reason, stream));
    }
}

#[tokio::test]
async fn a_receiver_may_ask_to_stop() {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let stop = stream_event("\"enough\"", "d.dialer");
    listener.send(stop.clone()).await;
    assert_eq!(dialer.text().await, stop);
    // Data that still arrives is dropped, and the other direction goes on.
    dialer.item("d.dialer", b"late").await;
    let still = stream_event("true", "d.dialer");
    dialer.send(still).await;
    let end = stream_event("true", "d.listener");
    listener.send(end.clone()).await;
    assert_eq!(dialer.text().await, end);
    assert_eq!(
        listener.request(json!(["ss-leave", ""])).await,
        json!([]),
        "nothing came in between"
    );
}

#[tokio::test]
async fn a_dial_fails_when_its_listener_stays_silent() {
    let limits = Limits::default().with_dial_timeout(Duration::from_millis(100));
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    let ack = offer(&mut dialer, &mut listener, "d").await;
    let refused = json!(["Peer did not answer the dial in time"]);
    assert_eq!(dialer.answer(ack).await, refused);
    let cut = stream_event("\"the dial was not answered in time\"", "d.dialer");
    assert_eq!(listener.text().await, cut);
}

#[tokio::test]
async fn requests_that_cannot_be_met_are_answered_with_a_reason() {
    let server = server().await;
    let mut client = Client::joined(&server).await;
    let other = address(&Keypair::generate_ed25519());
    let own = client.address.clone();
    for (event, reason) in [
        (json!(["ss-dial", own, other, "d"]), "Peer not found"),
        (
            json!(["ss-dial", other, own, "d"]),
            "Not authorized for this address",
        ),
        (
            json!(["ss-join", "/ip4/1.2.3.4", "00"]),
            "Invalid multiaddr",
        ),
        (
            json!(["ss-join", other, ""]),
            "Crypto Challenge required but no Id provided",
        ),
        (json!(["ss-join", other, "00"]), "Crypto error"),
        (
            json!(["ss-join", other]),
            "Malformed request: malformed arguments of ss-join: an argument is not a string",
        ),
        (json!(["no such event"]), "Unknown request"),
    ] {
        assert_eq!(client.request(event).await, json!([reason]));
    }
}

#[tokio::test]
async fn hostile_frames_close_their_own_link_with_a_reason() {
    let server = server().await;
    let mut bystander = Client::joined(&server).await;
    let violation = |reason: &str| Some((CloseCode::PROTOCOL_ERROR, reason.to_owned()));
    let due = header("d.dialer");
    let cases = [
        (
            vec![Message::binary(&b"\x04a"[..])],
            violation("a binary message without the event it belongs to"),
        ),
        (
            vec![Message::text(due.clone()), Message::text("42[\"a\"]")],
            violation("a binary event without its binary message"),
        ),
        (
            vec![Message::text(due.clone()), Message::text(due.clone())],
            violation("a binary event without its binary message"),
        ),
        (
            vec![Message::text(due), Message::binary(&b"a"[..])],
            violation("a binary message that does not begin with 0x04"),
        ),
        (
            vec![Message::text("4517-[\"a\"]")],
            violation("a packet with 17 attachments; at most 16 are allowed"),
        ),
        (
            vec![Message::text("x")],
            violation("unknown Engine.IO packet \"x\""),
        ),
        (
            vec![Message::text("0".repeat(1_000_000))],
            Some((
                CloseCode::MESSAGE_TOO_BIG,
                "a message is too long: 1000000 bytes or more".to_owned(),
            )),
        ),
    ];
    for (messages, reason) in cases {
        let mut client = Client::joined(&server).await;
        for message in messages {
            // The link may already be closed when the last message is sent.
            let _ = client.socket.send(message).await;
        }
        assert_eq!(client.closed().await, reason);
    }
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::ProtocolViolation), 6);
    assert_eq!(refusals.get(Refused::MessageTooLong), 1);
    let refused = bystander.request(json!(["no such event"])).await;
    assert_eq!(refused, json!(["Unknown request"]));
}

#[tokio::test]
async fn fragments_over_the_limit_close_the_link() {
    let server = server().await;
    let mut client = Client::joined(&server).await;
    let config = tokio_websockets::Config::default().frame_size(600_000);
    let url = format!(
        "ws://{}/socket.io/?EIO=3&transport=websocket",
        server.local_addr()
    );
    let builder = ClientBuilder::new()
        .uri(&url)
        .expect("a URI")
        .config(config);
    let (socket, _) = builder.connect().await.expect("upgrade");
    client.socket = socket;
    let _ = client
        .socket
        .send(Message::text("0".repeat(1_200_000)))
        .await;
    let (code, _) = client.closed().await.expect("a reason");
    assert_eq!(code, CloseCode::MESSAGE_TOO_BIG);
}

#[tokio::test]
async fn nobody_sends_on_a_stream_of_others() {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let mut intruder = Client::joined(&server).await;
    for stream in ["d.dialer", "d.listener"] {
        intruder.item(stream, b"mixed in").await;
        intruder.send(stream_event("true", stream)).await;
    }
    let dial = json!(["ss-dial", intruder.address, listener.address, "d"]);
    let refused = intruder.request(dial).await;
    assert_eq!(refused, json!(["Dial id is in use"]));
    // A peer cannot send on the stream that it receives, either.
    listener.item("d.dialer", b"mixed in").await;
    listener.item("d.listener", b"mine").await;
    dialer.expect_item("d.listener", b"mine").await;
    dialer.item("d.dialer", b"mine").await;
    listener.expect_item("d.dialer", b"mine").await;
}

#[tokio::test]
async fn pings_are_answered_and_silence_ends_the_link() {
    let config = config()
        .with_ping_interval(Duration::from_millis(200))
        .with_ping_timeout(Duration::from_millis(200));
    let server = Server::bind(config).await.expect("a free port");
    let mut client = Client::joined(&server).await;
    for _ in 0..3 {
        client.send("2").await;
        assert_eq!(client.text().await, "3");
    }
    let reason = (CloseCode::POLICY_VIOLATION, "no sign of life".to_owned());
    assert_eq!(client.closed().await, Some(reason));
    assert_eq!(server.snapshot().peers, Vec::<String>::new());
}

#[tokio::test]
async fn a_link_that_never_joins_is_closed() {
    let limits = Limits::default().with_join_timeout(Duration::from_millis(100));
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let mut client = Client::connect(&server).await;
    let reason = (
        CloseCode::POLICY_VIOLATION,
        "did not join in time".to_owned(),
    );
    assert_eq!(client.closed().await, Some(reason));
}

#[tokio::test]
async fn a_reader_that_stalls_holds_its_sender_back_and_is_closed_in_the_end() {
    let limits = Limits::default()
        .with_queue_limit(100_000)
        .with_stall_timeout(Duration::from_secs(1));
    let config = config()
        .with_limits(limits)
        .with_ping_timeout(Duration::from_millis(400));
    let server = Server::bind(config).await.expect("a free port");
    let (dialer, listener) = dialled(&server).await;
    let bytes = Bytes::from(vec![4; 64 * 1024]);
    let (mut sender, mut receiver) = dialer.socket.split();
    let sending = tokio::spawn(async move {
        loop {
            let header = Message::text(header("d.dialer"));
            let item = Message::binary(bytes.clone());
            if sender.send(header).await.is_err() || sender.send(item).await.is_err() {
                return;
            }
        }
    });
    // Its pings are stuck behind its items, but it still gets pongs, until it is told that the stream is cut.
    let (mut pongs, mut most_queued) = (0, 0);
    loop {
        let message = soon("the end", receiver.next()).await;
        let message = message.expect("open").expect("open");
        let text = message.as_text().expect("text");
        most_queued = most_queued.max(server.snapshot().queued_bytes);
        if text.contains("socket.io-pull-stream.error") {
            break;
        }
        pongs += u32::from(text == "3");
    }
    assert!(pongs > 0);
    // The queue has at most one item that arrived when it was empty, and one in its dial's own queue.
    assert!(most_queued <= 136_000, "{most_queued}");
    assert_eq!(server.snapshot().links, 1);
    sending.abort();
    drop(listener);
}

#[tokio::test]
async fn requests_are_not_answered_beyond_what_the_asker_reads() {
    let limits = Limits::default()
        .with_stall_timeout(Duration::from_millis(500))
        .with_refusal_rate(u32::MAX, u32::MAX);
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let mut client = Client::joined(&server).await;
    let mut most_queued = 0;
    let event = "421[\"no such event\"]";
    // Send until the stall timeout ends the link.
    while client.socket.send(Message::text(event)).await.is_ok() {
        most_queued = most_queued.max(server.snapshot().queued_bytes);
    }
    assert!(most_queued < 2 * 1024 * 1024, "{most_queued}");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_dials_with_a_reason() {
    let server = server().await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let pending = offer(&mut dialer, &mut listener, "e").await;
    let shutdown = tokio::spawn(server.shutdown());
    let mut texts = Vec::new();
    let mut code = None;
    while let Some(message) = dialer.message().await {
        match message.as_close() {
            Some((c, _)) => code = Some(c),
            None => texts.push(message.as_text().expect("text").to_owned()),
        }
    }
    let reason = "\"the rendezvous is shutting down\"";
    for stream in ["d.dialer", "d.listener", "e.dialer", "e.listener"] {
        assert!(texts.contains(&stream_event(reason, stream)), "{texts:?}");
    }
    let refused = format!("43{pending}[\"Rendezvous is shutting down\"]");
    assert!(texts.contains(&refused), "{texts:?}");
    assert_eq!(code, Some(CloseCode::GOING_AWAY));
    assert!(listener.closed().await.is_some());
    soon("shut down", shutdown).await.expect("no panic");
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_links() {
    let server = server().await;
    let addr = server.local_addr();
    let mut client = Client::joined(&server).await;
    drop(server);
    assert_eq!(client.closed().await, None);
    soon("the port is free", async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_link_too_many_is_refused() {
    let limits = Limits::default().with_max_links(1);
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let first = Client::joined(&server).await;
    let head = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\n\
                Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    let answer = http(server.local_addr(), head).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::TooManyLinks), 1);
    drop(first);
}

#[tokio::test]
async fn a_request_that_never_comes_is_not_waited_for() {
    let limits = Limits::default().with_handshake_timeout(Duration::from_millis(100));
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    for begun in ["", "GET /"] {
        let connected = TcpStream::connect(server.local_addr()).await;
        let mut stream = connected.expect("connect");
        stream.write_all(begun.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    }
}
