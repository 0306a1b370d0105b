//! The access rules of a rendezvous, as its operator sets them. Tested over the wire with npm's client and ours.

mod admin;
mod callout;
mod lists;
mod service;
mod tokens;

use libp2p::{
    core::transport::TransportEvent::{AddressExpired, ListenerClosed, ListenerError, NewAddress},
    identity::Keypair,
};
use libp2p_websocket_star::error::{Error, JoinError};
use serde_json::json;

use crate::support::{
    address,
    binary::{Binary, http, value},
    certificates::{Folder, text},
    ed25519, embedded, hasty,
    js::Peer,
    raw::Raw,
};

/// A list in a file of its own.
pub struct List {
    folder: Folder,
}

impl List {
    pub fn new(lines: &[String]) -> Self {
        let list = Self {
            folder: Folder::new(),
        };
        list.write(lines);
        list
    }

    pub fn path(&self) -> String {
        text(&self.folder.path("list"))
    }

    /// Replaces the whole file at once.
    pub fn write(&self, lines: &[String]) {
        self.folder.replace("list", lines.join("\n"));
    }
}

/// Returns a node and its peer id.
pub fn node() -> (Raw, String) {
    let key = ed25519();
    (Raw::with(&key, hasty()), id(&key))
}

/// Returns a node that shows this token to a rendezvous.
fn showing(token: &str, addr: &str) -> Raw {
    showing_with(&ed25519(), token, addr)
}

fn showing_with(key: &Keypair, token: &str, addr: &str) -> Raw {
    let addr = addr.parse().expect("a multiaddr");
    let config = hasty().with_token(addr, token).expect("on this machine");
    Raw::with(key, config)
}

fn id(key: &Keypair) -> String {
    key.public().to_peer_id().to_base58()
}

/// Returns an npm client and its peer id. The client gets its id only with its first join, so it joins another
/// rendezvous first.
pub async fn npm() -> (Peer, String) {
    let peer = Peer::start();
    let elsewhere = embedded().await;
    let ed25519 = json!({"keyType": "ed25519"});
    let addr = peer.try_listen(&address(&elsewhere), ed25519).await;
    let addr = addr.expect("everybody is let in there");
    peer.close().await;
    let (_, id) = addr.rsplit_once('/').expect("an id");
    (peer, id.to_owned())
}

/// Returns the reason with which a rendezvous refused a join.
#[track_caller]
fn refusal(error: Error) -> (String, JoinError) {
    match error {
        Error::Join { error, .. } => match &error {
            JoinError::Refused(words) => (words.clone(), error),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Returns the reason with which a listener was refused for good.
async fn refused(node: &mut Raw, addr: &str) -> String {
    node.listen_on(addr).expect("a good address");
    closed(node).await
}

/// Returns the reason with which a listener is closed. Skips all events before that.
pub async fn closed(node: &mut Raw) -> String {
    loop {
        match node.event().await {
            ListenerClosed { reason, .. } => {
                let (words, error) = refusal(reason.expect_err("an error"));
                assert!(error.is_permanent());
                return words;
            }
            NewAddress { .. } => panic!("it was let in"),
            _ => {}
        }
    }
}

/// Waits until a node that has joined is told that it may not stay.
pub async fn cut_off(node: &mut Raw) {
    loop {
        match node.event().await {
            AddressExpired { .. } => {}
            ListenerError { error, .. } => {
                let told = error.to_string();
                let expected = "you are no longer allowed here";
                assert!(told.ends_with(expected), "{told}");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the reason with which a new listener was refused for a while.
async fn refused_for_now(node: &mut Raw, addr: &str) -> String {
    node.listen_on(addr).expect("a good address");
    for_now(node).await
}

/// Returns the reason with which an existing listener was refused for a while.
async fn for_now(node: &mut Raw) -> String {
    loop {
        match node.event().await {
            ListenerError { error, .. } => {
                let (words, error) = refusal(error);
                assert!(!error.is_permanent() && error.retry_after().is_some());
                return words;
            }
            NewAddress { .. } => panic!("it was let in"),
            ListenerClosed { reason, .. } => panic!("{reason:?}"),
            _ => {}
        }
    }
}

/// Returns a value from the metrics of the binary.
async fn metric(star: &Binary, name: &str) -> u64 {
    let metrics = http(star.local_addr(), "GET", "/metrics", "x").await;
    value(&metrics, name)
}

async fn refusals(star: &Binary, reason: &str) -> u64 {
    let name = format!("rendezvous_refusals_total{{reason=\"{reason}\"}}");
    metric(star, &name).await
}

/// Returns one of the binary's access counters, for example how often a rule `by` allowed or refused a join.
async fn counted(star: &Binary, name: &str, by: &str) -> u64 {
    let name = format!("rendezvous_access_{name}_total{{by=\"{by}\"}}");
    metric(star, &name).await
}
