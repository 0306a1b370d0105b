//! A js-libp2p 0.26.2 node, run under Node.js and driven over JSON lines, like the peers of [`super::js`].
//!
//! | command | fields (default) | answer |
//! |---|---|---|
//! | `start` | `addr`, `keyType` (`rsa`, `ed25519`, `secp256k1`), `muxer` (`libp2p-mplex`, `pull-mplex`), `pubsub` (`floodsub`, `gossipsub`), `encryption` (`secio`, `plaintext`) | `started` `peer` `addr` |
//! | `dial` | `to` | `dialled` `to` |
//! | `ping` | `to`, `count` (3) | `pinged` `to` |
//! | `echo` | `to`, `streams` (1), `bytes` (0) | `echoed` |
//! | `subscribe` | `topic` | `subscribed` |
//! | `publish` | `topic`, `data` | `published` |
//!
//! A command that fails is answered by `error` with `cmd` and `error`. Events without a command: `discovered` `peer`;
//! `connected` `peer` `addrs` `protocols`, after the peer has been identified; `disconnected` `peer`; `subscription`
//! `peer` `topics`; `message` `topic` `from` `data`. The node echoes on `/echo/1.0.0`.

use serde_json::{Value, json};

use super::js::{Node, merge};

/// The node. It stops with the test.
pub struct JsNode {
    node: Node,
    /// Its peer id.
    pub peer: String,
    /// Its full address.
    pub addr: String,
}

impl JsNode {
    /// Starts a node that listens at the rendezvous, with the given `options` of the command `start`.
    pub async fn start(star: &str, options: Value) -> Self {
        let node = Node::spawn("libp2p.js", Node::command("libp2p.js"));
        let mut js = Self {
            node,
            peer: String::new(),
            addr: String::new(),
        };
        let started = js
            .run(
                merge(json!({ "cmd": "start", "addr": star }), options),
                "started",
            )
            .await;
        let text = |key: &str| started[key].as_str().expect("a string").to_owned();
        (js.peer, js.addr) = (text("peer"), text("addr"));
        js
    }

    /// Sends a command, and returns the event that answers it.
    pub async fn run(&self, command: Value, answer: &str) -> Value {
        let event = self.try_run(command, answer).await;
        assert_eq!(event["event"], answer, "{event}");
        event
    }

    /// Sends a command, and returns the event that answers it, or its `error`.
    pub async fn try_run(&self, command: Value, answer: &str) -> Value {
        let cmd = command["cmd"].clone();
        self.node.send(command).await;
        self.node
            .expect_where(&format!("`{answer}` or `error`"), |event| {
                event["event"] == answer || event["event"] == "error" && event["cmd"] == cmd
            })
            .await
    }

    /// Waits for an event about that peer.
    pub async fn expect_of(&self, event: &str, peer: &str) -> Value {
        self.expect_where(event, |value| {
            value["event"] == event && value["peer"] == peer
        })
        .await
    }

    /// Waits for an event that was not returned before. `what` is for the panic message.
    pub async fn expect_where(&self, what: &str, predicate: impl Fn(&Value) -> bool) -> Value {
        self.node.expect_where(what, predicate).await
    }
}
