//! Dials, joins and leaves without end: is there anything left of them?

use std::{io, time::Duration};

use libp2p_identity::Keypair;
use tokio::task::JoinSet;

use crate::{
    client::{Client, ORDINARY},
    process::{Kind, Rendezvous},
};

/// How many clients, or pairs of them, are at it at a time.
const AT_A_TIME: usize = 25;
/// A join in so many is on a new link, and the old one is cut.
const JOINS_PER_LINK: usize = 4;

#[derive(Debug)]
pub struct Figures {
    pub rss: [f64; 3],
    pub cpu: f64,
    /// What the server itself has left, if it tells.
    pub left: String,
}

pub async fn measure(kind: Kind, dials: bool, times: usize) -> io::Result<Figures> {
    let mut server = Rendezvous::start(kind).await?;
    // Not counted: what any use at all allocates, once.
    churn(&server, dials, times / 20).await?;
    let before = server.usage();
    let mut rss = [before.rss; 3];
    for half in rss.iter_mut().skip(1) {
        churn(&server, dials, times / 2).await?;
        // The npm server collects its garbage a while later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        *half = server.usage().rss;
    }
    let left = server.snapshot().await;
    Ok(Figures {
        rss,
        cpu: server.usage().cpu - before.cpu,
        left: left.map_or("untold".to_owned(), |left| {
            let of = |name: &str| left[name].as_u64().unwrap_or(u64::MAX);
            let [links, dials, queued] = ["links", "dials", "queued"].map(of);
            format!("{links} links, {dials} dials, {queued} bytes")
        }),
    })
}

async fn churn(server: &Rendezvous, dials: bool, times: usize) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let addr = server.addr;
    for n in 0..AT_A_TIME {
        let times = times / AT_A_TIME;
        if dials {
            tasks.spawn(async move {
                let mut dialer = Client::joined(addr, ORDINARY).await?;
                let mut listener = Client::joined(addr, ORDINARY).await?;
                for dial in 0..times {
                    let id = format!("{n}-{dial}");
                    dial_and_end(&mut dialer, &mut listener, &id).await?;
                }
                io::Result::Ok(())
            });
        } else {
            tasks.spawn(async move {
                for _ in 0..times / JOINS_PER_LINK {
                    let mut client = Client::connect(addr).await?;
                    for _ in 0..JOINS_PER_LINK {
                        client.join(&Keypair::generate_ed25519(), ORDINARY).await?;
                        client.leave().await?;
                    }
                }
                Ok(())
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn dial_and_end(dialer: &mut Client, listener: &mut Client, id: &str) -> io::Result<()> {
    dialer.dial(listener, id).await?;
    let streams = [format!("{id}.dialer"), format!("{id}.listener")];
    dialer.end(&streams[0]).await?;
    listener.ended(&streams[0]).await?;
    listener.end(&streams[1]).await?;
    dialer.ended(&streams[1]).await
}
