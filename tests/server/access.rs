//! An embedded rendezvous whose application decides who may use it.

mod asked;
mod cut_off;
mod later;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_websocket_star::rendezvous::{
    Access, AccessCount, Config, Join, Judgement, Refused, Server, Verdict,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::client::{Client, config, soon};

async fn serving(access: impl Access) -> Server {
    serving_with(config(), access).await
}

async fn serving_with(config: Config, access: impl Access) -> Server {
    Server::bind(config.with_access(access))
        .await
        .expect("a free port")
}

/// Joins, and returns the answer.
async fn try_join(client: &mut Client, key: &Keypair) -> Value {
    let ack = client.prove(key).await;
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

/// An access rule that allows every peer that is not banned.
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

/// An access rule that hands each join to the test, which decides.
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

/// Returns the next join that waits for a verdict.
async fn next(asks: &mut mpsc::Receiver<Ask>) -> Ask {
    soon("a join", asks.recv()).await.expect("a server")
}

/// Returns two clients that wait for a verdict, each with the id of its acknowledgement and its join.
async fn waiting(
    server: &Server,
    keys: [&Keypair; 2],
    asks: &mut mpsc::Receiver<Ask>,
) -> Vec<(Client, u64, Ask)> {
    let mut clients = Vec::new();
    for key in keys {
        let mut client = Client::connect(server).await;
        let ack = client.prove(key).await;
        clients.push((client, ack, next(asks).await));
    }
    clients
}

/// Lets the test decide about each join, and checks the bans after that.
#[derive(Debug)]
struct Slow(Waiting, Bans);

impl Access for Slow {
    fn judge(&self, join: &Join) -> Judgement {
        self.0.judge(join)
    }

    fn still_allows(&self, join: &Join) -> bool {
        self.1.still_allows(join)
    }

    fn counts(&self) -> Vec<AccessCount> {
        let help = "what a test counts";
        vec![
            AccessCount::new("asked", help, "test", 7),
            AccessCount::new("lists", help, "", 3),
        ]
    }
}

/// An access rule that decides with a closure.
pub struct Deciding<F>(pub F);

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
