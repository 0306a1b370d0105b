//! A raw WebSocket client of the rendezvous, which sends what a test tells it to send.

#![allow(dead_code, reason = "each test target uses its own part")]

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_websockets::{ClientBuilder, CloseCode, MaybeTlsStream, Message, WebSocketStream};

/// The longest wait. Nothing in these tests takes a tenth of it.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Waits until the condition holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Returns a socket bound to 127.0.0.`host`.
pub fn socket(host: u8) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = Ipv4Addr::new(127, 0, 0, host);
    socket.bind((from, 0).into()).expect("a loopback address");
    socket
}

/// Opens a link from 127.0.0.`host`.
pub async fn link(server: &Server, host: u8) -> Client {
    let client = Client::upgrade_on(server, Eio::V3, socket(host)).await;
    client.greeted().await
}

pub fn config() -> Config {
    Config::default().with_listen_addr(([127, 0, 0, 1], 0).into())
}

pub async fn server() -> Server {
    Server::bind(config()).await.expect("a free port")
}

/// The version of Engine.IO that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eio {
    V3,
    V4,
}

impl Eio {
    /// Returns the query of an upgrade.
    pub fn query(self) -> &'static str {
        match self {
            Self::V3 => "EIO=3&transport=websocket",
            Self::V4 => "EIO=4&transport=websocket",
        }
    }

    /// Returns a binary frame.
    fn frame(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::V3 => [b"\x04", data].concat(),
            Self::V4 => data.to_vec(),
        }
    }
}

pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub next_ack: u64,
    pub address: String,
    pub eio: Eio,
    /// Whether it answers the pings of version 4 by itself whenever it reads a text.
    pub answers_pings: bool,
}

