//! Inputs that break the npm rendezvous 0.4.1, with one test each. The answer must be right, and other peers must be
//! served throughout.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Server};
use serde_json::{Value, json};
use tokio_websockets::Message;

use crate::client::{
    Client, address, config, dial, dialled, header, offer, server, soon, stream_event,
};

/// Two peers with a stream between them. They must not notice anything.
struct Others {
    dialer: Client,
    listener: Client,
}

impl Others {
    async fn at(server: &Server) -> Self {
        let mut dialer = Client::joined(server).await;
        let mut listener = Client::joined(server).await;
        dial(&mut dialer, &mut listener, "others").await;
        Self { dialer, listener }
    }

    async fn are_served(&mut self) {
        let Self { dialer, listener } = self;
        for data in [&b"\x04"[..], &[7; 70_000]] {
            dialer.item("others.dialer", data).await;
            listener.expect_item("others.dialer", data).await;
            listener.item("others.listener", data).await;
            dialer.expect_item("others.listener", data).await;
        }
    }
}

fn public(key: &Keypair) -> String {
    hex::encode(key.public().encode_protobuf())
}

/// Gets a nonce for `key`, and returns its signature.
async fn challenged(client: &mut Client, key: &Keypair) -> String {
    let answer = client
        .request(json!(["ss-join", address(key), public(key)]))
        .await;
    let nonce = answer[1].as_str().expect("a nonce");
    hex::encode(key.sign(nonce.as_bytes()).expect("signs"))
}

#[tokio::test]
async fn a_second_join_and_a_disconnect_event_in_one_segment() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let (first, second) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let mut client = Client::connect(&server).await;
    let signature = challenged(&mut client, &first).await;
    let ack = client.next_ack;
    client.next_ack += 1;
    let join = json!(["ss-join", address(&second), public(&second)]);
    // Both are written with one flush, so they are in one segment.
    for text in [format!("42{ack}{join}"), "42[\"disconnect\"]".to_owned()] {
        client.socket.feed(Message::text(text)).await.expect("fed");
    }
    client.socket.flush().await.expect("sent");
    let answer = client.answer(ack).await;
    assert_eq!(answer[1].as_str().map(str::len), Some(72), "a nonce");
    // An event of that name has no special meaning: the link stays open, and the first join can be completed.
    let joined = client
        .request(json!(["ss-join", address(&first), signature]))
        .await;
    assert_eq!(joined[2].as_array().map(Vec::len), Some(2));
    others.are_served().await;
}

#[tokio::test]
async fn a_queue_item_that_claims_a_length() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let (mut dialer, mut listener) = dialled(&server).await;
    let item = "42[\"socket.io-pull-stream.queue.d.dialer\",{\"length\":40000000}]";
    dialer.send(item).await;
    let reason = "\"the sender sent something that is neither bytes nor a string\"";
    let end = stream_event(reason, "d.dialer");
    assert_eq!(listener.text().await, end);
    assert_eq!(dialer.text().await, end);
    assert_eq!(server.snapshot().relayed_bytes, 0);
    // The other direction goes on.
    listener.item("d.listener", b"on").await;
    dialer.expect_item("d.listener", b"on").await;
    others.are_served().await;
}

#[tokio::test]
async fn a_valid_signature_that_is_sent_twenty_times() {
    let config = config().with_announce_interval(Duration::from_millis(50));
    let server = Server::bind(config).await.expect("a free port");
    let mut others = Others::at(&server).await;
    let key = Keypair::generate_ed25519();
    let mut client = Client::connect(&server).await;
    let signature = challenged(&mut client, &key).await;
    let join = json!(["ss-join", address(&key), signature]);
    let joined = client.request(join.clone()).await;
    assert_eq!(joined[2].as_array().map(Vec::len), Some(2));
    for _ in 1..20 {
        assert_eq!(client.request(join.clone()).await, json!(["Crypto error"]));
    }
    assert_eq!(server.snapshot().counters.joins, 3);
    // The peer is announced as often as the other one.
    let (mut its, mut other) = (0, 0);
    while other < 20 {
        let announced = others.listener.announced().await;
        its += u32::from(announced == address(&key));
        other += u32::from(announced == others.dialer.address);
    }
    assert!((10..=22).contains(&its), "{its} announcements");
    others.are_served().await;
}

