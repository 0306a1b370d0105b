//! An embedded rendezvous whose application says who may use it.

mod asked;
mod cut_off;
mod later;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_websocket_star::rendezvous::{
    Access, Allowed, Config, Join, Judgement, Refused, Server, Verdict,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::client::{Client, address, config, soon};

async fn serving(access: impl Access) -> Server {
    serving_with(config(), access).await
}

async fn serving_with(config: Config, access: impl Access) -> Server {
    Server::bind(config.with_access(access))
        .await
        .expect("a free port")
}

/// Sends the answer to the challenge; gives the number of the acknowledgement that is to come.
async fn prove(client: &mut Client, key: &Keypair) -> u64 {
    let public = hex::encode(key.public().encode_protobuf());
    let answer = client
        .request(json!(["ss-join", address(key), public]))
        .await;
    let nonce = answer[1].as_str().expect("a nonce");
    let signature = hex::encode(key.sign(nonce.as_bytes()).expect("signs"));
    client.address = address(key);
    client
        .ask(json!(["ss-join", address(key), signature]))
        .await
}

/// Joins; gives the answer.
async fn try_join(client: &mut Client, key: &Keypair) -> Value {
    let ack = prove(client, key).await;
    client.answer(ack).await
}

fn count(server: &Server, reason: Refused) -> u64 {
    server.snapshot().refusals.get(reason)
}

fn key() -> Keypair {
    Keypair::generate_ed25519()
}

fn id(key: &Keypair) -> PeerId {
    key.public().to_peer_id()
}

/// Lets in those who are not banned, and knows who is there.
#[derive(Debug, Clone, Default)]
struct Bans(Arc<Mutex<HashSet<PeerId>>>);

impl Bans {
    fn ban(&self, key: &Keypair) {
        self.0.lock().expect("no panic").insert(id(key));
    }

    fn is_banned(&self, join: &Join) -> bool {
        let banned = self.0.lock().expect("no panic");
        join.peer_ids().any(|id| banned.contains(&id))
    }
}

impl Access for Bans {
    fn judge(&self, join: &Join) -> Judgement {
        match self.is_banned(join) {
            true => Verdict::refuse("you are banned").into(),
            false => Verdict::allow().into(),
        }
    }

    fn still_allows(&self, join: &Join) -> bool {
        !self.is_banned(join)
    }
}

/// Hands each join to the test, which decides.
#[derive(Debug)]
struct Waiting(mpsc::Sender<Ask>);

/// A join that waits for a verdict.
#[derive(Debug)]
struct Ask {
    join: Join,
    reply: oneshot::Sender<Verdict>,
}

impl Waiting {
    fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(1000);
        (Self(sender), asks)
    }
}

impl Access for Waiting {
    fn judge(&self, join: &Join) -> Judgement {
        let (asks, join) = (self.0.clone(), join.clone());
        Judgement::later(async move {
            let (reply, verdict) = oneshot::channel();
            // The test may be over.
            let _ = asks.send(Ask { join, reply }).await;
            verdict
                .await
                .unwrap_or_else(|_| Verdict::refuse("no answer"))
        })
    }

    fn still_allows(&self, _: &Join) -> bool {
        true
    }
}

/// The next join that waits for a verdict.
async fn next(asks: &mut mpsc::Receiver<Ask>) -> Ask {
    soon("a join", asks.recv()).await.expect("a server")
}

/// Decides about a join with a closure.
struct Deciding<F>(F);

impl<F> std::fmt::Debug for Deciding<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deciding").finish_non_exhaustive()
    }
}

impl<F: Fn(&Join) -> Verdict + Send + Sync + 'static> Access for Deciding<F> {
    fn judge(&self, join: &Join) -> Judgement {
        (self.0)(join).into()
    }

    fn still_allows(&self, join: &Join) -> bool {
        (self.0)(join).is_allowed()
    }
}

fn allowed() -> Allowed {
    Allowed::default()
}
