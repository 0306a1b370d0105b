//! Several bare socket.io clients in one Node.js process, which shows the order of events among them.
//!
//! | command | fields | answer |
//! |---|---|---|
//! | `connect` | `name`, `url` | `connected` `name` |
//! | `join` | `name`, `addr`; the challenge is off | `joined` `name` `addr` `peers` |
//! | `leave` | `name`, `addr` | `left` `name` `addr` |
//!
//! A command that fails is answered by `error` with `cmd` and `error`. Event without a command: `peer` `name` `addr`.

use libp2p_websocket_star::rendezvous::Server;
use serde_json::{Value, json};

use super::{js::Node, socketio::Version};

pub struct Several {
    node: Node,
    url: String,
}

impl Several {
    /// Starts the process, for clients of `star`.
    pub fn start(version: Version, star: &Server) -> Self {
        let mut command = Node::command("several.js");
        command.arg(version.module());
        Self {
            node: Node::spawn("several.js", command),
            url: format!("http://{}", star.local_addr()),
        }
    }

    pub async fn connect(&self, name: &str) {
        self.ask(
            json!({"cmd": "connect", "name": name, "url": self.url}),
            "connected",
        )
        .await;
    }

    /// Joins, and returns the other peers.
    pub async fn join(&self, name: &str, addr: &str) -> Value {
        let command = json!({"cmd": "join", "name": name, "addr": addr});
        self.ask(command, "joined").await["peers"].clone()
    }

    pub async fn leave(&self, name: &str, addr: &str) {
        let command = json!({"cmd": "leave", "name": name, "addr": addr});
        self.ask(command, "left").await;
    }

    async fn ask(&self, command: Value, event: &str) -> Value {
        let name = command["name"].clone();
        self.node.send(command).await;
        let answers = |it: &Value| it["event"] == "error" || it["event"] == event;
        let answer = self.node.expect_where(event, answers).await;
        assert_eq!(
            (&answer["event"], &answer["name"]),
            (&json!(event), &name),
            "{answer}"
        );
        answer
    }

    /// Returns the events about `addr` so far, each with the name of its client. For example, `"a peer"` means that
    /// client `a` got an announcement of the address.
    pub fn story(&self, addr: &str) -> Vec<String> {
        let events = self.node.seen();
        let of_it = events.iter().filter(|event| event["addr"] == addr);
        let texts = of_it.map(|event| format!("{} {}", event["name"], event["event"]));
        texts.map(|text| text.replace('"', "")).collect()
    }
}