#[tokio::test]
async fn a_signature_that_is_used_again_after_leaving() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let key = Keypair::generate_ed25519();
    let mut client = Client::connect(&server).await;
    let signature = challenged(&mut client, &key).await;
    let join = json!(["ss-join", address(&key), signature]);
    assert_eq!(client.request(join.clone()).await[0], Value::Null);
    client.request(json!(["ss-leave", address(&key)])).await;
    assert_eq!(client.request(join).await, json!(["Crypto error"]));
    assert!(!server.snapshot().peers.contains(&address(&key)));
    // With a new nonce, the peer may join again.
    client.join(&key).await;
    others.are_served().await;
}

#[tokio::test]
async fn a_dial_id_that_is_in_use() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let mut intruder = Client::joined(&server).await;
    for _ in 0..3 {
        let event = json!([
            "ss-dial",
            intruder.address,
            others.listener.address,
            "others"
        ]);
        let refused = intruder.request(event).await;
        assert_eq!(refused, json!(["Dial id is in use"]));
    }
    for stream in ["others.dialer", "others.listener"] {
        intruder.item(stream, b"mixed in").await;
        intruder.send(stream_event("true", stream)).await;
        intruder.send(stream_event("accept", stream)).await;
    }
    intruder.request(json!(["ss-leave", ""])).await;
    // Each item arrives once, with nothing in between.
    others.are_served().await;
}

#[tokio::test]
async fn a_second_socket_that_joins_a_taken_address_with_the_challenge_off() {
    let server = Server::bind(config().with_challenge(false))
        .await
        .expect("a free port");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&server).await;
        client.address = address(&Keypair::generate_ed25519());
        clients.push(client);
    }
    let Ok([mut owner, mut dialer, mut newcomer]) = <[Client; 3]>::try_from(clients) else {
        unreachable!("three")
    };
    for client in [&mut owner, &mut dialer] {
        let joined = client.request(json!(["ss-join", client.address, ""])).await;
        assert_eq!(joined[0], Value::Null);
    }
    dial(&mut dialer, &mut owner, "d").await;
    let joined = newcomer
        .request(json!(["ss-join", owner.address, ""]))
        .await;
    assert_eq!(joined, json!([null, null, [dialer.address]]));
    let displaced = json!(["ss-displaced", owner.address]);
    assert_eq!(owner.text().await, format!("42{displaced}"));
    // The open dial continues, and new dials go to the newcomer.
    dialer.item("d.dialer", b"to the old one").await;
    owner.expect_item("d.dialer", b"to the old one").await;
    newcomer.address = owner.address.clone();
    dial(&mut dialer, &mut newcomer, "e").await;
    // Neither leaving on the old link nor the end of that link affects the new one.
    owner.request(json!(["ss-leave", owner.address])).await;
    drop(owner);
    for stream in ["d.dialer", "d.listener"] {
        let reason = "\"the other peer's link to the rendezvous was lost\"";
        assert_eq!(dialer.text().await, stream_event(reason, stream));
    }
    dial(&mut dialer, &mut newcomer, "f").await;
}

#[tokio::test]
async fn a_key_that_joins_on_two_links() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let key = Keypair::generate_ed25519();
    let mut old = Client::connect(&server).await;
    old.join(&key).await;
    let mut new = Client::connect(&server).await;
    new.join(&key).await;
    let displaced = json!(["ss-displaced", old.address]);
    assert_eq!(old.text().await, format!("42{displaced}"));
    let dial_others = json!(["ss-dial", old.address, others.listener.address, "d"]);
    let refused = old.request(dial_others).await;
    assert_eq!(refused, json!(["Not authorized for this address"]));
    let mut dialer = Client::joined(&server).await;
    dial(&mut dialer, &mut new, "e").await;
    // Neither leaving on the old link nor the end of that link affects the new one.
    old.request(json!(["ss-leave", old.address])).await;
    drop(old);
    offer(&mut dialer, &mut new, "f").await;
    others.are_served().await;
}

