//! Idle links: what they cost to open, to keep, and to tell of a newcomer.

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

/// How many links join at a time.
const JOINING: usize = 64;

/// What is asked of a server, and how long it is waited for. The npm server writes n² messages every
/// 10 s, and with many links does nothing else any more.
#[derive(Debug)]
pub struct Plan {
    pub links: usize,
    newcomers: u16,
    /// How long all joins may take; those that are not there by then are left out.
    joining: Duration,
    /// How long a newcomer may take to join, and as long again to become known.
    patience: Duration,
    /// How many seconds the server may take to come to rest.
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
    /// How many links were there in time.
    pub joined: usize,
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

pub async fn measure(kind: Kind, plan: &Plan) -> io::Result<Figures> {
    let server = Rendezvous::start(kind).await?;
    // What the first links need once.
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

/// Opens all links; they last as long as what is returned. The number is that of those that have joined.
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
                // There is room for all, and if nobody listens, then one of the others has failed.
                Ok(Err(error)) => return drop(done.try_send(Err(error))),
                Err(_) => return,
            };
            let _ = done.try_send(Ok(()));
            // Or it would be waited for as long as the link is there.
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
    // Those that came too late.
    while idle.try_join_next().is_some() {}
    Ok((idle, count))
}

/// How long each newcomer took to become known to all, the quickest first; `None` is never.
async fn newcomers(
    server: &Rendezvous,
    plan: &Plan,
    joined: usize,
    heard: &Arc<Heard>,
    idle: &mut JoinSet<()>,
) -> io::Result<Vec<Option<Duration>>> {
    let mut known = Vec::new();
    for n in 0..plan.newcomers {
        // Alone: those that come within a few milliseconds are announced together.
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
    // `None` is the longest.
    known.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    Ok(known)
}
