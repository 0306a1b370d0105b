//! Idle links: the cost of opening them, of keeping them, and of announcing a newcomer to them.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    client::{FIRST_TAG, Heard, ORDINARY},
    process::{Kind, Rendezvous},
};

/// The number of links that join at a time.
const JOINING: usize = 64;

/// The load for a server, and the time limits. The npm server writes n² messages every 10 s; with many links it does
/// nothing else.
#[derive(Debug)]
pub struct Plan {
    pub links: usize,
    newcomers: u16,
    /// The time limit for all joins. Links that have not joined by then are left out.
    joining: Duration,
    /// The time limit for a newcomer to join, and again for it to become known.
    patience: Duration,
    /// The maximum number of seconds for the server to come to rest.
    calm: u32,
    rest: Duration,
}

impl Plan {
    pub fn new(kind: Kind, links: usize, rest: Duration) -> Self {
        let (newcomers, joining, calm) = match kind {
            Kind::Ours | Kind::OursTls | Kind::OursListed => (7, 300, 60),
            Kind::Npm => (1, 60, 10),
        };
        Self {
            links,
            newcomers,
            joining: Duration::from_secs(joining),
            patience: Duration::from_secs(30),
            calm,
            rest,
        }
    }
}

#[derive(Debug)]
pub struct Figures {
    /// The number of links that joined in time.
    pub joined: usize,
    /// Joins per second, until the last one was answered.
    pub join_rate: f64,
    /// Seconds of processor time until all joins were answered and announced.
    pub join_cpu: f64,
    pub announced: u64,
    /// The time from the answer to a newcomer until the last of the other links hears of it: median and worst.
    pub known: [Option<Duration>; 2],
    /// The server's use of a processor at rest, in percent.
    pub rest_cpu: f64,
    pub rss_per_link: f64,
}

pub async fn measure(kind: Kind, plan: &Plan) -> io::Result<Figures> {
    let server = Rendezvous::start(kind).await?;
    // Memory that the first links allocate once is not counted.
    drop(server.place.joined(ORDINARY).await?);
    let before = server.usage();
    let heard = Arc::new(Heard::new());
    let started = Instant::now();
    let (mut idle, joined) = join_all(&server, plan, &heard).await?;
    let join_rate = joined as f64 / started.elapsed().as_secs_f64();
    server.calm(plan.calm).await;
    let join_cpu = server.usage().cpu - before.cpu;
    let announced = heard.announcements.load(Ordering::Relaxed);

    let known = newcomers(&server, plan, joined, &heard, &mut idle).await?;
    server.calm(plan.calm).await;
    let resting = (Instant::now(), server.usage().cpu);
    tokio::time::sleep(plan.rest).await;
    let usage = server.usage();
    let rest_cpu = (usage.cpu - resting.1) / resting.0.elapsed().as_secs_f64() * 100.0;
    Ok(Figures {
        joined,
        join_rate,
        join_cpu,
        announced,
        known: [known[known.len() / 2], known[known.len() - 1]],
        rest_cpu,
        rss_per_link: (usage.rss - before.rss) / idle.len() as f64,
    })
}

/// Opens all links. They last as long as the returned tasks. Also returns the number of links that joined.
async fn join_all(
    server: &Rendezvous,
    plan: &Plan,
    heard: &Arc<Heard>,
) -> io::Result<(JoinSet<()>, usize)> {
    let turns = Arc::new(Semaphore::new(JOINING));
    let deadline = Instant::now() + plan.joining;
    let (done, mut joined) = mpsc::channel(plan.links);
    let mut idle = JoinSet::new();
    for _ in 0..plan.links {
        let (turns, place) = (turns.clone(), server.place.clone());
        let (heard, done) = (heard.clone(), done.clone());
        idle.spawn(async move {
            let join = async {
                let _turn = turns.acquire().await;
                place.joined(ORDINARY).await
            };
            let client = match timeout_at(deadline, join).await {
                Ok(Ok(client)) => client,
                // The channel has room for all results. If the receiver is gone, another join has already failed.
                Ok(Err(error)) => return drop(done.try_send(Err(error))),
                Err(_) => return,
            };
            let _ = done.try_send(Ok(()));
            // Otherwise the receiver would wait until the link ends.
            drop(done);
            client.idle(&heard).await;
        });
    }
    drop(done);
    let mut count = 0;
    while let Some(joined) = joined.recv().await {
        joined?;
        count += 1;
    }
    // Remove the tasks of the links that did not join in time.
    while idle.try_join_next().is_some() {}
    Ok((idle, count))
}

/// Returns the times until all links knew each newcomer, the shortest first; `None` means never.
async fn newcomers(
    server: &Rendezvous,
    plan: &Plan,
    joined: usize,
    heard: &Arc<Heard>,
    idle: &mut JoinSet<()>,
) -> io::Result<Vec<Option<Duration>>> {
    let mut known = Vec::new();
    for n in 0..plan.newcomers {
        // Join each newcomer alone: peers that join within a few milliseconds are announced together.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let port = FIRST_TAG + n;
        let Ok(newcomer) = timeout(plan.patience, server.place.joined(port)).await else {
            known.push(None);
            continue;
        };
        let (newcomer, joining) = (newcomer?, Instant::now());
        let others = joined + known.iter().flatten().count();
        let all = timeout(plan.patience, heard.tagged(port, others)).await;
        known.push(all.ok().map(|()| joining.elapsed()));
        let heard = heard.clone();
        idle.spawn(async move { newcomer.idle(&heard).await });
    }
    // Sort `None` as the longest time.
    known.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    Ok(known)
}