#[tokio::test]
async fn two_hundred_dials_that_end_cleanly() {
    let server = server().await;
    let mut others = Others::at(&server).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    for n in 0..200 {
        let id = format!("dial {n}");
        dial(&mut dialer, &mut listener, &id).await;
        let ends = [".dialer", ".listener"].map(|side| stream_event("true", &(id.clone() + side)));
        dialer.send(ends[0].clone()).await;
        assert_eq!(listener.text().await, ends[0]);
        listener.send(ends[1].clone()).await;
        assert_eq!(dialer.text().await, ends[1]);
    }
    soon("only the dial of the others", async {
        while server.snapshot().dials > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.snapshot().counters.dials, 201);
    others.are_served().await;
}

#[tokio::test]
async fn a_reader_that_stalls() {
    let limits = Limits::default()
        .with_queue_limit(200_000)
        .with_stall_timeout(Duration::from_secs(1));
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let mut others = Others::at(&server).await;
    let (dialer, listener) = dialled(&server).await;
    let (mut sender, mut receiver) = dialer.socket.split();
    let sending = tokio::spawn(async move {
        let item = Bytes::from(vec![4; 64 * 1024]);
        loop {
            let header = Message::text(header("d.dialer"));
            let item = Message::binary(item.clone());
            if sender.send(header).await.is_err() || sender.send(item).await.is_err() {
                return;
            }
        }
    });
    // Wait until the sender gets an error because the receiver does not read. Until then, others are
    // served, and the queue stays within its limits.
    let cut = tokio::spawn(async move {
        while let Some(Ok(message)) = receiver.next().await {
            let text = message.as_text().unwrap_or_default();
            if text.contains("socket.io-pull-stream.error") {
                return;
            }
        }
    });
    let mut rounds = 0;
    soon("the cut", async {
        while !cut.is_finished() {
            others.are_served().await;
            let queued = server.snapshot().queued_bytes;
            assert!(queued <= 200_000 + 80_000, "{queued} bytes queued");
            rounds += 1;
        }
    })
    .await;
    assert!(rounds > 3, "{rounds}");
    sending.abort();
    drop(listener);
    others.are_served().await;
}

#[tokio::test]
async fn announcements_of_many_peers_to_many_peers() {
    const PEERS: usize = 12;
    const RATE: usize = 20_000;
    // At npm's pace, this would be 6,600 announcements a second, of 110 bytes each.
    let config = config()
        .with_announce_interval(Duration::from_millis(20))
        .with_limits(Limits::default().with_announce_rate(RATE));
    let server = Server::bind(config).await.expect("a free port");
    let mut watcher = Client::joined(&server).await;
    let mut peers = Vec::new();
    for _ in 1..PEERS {
        peers.push(Client::joined(&server).await);
    }
    // The first announcements are those of the newcomers. They come at once, without waiting for a turn.
    let mut newcomers = 0;
    while newcomers < PEERS - 1 {
        let announced = watcher.announced().await;
        newcomers += usize::from(announced == peers[newcomers].address);
    }
    let (start, mut heard, mut bytes) = (Instant::now(), std::collections::HashSet::new(), 0);
    for _ in 0..3 * PEERS {
        let announced = watcher.announced().await;
        bytes += announced.len();
        heard.insert(announced);
    }
    // All links get the same share. The factor of two allows for announcements that were in transit when the clock
    // started.
    let rate = (bytes * PEERS) as f64 / start.elapsed().as_secs_f64();
    assert!(rate < 2.0 * RATE as f64, "{rate} bytes a second");
    assert_eq!(heard.len(), PEERS - 1, "everyone has its turn");
    let (head, tail) = peers.split_at_mut(1);
    dial(&mut head[0], &mut tail[0], "d").await;
}
