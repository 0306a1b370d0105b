//! Idle links: what they cost to open, to keep, and to tell of a newcomer.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::{
    client::{Client, FIRST_TAG, Heard, ORDINARY},
    process::{Kind, Rendezvous},
};

/// How many links join at a time.
const JOINING: usize = 64;
const NEWCOMERS: u16 = 7;
/// The npm server may take long: it writes n² messages every 10 s.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Figures {
    pub kind: Kind,
    pub links: usize,
    /// Joins a second until the last one was answered.
    pub join_rate: f64,
    /// Processor seconds until all joins were answered and announced.
    pub join_cpu: f64,
    pub announced: u64,
    /// From a newcomer's answer to the last of the others that hears of it: median and worst.
    pub known: [Option<Duration>; 2],
    /// Percent of a processor.
    pub rest_cpu: f64,
    pub rss_per_link: f64,
}

pub async fn measure(kind: Kind, links: usize, rest: Duration) -> io::Result<Figures> {
    let server = Rendezvous::start(kind).await?;
    // What the first links need once.
    drop(Client::joined(server.addr, ORDINARY).await?);
    let before = server.usage();
    let heard = Arc::new(Heard::new());
    let started = Instant::now();
    let mut idle = join_all(&server, links, &heard).await?;
    let join_rate = links as f64 / started.elapsed().as_secs_f64();
    server.calm().await;
    let join_cpu = server.usage().cpu - before.cpu;
    let announced = heard.announcements.load(Ordering::Relaxed);

    let mut known = Vec::new();
    for port in (FIRST_TAG..).take(usize::from(NEWCOMERS)) {
        // Alone: those that come within a few milliseconds are announced together.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let newcomer = Client::joined(server.addr, port).await?;
        let joined = Instant::now();
        let all = heard.tagged(port, links + usize::from(port - FIRST_TAG));
        known.push(
            tokio::time::timeout(PATIENCE, all)
                .await
                .ok()
                .map(|()| joined.elapsed()),
        );
        let heard = heard.clone();
        idle.spawn(async move { newcomer.idle(&heard).await });
    }
    // `None`, never, is the longest.
    known.sort_by_key(|time| time.unwrap_or(Duration::MAX));

    server.calm().await;
    let resting = (Instant::now(), server.usage().cpu);
    tokio::time::sleep(rest).await;
    let usage = server.usage();
    let rest_cpu = (usage.cpu - resting.1) / resting.0.elapsed().as_secs_f64() * 100.0;
    let count = links + usize::from(NEWCOMERS);
    Ok(Figures {
        kind,
        links,
        join_rate,
        join_cpu,
        announced,
        known: [known[known.len() / 2], known[known.len() - 1]],
        rest_cpu,
        rss_per_link: (usage.rss - before.rss) / count as f64,
    })
}

/// Opens all links; they last as long as what is returned.
async fn join_all(
    server: &Rendezvous,
    links: usize,
    heard: &Arc<Heard>,
) -> io::Result<JoinSet<()>> {
    let turns = Arc::new(Semaphore::new(JOINING));
    let (done, mut joined) = mpsc::channel(links);
    let mut idle = JoinSet::new();
    for _ in 0..links {
        let (turns, addr) = (turns.clone(), server.addr);
        let (heard, done) = (heard.clone(), done.clone());
        idle.spawn(async move {
            let turn = turns.acquire().await;
            let client = Client::joined(addr, ORDINARY).await;
            drop(turn);
            // There is room for all, and if nobody listens, then one of the others has failed.
            match client {
                Ok(client) => {
                    let _ = done.try_send(Ok(()));
                    client.idle(&heard).await;
                }
                Err(error) => drop(done.try_send(Err(error))),
            }
        });
    }
    for _ in 0..links {
        joined.recv().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    }
    Ok(idle)
}