impl Client {
    /// Does the upgrade, and nothing else.
    pub async fn upgrade(server: &Server, eio: Eio) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::upgrade_on(server, eio, socket).await
    }

    /// Does the upgrade on a socket, which may be bound.
    pub async fn upgrade_on(server: &Server, eio: Eio, socket: TcpSocket) -> Self {
        Self::upgrade_on_with(server.local_addr(), eio, socket, eio.query()).await
    }

    /// Does the upgrade with that query.
    pub async fn upgrade_with(server: &Server, eio: Eio, query: &str) -> Self {
        Self::upgrade_at(server.local_addr(), eio, query).await
    }

    /// Does the upgrade at an address.
    pub async fn upgrade_at(addr: SocketAddr, eio: Eio, query: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::upgrade_on_with(addr, eio, socket, query).await
    }

    async fn upgrade_on_with(addr: SocketAddr, eio: Eio, socket: TcpSocket, query: &str) -> Self {
        let path = format!("/socket.io/?{query}");
        Self::upgrade_to(addr, eio, socket, &path).await
    }

    /// Does the upgrade with that path and query.
    pub async fn upgrade_to(addr: SocketAddr, eio: Eio, socket: TcpSocket, path: &str) -> Self {
        Self::upgrade_saying(addr, eio, socket, path, &[]).await
    }

    /// Does the upgrade at an address, with this host in the request.
    pub async fn upgrade_for(host: &str, addr: SocketAddr, eio: Eio) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let url = format!("ws://{host}/socket.io/?{}", eio.query());
        Self::upgrade_by(&url, addr, eio, socket, &[]).await
    }

    /// Does the upgrade with that path and these headers.
    pub async fn upgrade_saying(
        addr: SocketAddr,
        eio: Eio,
        socket: TcpSocket,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let url = format!("ws://{addr}{path}");
        Self::upgrade_by(&url, addr, eio, socket, headers).await
    }

    async fn upgrade_by(
        url: &str,
        addr: SocketAddr,
        eio: Eio,
        socket: TcpSocket,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut builder = ClientBuilder::new().uri(url).expect("a URI");
        for (name, value) in headers {
            let name = name.parse().expect("a name");
            let value = value.parse().expect("a value");
            builder = builder.add_header(name, value).expect("a header");
        }
        let stream = soon("connect", socket.connect(addr)).await;
        let stream = stream.expect("connected");
        stream.set_nodelay(true).expect("an open socket");
        let upgrade = builder.connect_on(MaybeTlsStream::Plain(stream));
        let (socket, _) = soon("upgrade", upgrade).await.expect("upgrade");
        Self {
            socket,
            next_ack: 0,
            address: String::new(),
            eio,
            answers_pings: false,
        }
    }

    pub async fn connect(server: &Server) -> Self {
        Self::connect_as(server, Eio::V3).await
    }

    pub async fn connect_as(server: &Server, eio: Eio) -> Self {
        Self::upgrade(server, eio).await.greeted().await
    }

    /// Reads the first messages of the server.
    pub async fn greeted(self) -> Self {
        let mut client = self;
        client.greet().await;
        client
    }

    /// Connects with that query.
    pub async fn connect_with(server: &Server, eio: Eio, query: &str) -> Self {
        let mut client = Self::upgrade_with(server, eio, query).await;
        client.greet().await;
        client
    }

    pub async fn greet(&mut self) {
        let open = self.text().await;
        assert!(open.starts_with("0{"), "{open}");
        if self.eio == Eio::V4 {
            self.send("40").await;
        }
        let connected = self.text().await;
        assert_eq!(connected.starts_with("40{\"sid\":\""), self.eio == Eio::V4);
        assert_eq!(connected == "40", self.eio == Eio::V3);
    }

    /// Connects, and joins with a new key.
    pub async fn joined(server: &Server) -> Self {
        Self::joined_as(server, Eio::V3).await
    }

    pub async fn joined_as(server: &Server, eio: Eio) -> Self {
        let mut client = Self::connect_as(server, eio).await;
        client.join(&Keypair::generate_ed25519()).await;
        client
    }

    /// Joins, and returns the other peers.
    pub async fn join(&mut self, key: &Keypair) -> Value {
        let ack = self.prove(key).await;
        let answer = self.answer(ack).await;
        assert_eq!((&answer[0], &answer[1]), (&Value::Null, &Value::Null));
        answer[2].clone()
    }

    /// Answers the challenge, and returns the id of the acknowledgement that will follow.
    pub async fn prove(&mut self, key: &Keypair) -> u64 {
        self.prove_as(key, address(key)).await
    }

    /// Answers the challenge for an address, and returns the id of the acknowledgement that will follow.
    pub async fn prove_as(&mut self, key: &Keypair, address: String) -> u64 {
        self.address = address;
        let public = hex::encode(key.public().encode_protobuf());
        let answer = self.request(json!(["ss-join", self.address, public])).await;
        let nonce = answer[1].as_str().expect("a nonce");
        let signature = hex::encode(key.sign(nonce.as_bytes()).expect("signs"));
        self.ask(json!(["ss-join", self.address, signature])).await
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        let message = Message::text(text.into());
        soon("send", self.socket.send(message)).await.expect("sent");
    }

    /// Sends an event that asks for an answer, and returns the id of that answer.
    pub async fn ask(&mut self, event: Value) -> u64 {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.send(format!("42{ack}{event}")).await;
        ack
    }

    /// Sends an event, and returns its answer. Skips announcements.
    pub async fn request(&mut self, event: Value) -> Value {
        let ack = self.ask(event).await;
        self.answer(ack).await
    }

    pub async fn answer(&mut self, ack: u64) -> Value {
        let text = self.text().await;
        let json = text
            .strip_prefix(&format!("43{ack}"))
            .unwrap_or_else(|| panic!("not the answer to {ack}: {text}"));
        serde_json::from_str(json).expect("JSON")
    }

    pub async fn item(&mut self, stream: &str, data: &[u8]) {
        self.send(header(stream)).await;
        let frame = Message::binary(self.eio.frame(data));
        soon("send", self.socket.send(frame)).await.expect("sent");
    }

    pub async fn message(&mut self) -> Option<Message> {
        match soon("a message", self.socket.next()).await {
            Some(Ok(message)) => Some(message),
            Some(Err(_)) | None => None,
        }
    }

    /// Returns the next text frame that is not an announcement.
    pub async fn text(&mut self) -> String {
        loop {
            let message = self.message().await.expect("the link is open");
            let text = message.as_text().unwrap_or_else(|| panic!("{message:?}"));
            if self.answers_pings && text == "2" {
                self.send("3").await;
            } else if !text.starts_with("42[\"ws-peer\"") {
                return text.to_owned();
            }
        }
    }

    /// Returns the next announced address.
    pub async fn announced(&mut self) -> String {
        loop {
            let message = self.message().await.expect("the link is open");
            let text = message.as_text().unwrap_or_else(|| panic!("{message:?}"));
            if let Some(json) = text.strip_prefix("42[\"ws-peer\",") {
                return json.trim_matches(['"', ']']).to_owned();
            }
        }
    }

    pub async fn expect_item(&mut self, stream: &str, data: &[u8]) {
        assert_eq!(self.text().await, header(stream));
        let frame = self.message().await.expect("the link is open");
        assert!(frame.is_binary());
        assert!(frame.as_payload()[..] == self.eio.frame(data), "other data");
    }

    /// Reads until the end of the link, and returns the reason that the server gave.
    pub async fn closed(&mut self) -> Option<(CloseCode, String)> {
        let mut reason = None;
        while let Some(message) = self.message().await {
            if let Some((code, text)) = message.as_close() {
                reason = Some((code, text.to_owned()));
            }
        }
        reason
    }
}

