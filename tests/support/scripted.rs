//! A rendezvous that does what the test tells it, well or badly, over a real socket.
//!
//! Nothing here runs by itself: a [`Link`] reads and writes only while the test awaits it. It has its own parser and
//! writer of frames, so that it cannot share a mistake with the crate.

#![allow(dead_code, reason = "each theme uses its own part")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _};
use libp2p::{PeerId, identity::PublicKey};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_websockets::{Limits, Message, ServerBuilder, WebSocketStream};

use super::{raw::Raw, within};

/// The open packet that the npm server sends.
pub const OPEN: &str =
    r#"0{"sid":"scripted","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
/// Two UUIDs, as the npm server sends them.
pub const NONCE: &str = "51fe2479-9bc2-4b5e-ad06-b2fff93b3a8ffb8aa7d0-0685-42ff-9e74-90fac96ac513";

/// The listening socket of a scripted rendezvous.
pub struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    pub async fn start() -> Self {
        Self::listen(|_| Ok(()))
    }

    /// Starts a rendezvous with a small receive buffer. Data that it does not read soon backs up into the client.
    pub async fn with_small_receive_buffer() -> Self {
        Self::listen(|socket| socket.set_recv_buffer_size(4096))
    }

    fn listen(configure: impl Fn(&TcpSocket) -> io::Result<()>) -> Self {
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            configure(&socket)?;
            socket.bind(([127, 0, 0, 1], 0).into())?;
            socket.listen(64)
        };
        Self {
            listener: listen().expect("a loopback port is free"),
        }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    /// Returns the address at which peers listen, without a peer id.
    pub fn addr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/ws/p2p-websocket-star", self.port())
    }

    /// Returns the address of a peer that does not exist, to dial it.
    pub fn somebody(&self) -> String {
        format!("{}/ipfs/{}", self.addr(), PeerId::random())
    }

    /// Returns the URL that errors use for this rendezvous.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port())
    }

    /// Returns the next TCP connection, before any data.
    pub async fn tcp(&self) -> TcpStream {
        let accepted = within("a connection", self.listener.accept()).await;
        let (tcp, _) = accepted.expect("a connection");
        tcp.set_nodelay(true).expect("a TCP socket");
        tcp
    }

    /// Returns the next connection as a WebSocket, before any message.
    pub async fn upgraded(&self) -> Link {
        let tcp = self.tcp().await;
        Link::over(tcp).await
    }

    /// Returns the next link, opened with the packet `open` and the namespace.
    pub async fn opened(&self, open: &str) -> Link {
        let mut link = self.upgraded().await;
        link.text(open).await;
        link.text("40").await;
        link
    }

    /// Returns the next link, opened properly.
    pub async fn link(&self) -> Link {
        self.opened(OPEN).await
    }

    /// Returns the next link, opened, and joined by the client.
    pub async fn joined(&self) -> Link {
        let mut link = self.link().await;
        link.join(&[]).await;
        link
    }

    /// Serves a node that listens here, and checks that everything works.
    pub async fn serve(&self, node: &mut Raw) -> Link {
        let (mut link, _) = futures::future::join(self.joined(), node.joined()).await;
        link.check(node).await;
        link
    }
}

/// What the client sent over a link.
#[derive(Debug)]
pub enum Frame {
    Event(Call),
    /// The acknowledgement of one of the test's events: its id and arguments.
    Ack(u64, Value),
    /// The data of an item.
    Binary(Bytes),
    /// A heartbeat. It is answered already.
    Heartbeat,
    /// The answer to a heartbeat of the test, with its payload.
    Pong(String),
    /// The client has closed the link, or the link broke.
    Gone,
}

/// An event from the client.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub args: Vec<Value>,
    pub ack: Option<u64>,
}

impl Call {
    pub fn arg(&self, index: usize) -> &str {
        self.args[index].as_str().expect("a string")
    }
}

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One WebSocket with a client.
pub struct Link {
    ws: WebSocketStream<Box<dyn Io>>,
    next_ack: u64,
    /// The answer to a heartbeat.
    pub pong: &'static str,
}

impl Link {
    /// Upgrades a stream of a client to a WebSocket.
    pub async fn over(io: impl Io + 'static) -> Self {
        let io: Box<dyn Io> = Box::new(io);
        let builder = ServerBuilder::new().limits(Limits::unlimited());
        let (_, ws) = within("an upgrade", builder.accept(io))
            .await
            .expect("a WebSocket client");
        Self::with(ws)
    }

