//! The honest clients: each has a link, has joined one address, and listens.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p_identity::Keypair;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    client::{Client, ORDINARY},
    other,
    plan::Plan,
    source::Source,
};

/// The number of clients that join at a time.
const AT_A_TIME: usize = 64;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const READ: usize = 16 * 1024;

/// Joins all clients, and then reports how many links were lost.
pub async fn run(plan: Plan, port: u16) -> io::Result<()> {
    let lost = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(Semaphore::new(AT_A_TIME));
    let mut tasks = JoinSet::new();
    for n in 0..plan.honest {
        let source = Source::honest(n % plan.origins());
        let (slots, lost) = (slots.clone(), lost.clone());
        tasks.spawn(async move {
            let _slot = slots.acquire().await.map_err(io::Error::other)?;
            let client = joined(source, port).await?;
            tokio::spawn(async move {
                if stay(client).await.is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            });
            io::Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(io::Error::other)??;
    }
    other::tell(|| json!({ "lost": lost.load(Ordering::Relaxed) })).await
}

/// Joins with a new peer on a new link.
pub async fn joined(source: Source, port: u16) -> io::Result<Client> {
    let stream = source.connect(port).await?;
    let mut client = Client::begin(stream, &source.headers()).await?;
    client.join(&Keypair::generate_ed25519(), ORDINARY).await?;
    Ok(client)
}

/// Reads everything until the link is lost.
pub async fn stay(mut client: Client) -> io::Result<()> {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    let mut buffer = vec![0; READ];
    loop {
        tokio::select! {
            _ = pings.tick() => client.text("2").await?,
            read = client.skip(&mut buffer) => {
                read?;
            }
        }
    }
}
