//! Many dials, joins and leaves: whether the server leaks memory.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p_identity::Keypair;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Client, ORDINARY},
    process::{Kind, Rendezvous},
};

/// The number of clients, or pairs of clients, that work at a time.
const AT_A_TIME: usize = 25;
/// The number of joins on one link before the link is replaced by a new one.
const JOINS_PER_LINK: usize = 4;
/// The extra time allowed for operations that began before the deadline.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Dials,
    Joins,
}

#[derive(Debug)]
pub struct Figures {
    /// The number of repetitions done in the available time.
    pub done: usize,
    /// The resident bytes before, after the first half, and after the second half.
    pub rss: [f64; 3],
    /// The bytes that each repetition of the second half has left behind.
    pub kept: f64,
    pub cpu: f64,
    /// A summary of what the server still holds, if it reports that.
    pub left: String,
}

/// Repeats the work `times` times, or fewer if the time limit of a half runs out. Dialling clients keep their links
/// for the whole run: the end of a link would free everything kept for it, and hide a leak that matters on a server
/// that runs for months.
pub async fn measure(kind: Kind, work: Work, times: usize, limit: Duration) -> io::Result<Figures> {
    let mut server = Rendezvous::start(kind).await?;
    let mut pairs = Vec::new();
    if work == Work::Dials {
        for _ in 0..AT_A_TIME {
            let dialer = Client::joined(server.addr, ORDINARY).await?;
            pairs.push((dialer, Client::joined(server.addr, ORDINARY).await?));
        }
    }
    // Not measured: memory that any first use allocates once.
    churn(&server, &mut pairs, work, times / 20, limit).await?;
    let before = server.usage();
    let mut rss = [before.rss; 3];
    let mut held = [0.0; 2];
    let mut done = [0; 2];
    for half in 0..2 {
        done[half] = churn(&server, &mut pairs, work, times / 2, limit).await?;
        // The server may not have removed the last streams and links yet.
        tokio::time::sleep(Duration::from_secs(1)).await;
        rss[half + 1] = server.usage().rss;
        held[half] = server.held().await?;
    }
    let left = server.snapshot().await;
    Ok(Figures {
        done: done[0] + done[1],
        rss,
        kept: (held[1] - held[0]) / done[1] as f64,
        cpu: server.usage().cpu - before.cpu,
        left: left.map_or("unknown".to_owned(), |left| {
            let of = |name: &str| left[name].as_u64().unwrap_or(u64::MAX);
            let [links, dials, queued] = ["links", "dials", "queued"].map(of);
            format!("{links} links, {dials} dials, {queued} bytes")
        }),
    })
}

/// A dialer and its listener.
type Pair = (Client, Client);

/// The number of repetitions to do, their deadline, and a counter of those done.
#[derive(Debug, Clone)]
struct Turns {
    times: usize,
    deadline: Instant,
    done: Arc<AtomicUsize>,
}

impl Turns {
    fn is_time(&self) -> bool {
        Instant::now() < self.deadline
    }

    fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the number of repetitions done.
async fn churn(
    server: &Rendezvous,
    pairs: &mut Vec<Pair>,
    work: Work,
    times: usize,
    limit: Duration,
) -> io::Result<usize> {
    let turns = Turns {
        times: times / AT_A_TIME,
        deadline: Instant::now() + limit,
        done: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    match work {
        Work::Dials => {
            for pair in pairs.drain(..) {
                tasks.spawn(dials(pair, turns.clone()));
            }
        }
        Work::Joins => {
            for _ in 0..AT_A_TIME {
                tasks.spawn(joins(server.addr, turns.clone()));
            }
        }
    }
    while let Ok(Some(ended)) = timeout_at(turns.deadline + GRACE, tasks.join_next()).await {
        pairs.extend(ended.map_err(io::Error::other)??);
    }
    match tasks.len() {
        0 => Ok(turns.done.load(Ordering::Relaxed)),
        n => Err(io::Error::other(format!(
            "{n} clients have not ended in time"
        ))),
    }
}

async fn dials((mut dialer, mut listener): Pair, turns: Turns) -> io::Result<Option<Pair>> {
    static DIAL: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..turns.times {
        if !turns.is_time() {
            break;
        }
        let id = DIAL.fetch_add(1, Ordering::Relaxed).to_string();
        dial_and_end(&mut dialer, &mut listener, &id).await?;
        turns.count();
    }
    Ok(Some((dialer, listener)))
}

async fn joins(server: SocketAddr, turns: Turns) -> io::Result<Option<Pair>> {
    for _ in 0..turns.times / JOINS_PER_LINK {
        if !turns.is_time() {
            break;
        }
        let mut client = Client::connect(server).await?;
        for _ in 0..JOINS_PER_LINK {
            client.join(&Keypair::generate_ed25519(), ORDINARY).await?;
            client.leave().await?;
            turns.count();
        }
    }
    Ok(None)
}

async fn dial_and_end(dialer: &mut Client, listener: &mut Client, id: &str) -> io::Result<()> {
    dialer.dial(listener, id).await?;
    let streams = [format!("{id}.dialer"), format!("{id}.listener")];
    dialer.end(&streams[0]).await?;
    listener.ended(&streams[0]).await?;
    listener.end(&streams[1]).await?;
    dialer.ended(&streams[1]).await
}