    /// Starts WebSocket on a stream that is upgraded already.
    pub fn serving(io: impl Io + 'static) -> Self {
        let io: Box<dyn Io> = Box::new(io);
        let builder = ServerBuilder::new().limits(Limits::unlimited());
        Self::with(builder.serve(io))
    }

    fn with(ws: WebSocketStream<Box<dyn Io>>) -> Self {
        Self {
            ws,
            next_ack: 0,
            pong: "3",
        }
    }

    /// Sends a message. Returns `false` if the client is gone.
    pub async fn try_send(&mut self, message: Message) -> bool {
        within("the client to read", self.ws.send(message))
            .await
            .is_ok()
    }

    async fn send(&mut self, message: Message) {
        assert!(self.try_send(message).await, "the client has gone");
    }

    /// Writes a message to the socket, or to memory if the socket is full. Returns `false` if the client is gone.
    pub async fn feed(&mut self, message: Message) -> bool {
        within("the client to read", self.ws.feed(message))
            .await
            .is_ok()
    }

    pub async fn text(&mut self, text: &str) {
        self.send(Message::text(text.to_owned())).await;
    }

    /// Sends a binary frame as it is, without the prefix 0x04.
    pub async fn binary(&mut self, frame: &[u8]) {
        self.send(Message::binary(frame.to_vec())).await;
    }

    pub async fn event(&mut self, event: Value) {
        self.text(&format!("42{event}")).await;
    }

    /// Sends an event that asks for an acknowledgement, and returns its id.
    pub async fn ask(&mut self, event: Value) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        self.text(&format!("42{id}{event}")).await;
        id
    }

    /// Answers an event.
    pub async fn answer(&mut self, call: &Call, args: Value) {
        let id = call.ack.expect("an answer is wanted");
        self.text(&format!("43{id}{args}")).await;
    }

    /// Writes bytes below the WebSocket.
    pub async fn raw(&mut self, bytes: &[u8]) {
        assert!(self.try_raw(bytes).await, "the client has gone");
    }

    /// Writes bytes below the WebSocket. Returns `false` if the client is gone.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        let io = self.ws.get_mut();
        let written = async {
            io.write_all(bytes).await?;
            io.flush().await
        };
        within("the client to read", written).await.is_ok()
    }

    /// Returns the next frame. Skips WebSocket control frames.
    pub async fn next(&mut self) -> Frame {
        loop {
            let message = match within("a frame", self.ws.next()).await {
                None | Some(Err(_)) => return Frame::Gone,
                Some(Ok(message)) => message,
            };
            if message.is_close() {
                return Frame::Gone;
            } else if message.is_binary() {
                let mut data = Bytes::from(message.into_payload());
                assert_eq!(data.split_to(1), [4][..], "a message of Engine.IO");
                return Frame::Binary(data);
            } else if let Some(text) = message.as_text() {
                if text != "2" {
                    return parse(text);
                }
                // The client may be gone by now.
                let _ = self.ws.send(Message::text(self.pong)).await;
                return Frame::Heartbeat;
            }
        }
    }

    /// Returns the next event of that name. Skips everything before it.
    pub async fn expect(&mut self, name: &str) -> Call {
        loop {
            match self.next().await {
                Frame::Event(call) if call.name == name => return call,
                Frame::Gone => panic!("the link ended before {name}"),
                _ => {}
            }
        }
    }

    /// Returns the answer to [`ask`](Self::ask). Skips everything before it.
    pub async fn answered(&mut self, id: u64) -> Value {
        loop {
            match self.next().await {
                Frame::Ack(found, args) if found == id => return args,
                Frame::Gone => panic!("the link ended before answer {id}"),
                _ => {}
            }
        }
    }

    /// Returns the next item. Skips everything before it.
    pub async fn item(&mut self) -> Bytes {
        loop {
            match self.next().await {
                Frame::Binary(data) => return data,
                Frame::Gone => panic!("the link ended before an item"),
                _ => {}
            }
        }
    }

    /// Reads until the client is gone, and returns the events before that.
    pub async fn until_gone(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        loop {
            match self.next().await {
                Frame::Event(call) => calls.push(call),
                Frame::Gone => return calls,
                _ => {}
            }
        }
    }

    /// Answers a join as a good rendezvous does, and returns the joined address.
    pub async fn join(&mut self, peers: &[String]) -> String {
        let challenge = self.expect("ss-join").await;
        self.answer(&challenge, json!([null, NONCE])).await;
        let proof = self.expect("ss-join").await;
        let decode = |call: &Call| hex::decode(call.arg(1)).expect("hexadecimal");
        let key = PublicKey::try_decode_protobuf(&decode(&challenge)).expect("a public key");
        assert!(key.verify(NONCE.as_bytes(), &decode(&proof)));
        let wire = proof.arg(0).to_owned();
        assert!(
            wire.ends_with(&format!("/ipfs/{}", key.to_peer_id())),
            "{wire}"
        );
        self.answer(&proof, json!([null, null, peers])).await;
        wire
    }

    /// Announces the dial `id`, without waiting for the answer.
    pub async fn incoming(&mut self, id: &str) -> u64 {
        let from = format!(
            "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/{}",
            PeerId::random()
        );
        self.ask(json!(["ss-incomming", id, from])).await
    }

    /// Dials the node, which must accept, and accepts the node's stream.
    pub async fn dial(&mut self, id: &str) {
        let ack = self.incoming(id).await;
        assert_eq!(self.answered(ack).await, json!([]));
        self.accept(&format!("{id}.listener")).await;
    }

    /// Lets a dial of the node succeed, accepts its stream, and returns the dial id.
    pub async fn take_dial(&mut self) -> String {
        let call = self.expect("ss-dial").await;
        let id = call.arg(2).to_owned();
        self.accept(&format!("{id}.dialer")).await;
        self.answer(&call, json!([])).await;
        id
    }

    /// Lets data flow on a stream of the node.
    pub async fn accept(&mut self, stream: &str) {
        self.event(json!([format!("socket.io-pull-stream.accept.{stream}")]))
            .await;
    }

    pub async fn queue(&mut self, stream: &str, data: &[u8]) {
        self.text(&header(stream)).await;
        self.binary(&[&[4], data].concat()).await;
    }

    pub async fn end(&mut self, stream: &str, how: Value) {
        self.event(json!([error(stream), how])).await;
    }

    /// Dials the node, has it send something back, and ends properly.
    pub async fn check(&mut self, node: &mut Raw) {
        let id = PeerId::random().to_string();
        let (_, (mut connection, _)) = futures::future::join(self.dial(&id), node.accept()).await;
        self.queue(&format!("{id}.dialer"), b"hello").await;
        let mut data = [0; 5];
        let there = connection.read_exact(&mut data);
        within("an item", there).await.expect("no reset");
        assert_eq!(&data, b"hello");
        connection.write_all(b"back").await.expect("no reset");
        connection.flush().await.expect("no reset");
        assert_eq!(self.item().await, &b"back"[..]);
        self.end(&format!("{id}.dialer"), json!(true)).await;
        let end = within("the end", connection.read(&mut data)).await;
        assert_eq!(end.expect("no reset"), 0);
        let (closed, ended) = futures::future::join(
            connection.close(),
            self.expect(&error(&format!("{id}.listener"))),
        )
        .await;
        closed.expect("no reset");
        assert_eq!(ended.args, [json!(true)]);
    }
}

