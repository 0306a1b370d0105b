//! Two JavaScript clients and the npm rendezvous. Only if they are installed.

use std::path::Path;

use serde_json::{Value, json};

use super::place::Place;
use crate::Result;

#[path = "../../../tests/support/js.rs"]
mod support;

pub use support::Rendezvous;
use support::{Peer, RendezvousOptions};

/// Returns why JavaScript is not available; `None` if it is.
pub fn missing() -> Option<&'static str> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js/node_modules");
    if !modules.join(".package-lock.json").exists() {
        return Some("not installed: npm ci --prefix tests/js");
    }
    let node = std::process::Command::new("node").arg("--version").output();
    node.is_err().then_some("no Node.js")
}

pub async fn rendezvous() -> Rendezvous {
    Rendezvous::start(RendezvousOptions::default()).await
}

/// A JavaScript dialer and a JavaScript listener, each in a process of its own.
pub struct Pair {
    dialer: Peer,
    listener: Peer,
    to: String,
}

impl Pair {
    pub async fn start(via: &Place) -> Self {
        let via = &via.address;
        let (dialer, listener) = (Peer::start(), Peer::start());
        let to = listener.listen(via).await;
        dialer.listen(via).await;
        Self {
            dialer,
            listener,
            to,
        }
    }

    /// Makes the dialer measure `what`, with the listener in the mode `incoming`.
    pub async fn measure(&self, incoming: &str, what: &str, mut options: Value) -> Result<Value> {
        self.listener.mode(incoming, json!({ "hash": false })).await;
        options["what"] = json!([what]);
        Ok(self.dialer.measure(&self.to, options).await)
    }
}
