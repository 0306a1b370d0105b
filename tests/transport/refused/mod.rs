//! Refusals, and how they are reported: each cause has its own error, which names the rendezvous and comes in bounded
//! time.

mod addresses;
mod dials;
mod joins;

use libp2p_websocket_star::{
    Config, Connection,
    error::{DialError, Error, JoinError, LinkError},
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{
    ed25519,
    js::{Peer, Rendezvous},
    raw::Raw,
    scripted::Scripted,
    within,
};

type Dial = JoinHandle<Result<Connection, Error>>;

async fn dialled(dial: Dial) -> Result<Connection, Error> {
    within("a dial", dial).await.expect("no panic")
}

/// Checks that the text of the error starts with the rendezvous' URL and contains `story`.
#[track_caller]
fn tells(error: &Error, url: &str, story: &str) {
    let text = error.to_string();
    assert!(text.starts_with(url) && text.contains(story), "{text}");
}

#[track_caller]
fn dial_error(result: Result<Connection, Error>, url: &str, story: &str) -> DialError {
    let error = result.expect_err("an error");
    tells(&error, url, story);
    match error {
        Error::Dial { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn join_error(error: Error, url: &str, story: &str) -> JoinError {
    tells(&error, url, story);
    match error {
        Error::Join { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn link_error(error: Error, url: &str) -> LinkError {
    tells(&error, url, "");
    match error {
        Error::Link { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

async fn listening(config: Config) -> (Scripted, Raw) {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), config);
    node.listen_on(&server.addr()).expect("a good address");
    (server, node)
}

/// Listens with an ed25519 key: an RSA key takes seconds to make.
async fn js_listen(js: &Peer, star: &Rendezvous) -> String {
    let options = json!({"keyType": "ed25519", "allowDisabledChallenge": true});
    js.try_listen(&star.addr(), options).await.expect("joined")
}

fn url(star: &Rendezvous) -> String {
    format!("ws://127.0.0.1:{}", star.port())
}