/// Returns the text frame before a binary item.
pub fn header(stream: &str) -> String {
    format!(r#"451-["socket.io-pull-stream.queue.{stream}",{{"_placeholder":true,"num":0}}]"#)
}

/// Returns the name of the event that ends a stream.
pub fn error(stream: &str) -> String {
    format!("socket.io-pull-stream.error.{stream}")
}

fn parse(text: &str) -> Frame {
    let split = |rest: &str| {
        let start = rest.find('[').expect("a JSON array");
        let id = rest[..start].parse().ok();
        let args: Vec<Value> = serde_json::from_str(&rest[start..]).expect("JSON");
        (id, args)
    };
    let event = |(ack, mut args): (Option<u64>, Vec<Value>)| {
        let name = args.remove(0).as_str().expect("a name").to_owned();
        Frame::Event(Call { name, args, ack })
    };
    if let Some(rest) = text.strip_prefix("42") {
        event(split(rest))
    } else if let Some(rest) = text.strip_prefix("451-") {
        event(split(rest))
    } else if let Some(rest) = text.strip_prefix("43") {
        let (id, args) = split(rest);
        Frame::Ack(id.expect("an id"), args.into())
    } else if let Some(rest) = text.strip_prefix('3') {
        Frame::Pong(rest.to_owned())
    } else {
        panic!("the client sent {text:?}")
    }
}

/// A stream that writes one byte at a time.
pub struct Dripping<T>(pub T);

impl<T: AsyncRead + Unpin> AsyncRead for Dripping<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Dripping<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let one = buf.get(..1).unwrap_or_default();
        Pin::new(&mut self.0).poll_write(cx, one)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
