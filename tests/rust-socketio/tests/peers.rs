//! rust_socketio 0.6 at the rendezvous: an Engine.IO 4 client that is not ours.
//!
//! It joins, gets announcements, dials and streams. It cannot answer an event that asks for an acknowledgement: its
//! callbacks do not get the id, and its interface has no way to send an acknowledgement (its issues 292 and 461). So
//! it can get a dial but never accept one. It also splits what it receives at every byte 0x1e, the separator of
//! packets in polling, even in binary frames. The data that is sent to it here therefore has no such byte. The data
//! that it sends has all bytes.

#[path = "../../support/client.rs"]
mod client;

use std::time::Duration;

use futures::{FutureExt as _, future::join};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Server};
use rust_socketio::{
    Payload, TransportType,
    asynchronous::{Client as SocketIo, ClientBuilder},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{Client, address, config, soon, stream_event};

const ITEM: usize = 64 * 1024;

struct Peer {
    client: SocketIo,
    events: mpsc::Receiver<(String, Payload)>,
    address: String,
}

impl Peer {
    async fn joined(server: &Server) -> Self {
        let (sender, events) = mpsc::channel(1024);
        let client = ClientBuilder::new(format!("http://{}", server.local_addr()))
            .transport_type(TransportType::Websocket)
            .reconnect(false)
            .on_any(move |event, payload, _| {
                let sender = sender.clone();
                async move {
                    // This fails only when the test is over.
                    let _ = sender.send((event.to_string(), payload)).await;
                }
                .boxed()
            })
            .connect()
            .await
            .expect("connects");
        let key = Keypair::generate_ed25519();
        let peer = Self {
            client,
            events,
            address: address(&key),
        };
        let public = hex::encode(key.public().encode_protobuf());
        let answer = peer.request("ss-join", &[&peer.address, &public]).await;
        let nonce = answer[1].as_str().expect("a nonce");
        let signature = hex::encode(key.sign(nonce.as_bytes()).expect("signs"));
        let joined = peer.request("ss-join", &[&peer.address, &signature]).await;
        assert_eq!(joined[0], Value::Null, "{joined}");
        peer
    }

    /// Sends an event, and returns the receiver of its answer.
    async fn ask(&self, event: &str, arguments: &[&str]) -> mpsc::Receiver<Value> {
        let (sender, answer) = mpsc::channel(1);
        let arguments: Vec<_> = arguments.iter().map(|text| json!(text)).collect();
        let callback = move |payload: Payload, _: SocketIo| {
            let sender = sender.clone();
            async move {
                let Payload::Text(values) = payload else {
                    panic!("not text: {payload:?}")
                };
                // The library passes the arguments of an acknowledgement as one array.
                let answer = match values.as_slice() {
                    [Value::Array(values)] => json!(values),
                    values => json!(values),
                };
                let _ = sender.send(answer).await;
            }
            .boxed()
        };
        self.client
            .emit_with_ack(event, arguments, Duration::from_secs(60), callback)
            .await
            .expect("sent");
        answer
    }

    async fn request(&self, event: &str, arguments: &[&str]) -> Value {
        let mut answer = self.ask(event, arguments).await;
        soon("an answer", answer.recv()).await.expect("an answer")
    }

    async fn emit(&self, kind: &str, stream: &str, payload: impl Into<Payload>) {
        let event = format!("socket.io-pull-stream.{kind}.{stream}");
        self.client.emit(event, payload).await.expect("sent");
    }

    /// Returns the next event of that name. The library reports an event without arguments as `message`, with the
    /// name as its argument.
    async fn event(&mut self, name: &str) -> Payload {
        soon(name, async {
            loop {
                let (event, payload) = self.events.recv().await.expect("connected");
                let is_message = event == "message"
                    && matches!(&payload, Payload::Text(values) if *values == [json!(name)]);
                if event == name || is_message {
                    return payload;
                }
            }
        })
        .await
    }

    async fn item(&mut self, stream: &str) -> Vec<u8> {
        match self
            .event(&format!("socket.io-pull-stream.queue.{stream}"))
            .await
        {
            Payload::Binary(data) => data.to_vec(),
            other => panic!("not binary: {other:?}"),
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251).to_le_bytes()[0]).collect()
}

/// Returns data that rust_socketio can receive.
fn without_separators(mut data: Vec<u8>) -> Vec<u8> {
    for byte in &mut data {
        if *byte == 0x1e {
            *byte = 0xff;
        }
    }
    data
}

/// Has `peer` dial `listener`, a peer of Engine.IO 3.
async fn dial(peer: &mut Peer, listener: &mut Client, id: &str) {
    let mut answer = peer
        .ask("ss-dial", &[&peer.address, &listener.address, id])
        .await;
    let incoming = listener.text().await;
    let event = json!(["ss-incomming", id, peer.address]).to_string();
    let ack = incoming
        .strip_prefix("42")
        .and_then(|text| text.strip_suffix(&event))
        .unwrap_or_else(|| panic!("{incoming}"));
    let stream = format!("{id}.dialer");
    listener.send(stream_event("accept", &stream)).await;
    listener.send(format!("43{ack}[]")).await;
    peer.event(&format!("socket.io-pull-stream.accept.{stream}"))
        .await;
    let answer = soon("the answer", answer.recv()).await;
    assert_eq!(answer, Some(json!([])));
    let stream = format!("{id}.listener");
    peer.emit("accept", &stream, Vec::<Value>::new()).await;
    assert_eq!(listener.text().await, stream_event("accept", &stream));
}

#[tokio::test]
async fn it_joins_and_hears_peers_and_its_heartbeats_keep_the_link() {
    let config = config()
        .with_ping_interval(Duration::from_millis(200))
        .with_ping_timeout(Duration::from_millis(400))
        .with_announce_interval(Duration::from_secs(2));
    let server = Server::bind(config).await.expect("a free port");
    let mut peer = Peer::joined(&server).await;
    let other = Peer::joined(&server).await;
    // The interval of announcements is three times as long as a link without heartbeats would last.
    for _ in 0..3 {
        let Payload::Text(values) = peer.event("ws-peer").await else {
            panic!("not text")
        };
        assert_eq!(values, [json!(other.address)]);
    }
    let mut peers = server.snapshot().peers;
    peers.sort();
    let mut expected = [peer.address.clone(), other.address.clone()];
    expected.sort();
    assert_eq!(peers, expected);
}

#[tokio::test]
async fn it_dials_a_peer_of_engine_io_3_and_every_byte_arrives_both_ways() {
    let server = client::server().await;
    let mut listener = Client::joined(&server).await;
    let mut peer = Peer::joined(&server).await;
    for (n, bytes) in [1, 2, ITEM, 1 << 20, 16 << 20].into_iter().enumerate() {
        let id = format!("dial-{n}");
        dial(&mut peer, &mut listener, &id).await;
        let data = pattern(bytes);
        let stream = format!("{id}.dialer");
        let send = async {
            for item in data.chunks(ITEM) {
                peer.emit("queue", &stream, item.to_vec()).await;
            }
            peer.emit("error", &stream, vec![json!(true)]).await;
        };
        let receive = async {
            for item in data.chunks(ITEM) {
                listener.expect_item(&stream, item).await;
            }
            assert_eq!(listener.text().await, stream_event("true", &stream));
        };
        join(send, receive).await;

        let data = without_separators(data);
        let stream = format!("{id}.listener");
        let send = async {
            for item in data.chunks(ITEM) {
                listener.item(&stream, item).await;
            }
            listener.send(stream_event("true", &stream)).await;
        };
        let receive = async {
            for item in data.chunks(ITEM) {
                assert!(peer.item(&stream).await == item, "other data");
            }
            peer.event(&format!("socket.io-pull-stream.error.{stream}"))
                .await;
        };
        join(send, receive).await;
    }
}

#[tokio::test]
async fn it_is_told_of_a_dial_that_it_cannot_answer() {
    let limits = Limits::default().with_dial_timeout(Duration::from_millis(500));
    let server = Server::bind(config().with_limits(limits))
        .await
        .expect("a free port");
    let mut peer = Peer::joined(&server).await;
    let mut dialer = Client::joined(&server).await;
    let event = json!(["ss-dial", dialer.address, peer.address, "d"]);
    let ack = dialer.ask(event).await;
    let Payload::Text(values) = peer.event("ss-incomming").await else {
        panic!("not text")
    };
    assert_eq!(values, [json!("d"), json!(dialer.address)]);
    let refused = json!(["Peer did not answer the dial in time"]);
    assert_eq!(dialer.answer(ack).await, refused);
    for stream in ["d.dialer", "d.listener"] {
        let cut = stream_event("\"the dial was not answered in time\"", stream);
        assert_eq!(dialer.text().await, cut);
    }
    // The link still works as before.
    dial(&mut peer, &mut dialer, "e").await;
}
