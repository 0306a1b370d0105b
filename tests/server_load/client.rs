//! A raw WebSocket client that makes no assumptions about the server.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Server, Snapshot};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

/// The longest wait. Nothing in these tests takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Returns a configuration without the challenge: in a debug build, signatures would be most of the work.
pub fn config() -> Config {
    Config::default()
        .with_listen_addr(([127, 0, 0, 1], 0).into())
        .with_challenge(false)
}

/// Waits for a state of the server.
pub async fn until(server: &Server, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
    let wait = async {
        while !is_so(&server.snapshot()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "{what}: {:?}", server.snapshot());
}

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    next_ack: u64,
    pub address: String,
}

impl Client {
    pub async fn connect(server: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::connect_on(socket, server).await
    }

    pub async fn connect_on(socket: TcpSocket, server: SocketAddr) -> Self {
        let stream = soon("connect", socket.connect(server)).await;
        let stream = stream.expect("the server listens");
        stream.set_nodelay(true).expect("an open socket");
        let url = format!("ws://{server}/socket.io/?EIO=3&transport=websocket");
        let builder = ClientBuilder::new().uri(&url).expect("a URI");
        let upgraded = soon("upgrade", builder.connect_on(stream)).await;
        let (socket, _) = upgraded.expect("upgrade");
        let mut client = Self {
            socket,
            next_ack: 0,
            address: String::new(),
        };
        client.expect(|text| text == "40").await;
        client
    }

    pub async fn joined(server: SocketAddr) -> Self {
        let mut client = Self::connect(server).await;
        client.join().await;
        client
    }

    /// Joins as a new peer.
    pub async fn join(&mut self) {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        self.address = format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{peer}");
        let answer = self.request(json!(["ss-join", self.address, ""])).await;
        assert_eq!(answer[0], Value::Null, "{answer}");
    }

    /// Leaves, and waits until the server has handled it.
    pub async fn leave(&mut self) {
        let answer = self.request(json!(["ss-leave", self.address])).await;
        assert_eq!(answer, json!([]));
    }

    pub async fn try_send(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        let sent = self.try_send(Message::text(text.into()));
        assert!(soon("to send", sent).await, "the link is open");
    }

    pub async fn ask(&mut self, event: Value) -> u64 {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.send(format!("42{ack}{event}")).await;
        ack
    }

    pub async fn request(&mut self, event: Value) -> Value {
        let ack = self.ask(event).await;
        let start = format!("43{ack}[");
        let answer = self.expect(|text| text.starts_with(&start)).await;
        serde_json::from_str(&answer[start.len() - 1..]).expect("JSON")
    }

    /// Returns the next message, or `None` when the link has ended.
    pub async fn message(&mut self) -> Option<Message> {
        soon("a message", self.socket.next()).await?.ok()
    }

    /// Returns the next text for which `wanted` holds. Skips everything before it.
    pub async fn expect(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let message = self.message().await.expect("the link is open");
            if let Some(text) = message.as_text().filter(|text| wanted(text)) {
                return text.to_owned();
            }
        }
    }

    /// Dials `listener`, which accepts. Both then ask for the other's data.
    pub async fn dial(&mut self, listener: &mut Self, id: &str) {
        let ack = self
            .ask(json!(["ss-dial", self.address, listener.address, id]))
            .await;
        let incoming = listener.expect(|t| t.contains("[\"ss-incomming\"")).await;
        let number = &incoming[2..incoming.find('[').expect("an event")];
        listener.send(accept(&format!("{id}.dialer"))).await;
        listener.send(format!("43{number}[]")).await;
        let answer = format!("43{ack}[]");
        self.expect(|text| text == answer).await;
        self.send(accept(&format!("{id}.listener"))).await;
    }

    /// Sends the `n`th item of a stream. Returns whether the link is open.
    pub async fn try_item(&mut self, stream: &str, n: usize, len: usize) -> bool {
        let header = format!(
            "451-[\"socket.io-pull-stream.queue.{stream}\",{{\"_placeholder\":true,\"num\":0}}]"
        );
        self.try_send(Message::text(header)).await
            && self.try_send(Message::binary(item_data(n, len))).await
    }

    /// Reads items, and checks that they are those from the `from`th to before the `to`th.
    pub async fn check_items(&mut self, from: usize, to: usize, len: usize) {
        let mut n = from;
        while n < to {
            let message = self.message().await.expect("the link is open");
            if message.is_binary() {
                assert!(
                    message.as_payload()[..] == item_data(n, len)[..],
                    "item {n}"
                );
                n += 1;
            }
        }
    }
}

/// Returns the `n`th item with its prefix.
pub fn item_data(n: usize, len: usize) -> Vec<u8> {
    let bytes = (0..len).map(|at| (n * 31 + at) as u8);
    std::iter::once(4).chain(bytes).collect()
}

fn accept(stream: &str) -> String {
    format!("42[\"socket.io-pull-stream.accept.{stream}\"]")
}

pub fn end(stream: &str) -> String {
    format!("42[\"socket.io-pull-stream.error.{stream}\",true]")
}
