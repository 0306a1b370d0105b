//! A bare socket.io client of either version under Node.js, driven over JSON lines.
//!
//! | command | fields (default) | answer |
//! |---|---|---|
//! | `connect` | `url`, `polling` (false), `forceBase64` (false), `protocols` (none) | `connected` `id`, again after each reconnection; `refused` `error` |
//! | `join` | `addr`, without a peer id | `joined` `addr` `peers` |
//! | `leave` | | `left` `addr` |
//! | `mode` | `mode`: `echo`, `echo-after-end`, `refuse` with `reason` | `mode` |
//! | `dial` | `id`, `to`, `bytes` (0), `chunk` (65,536), `afterEnd` (false) | `dialled` `id` `ok` `bytes` or `error` |
//! | `close` | | `closed` |
//!
//! A command that fails is answered by `error` with `cmd` and `error`. Events without a command: `peer` `addr`,
//! `incoming` `id` `from`, `disconnected` `reason`.

use std::sync::atomic::{AtomicU64, Ordering};

use libp2p_websocket_star::rendezvous::Server;
use serde_json::{Value, json};

use super::{
    address,
    js::{Node, merge},
};

/// The version of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 2.5.0, with Engine.IO 3. The deployed websocket-star client is built on it.
    V2,
    /// 4.8.1, with Engine.IO 4.
    V4,
}

impl Version {
    /// Returns the name of its npm module in `tests/js`.
    pub(super) fn module(self) -> &'static str {
        match self {
            Self::V2 => "socket.io-client",
            Self::V4 => "socket.io-client-4",
        }
    }
}

pub struct SocketIo {
    node: Node,
    next_dial: AtomicU64,
}

impl SocketIo {
    /// Starts the process.
    pub fn start(version: Version) -> Self {
        let mut command = Node::command("socketio.js");
        command.arg(version.module());
        Self {
            node: Node::spawn("socketio.js", command),
            next_dial: AtomicU64::new(1),
        }
    }

    /// Starts the process, and joins. Returns the client with its address.
    pub async fn joined(version: Version, star: &Server) -> (Self, String) {
        let client = Self::start(version);
        client.connect(star).await;
        let joined = client.join(star).await;
        let addr = joined["addr"].as_str().expect("an address").to_owned();
        (client, addr)
    }

    pub async fn send(&self, command: Value) {
        self.node.send(command).await;
    }

    pub async fn expect(&self, event: &str) -> Value {
        self.node.expect(event).await
    }

    /// Waits for the next announcement of that address.
    pub async fn expect_peer(&self, addr: &str) {
        let announced = |event: &Value| event["event"] == "peer" && event["addr"] == addr;
        self.node.expect_where("the peer", announced).await;
    }

    pub async fn connect(&self, star: &Server) {
        self.connect_with(star, json!({})).await;
    }

    /// Connects with the given `options` of the command.
    pub async fn connect_with(&self, star: &Server, options: Value) {
        let url = format!("http://{}", star.local_addr());
        let command = json!({"cmd": "connect", "url": url});
        self.send(merge(command, options)).await;
        let connected = self.expect("connected").await;
        assert!(connected["id"].is_string(), "{connected}");
    }

    /// Joins, for the first time or again. Returns the event `joined`.
    pub async fn join(&self, star: &Server) -> Value {
        self.send(json!({"cmd": "join", "addr": address(star)}))
            .await;
        self.node
            .expect_where("the join", |event| {
                event["event"] == "joined" || event["event"] == "error"
            })
            .await
    }

    pub async fn leave(&self) {
        self.send(json!({"cmd": "leave"})).await;
        self.expect("left").await;
    }

    pub async fn mode(&self, mode: &str) {
        self.send(json!({"cmd": "mode", "mode": mode, "reason": "not today"}))
            .await;
        self.expect("mode").await;
    }

    pub async fn close(&self) {
        self.send(json!({"cmd": "close"})).await;
        self.expect("closed").await;
    }

    /// Dials, and has `bytes` bytes echoed. Returns the event `dialled`.
    pub async fn dial(&self, to: &str, bytes: u64, after_end: bool) -> Value {
        let id = self.next_dial.fetch_add(1, Ordering::Relaxed);
        let command =
            json!({"cmd": "dial", "id": id, "to": to, "bytes": bytes, "afterEnd": after_end});
        self.send(command).await;
        self.node
            .expect_where("the end of the dial", |event| {
                event["event"] == "dialled" && event["id"] == id
            })
            .await
    }

    /// Dials, and requires `bytes` bytes of the pattern to come back.
    pub async fn echo(&self, to: &str, bytes: u64) {
        let dialled = self.dial(to, bytes, false).await;
        assert_eq!(dialled["bytes"], bytes, "{dialled}");
    }
}