pub fn address(key: &Keypair) -> String {
    let peer = key.public().to_peer_id();
    format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{peer}")
}

pub fn header(stream: &str) -> String {
    format!("451-[\"socket.io-pull-stream.queue.{stream}\",{{\"_placeholder\":true,\"num\":0}}]")
}

pub fn stream_event(kind: &str, stream: &str) -> String {
    match kind {
        "accept" => format!("42[\"socket.io-pull-stream.accept.{stream}\"]"),
        _ => format!("42[\"socket.io-pull-stream.error.{stream}\",{kind}]"),
    }
}

/// Returns two peers with a dial `d` between them. The order of events is that of two JavaScript peers.
pub async fn dialled(server: &Server) -> (Client, Client) {
    let mut dialer = Client::joined(server).await;
    let mut listener = Client::joined(server).await;
    dial(&mut dialer, &mut listener, "d").await;
    (dialer, listener)
}

pub async fn dial(dialer: &mut Client, listener: &mut Client, id: &str) {
    let ack = offer(dialer, listener, id).await;
    let accept = stream_event("accept", &format!("{id}.dialer"));
    listener.send(accept.clone()).await;
    let incoming = listener.next_ack;
    listener.send(format!("43{incoming}[]")).await;
    listener.next_ack += 1;
    assert_eq!(dialer.text().await, accept);
    assert_eq!(dialer.answer(ack).await, json!([]));
    let accept = stream_event("accept", &format!("{id}.listener"));
    dialer.send(accept.clone()).await;
    assert_eq!(listener.text().await, accept);
}

/// Has `dialer` dial, and waits until `listener` gets the event.
pub async fn offer(dialer: &mut Client, listener: &mut Client, id: &str) -> u64 {
    let event = json!(["ss-dial", dialer.address, listener.address, id]);
    let ack = dialer.ask(event).await;
    let text = listener.text().await;
    let incoming = json!(["ss-incomming", id, dialer.address]);
    assert!(text.ends_with(&incoming.to_string()), "{text}");
    listener.next_ack = text[2..text.find('[').expect("an array")]
        .parse()
        .expect("an acknowledgement");
    ack
}

/// Sends the head of a request, and returns the answer.
pub async fn http(addr: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connect");
    let request = format!("{head}\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    answer
}

/// Reads the head of an answer, and returns its first line. The line is empty if the connection ends.
pub async fn status(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon("an answer", stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&head);
    head.lines().next().unwrap_or_default().to_owned()
}
