//! What the honest links notice: how often they hear of each other, which addresses a newcomer gets, and how long a
//! dial takes.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    client::Client, crowd::joined, other::Other, plan::Plan, source::Source, spread::Spread,
};

/// The number of links that count announcements.
const OBSERVERS: usize = 4;
/// The number of newcomers that join in a window.
const NEWCOMERS: usize = 10;
/// The pause between two dials. Long enough for the dial rate of a link.
const DIAL_PAUSE: Duration = Duration::from_millis(25);
/// The time within which announcements made together reach all observers.
const TOGETHER: Duration = Duration::from_millis(300);
/// The time after which a dial or a join has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The beginning of an honest address, in an announcement and in a list.
const HONEST: &str = "/ip4/127.0.0.1/tcp/9090/";
const ANNOUNCEMENT: &[u8] = b"42[\"ws-peer\",\"/ip4/127.0.0.1/tcp/9090/";

/// The figures of a window.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// The average number of honest addresses in the list that a newcomer gets.
    pub places: f64,
    /// The seconds between two announcements of the same honest peer.
    pub interval: f64,
    /// The seconds that a newcomer waited for its list.
    pub join: f64,
    /// The seconds that a dial took.
    pub dial: f64,
    /// The number of dials and joins of the honest that failed.
    pub failed: usize,
    /// The processor time of the server, as a fraction of one processor.
    pub cpu: f64,
    /// The resident bytes of the server.
    pub rss: f64,
    /// The number of refused connections per second.
    pub refused: f64,
}

pub struct Watch {
    port: u16,
    plan: Plan,
    heard: Arc<Heard>,
    tasks: Vec<JoinHandle<()>>,
    dialer: Dialer,
    newcomers: usize,
    pub victim: String,
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Watch {
    pub async fn start(plan: Plan, port: u16) -> io::Result<Self> {
        let heard = Arc::new(Heard::default());
        let mut tasks = Vec::new();
        for n in 0..OBSERVERS {
            let link = joined(Source::watcher(n), port).await?;
            let heard = heard.clone();
            tasks.push(tokio::spawn(async move {
                let ended = listen(link, &heard).await;
                eprintln!("an observer has ended: {ended:?}");
            }));
        }
        let victim = joined(Source::watcher(OBSERVERS), port).await?;
        let address = victim.address.clone();
        tasks.push(tokio::spawn(async move {
            let ended = accept_all(victim).await;
            eprintln!("the victim has ended: {ended:?}");
        }));
        let link = joined(Source::watcher(OBSERVERS + 1), port).await?;
        Ok(Self {
            port,
            plan,
            heard,
            tasks,
            dialer: Dialer { link, dials: 0 },
            newcomers: OBSERVERS + 2,
            victim: address,
        })
    }

    /// Watches for one window.
    pub async fn window(&mut self, server: &mut Other) -> io::Result<Figures> {
        let refused = server.ask().await?["refused"].as_f64().unwrap_or_default();
        let (started, before) = (Instant::now(), server.usage());
        self.heard.take();
        let end = started + self.plan.window;
        let first = self.newcomers;
        self.newcomers += NEWCOMERS;
        let pause = self.plan.window / NEWCOMERS as u32;
        let (dialled, told) = tokio::join!(
            self.dialer.dial_until(&self.victim, end),
            newcomers(self.port, first, started, pause)
        );
        let seconds = started.elapsed().as_secs_f64();
        let heard = self.heard.take();
        let after = server.usage();
        let refused = server.ask().await?["refused"].as_f64().unwrap_or_default() - refused;
        let all = self.plan.honest + OBSERVERS + 2;
        let (dials, failed_dials) = dialled?;
        let median = |of: Vec<f64>| Spread::of(of).map_or(f64::INFINITY, |spread| spread.median);
        Ok(Figures {
            places: told.iter().map(|(places, _)| places).sum::<f64>() / NEWCOMERS as f64,
            interval: all as f64 * OBSERVERS as f64 / rate(&heard),
            join: median(told.iter().map(|(_, seconds)| *seconds).collect()),
            dial: median(dials),
            failed: failed_dials + NEWCOMERS - told.len(),
            cpu: (after.cpu - before.cpu) / seconds,
            rss: after.rss,
            refused: refused / seconds,
        })
    }
}

/// The times at which an observer got an announcement of an honest peer.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Instant>>);

impl Heard {
    fn add(&self, at: Instant) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(at);
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the number of announcements per second. They come in groups: those after the first group, up to the last,
/// are divided by the time between the first and the last. So the length of the window does not matter.
fn rate(heard: &[Instant]) -> f64 {
    let (Some(first), Some(last)) = (heard.iter().min(), heard.iter().max()) else {
        return 0.0;
    };
    match heard.iter().filter(|at| **at > *first + TOGETHER).count() {
        0 => 0.0,
        later => later as f64 / last.duration_since(*first).as_secs_f64(),
    }
}

/// Returns the number of honest addresses that each newcomer got, and how long it waited, without the newcomers that
/// failed.
async fn newcomers(port: u16, first: usize, started: Instant, pause: Duration) -> Vec<(f64, f64)> {
    let mut told = Vec::new();
    for n in 0..NEWCOMERS {
        tokio::time::sleep_until(started + pause * n as u32).await;
        let begun = Instant::now();
        let result = timeout(PATIENCE, newcomer(Source::watcher(first + n), port)).await;
        match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(places) => told.push((places, begun.elapsed().as_secs_f64())),
            Err(error) => eprintln!("a newcomer has failed: {error}"),
        }
    }
    told
}

async fn newcomer(source: Source, port: u16) -> io::Result<f64> {
    let stream = source.connect(port).await?;
    let mut client = Client::begin(stream, &source.headers()).await?;
    let key = libp2p_identity::Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let address = format!("/ip4/127.0.0.1/tcp/9091/ws/p2p-websocket-star/ipfs/{peer}");
    let answer = client.join_as(&key, address).await?;
    Ok(answer.matches(HONEST).count() as f64)
}

async fn listen(mut link: Client, heard: &Heard) -> io::Result<()> {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    loop {
        tokio::select! {
            _ = pings.tick() => link.text("2").await?,
            payload = link.next() => {
                if payload?.starts_with(ANNOUNCEMENT) {
                    heard.add(Instant::now());
                }
            }
        }
    }
}

/// Accepts every dial, and ends its own stream when the dialer has ended the other one.
async fn accept_all(mut link: Client) -> io::Result<()> {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    loop {
        let answer = tokio::select! {
            _ = pings.tick() => Some("2".to_owned()),
            payload = link.next() => answer_to(&String::from_utf8_lossy(payload?)),
        };
        if let Some(answer) = answer {
            link.text(&answer).await?;
        }
    }
}

fn answer_to(payload: &str) -> Option<String> {
    let event = payload.strip_prefix("42")?;
    let start = event.find('[')?;
    let (ack, json) = event.split_at_checked(start)?;
    if json.starts_with("[\"ss-incomming\"") {
        return Some(format!("43{ack}[]"));
    }
    let json: Value = serde_json::from_str(json).ok()?;
    let ended = json[0].as_str()?;
    let id = ended
        .strip_prefix("socket.io-pull-stream.error.")?
        .strip_suffix(".dialer")?;
    Some(end_of(&format!("{id}.listener")))
}

fn end_of(stream: &str) -> String {
    format!("42[\"socket.io-pull-stream.error.{stream}\",true]")
}

struct Dialer {
    link: Client,
    dials: usize,
}

impl Dialer {
    /// Returns how long each dial took, and how many failed.
    async fn dial_until(&mut self, to: &str, end: Instant) -> io::Result<(Vec<f64>, usize)> {
        let (mut times, mut failed) = (Vec::new(), 0);
        self.link.text("2").await?;
        while Instant::now() < end {
            let begun = Instant::now();
            match timeout(PATIENCE, self.dial(to)).await {
                Ok(Ok(time)) => times.push(time.as_secs_f64()),
                Ok(Err(error)) if error.kind() != io::ErrorKind::Other => return Err(error),
                Ok(Err(_)) | Err(_) => failed += 1,
            }
            let next = begun + DIAL_PAUSE.max(begun.elapsed());
            while let Ok(read) = tokio::time::timeout_at(next, self.link.next()).await {
                read?;
            }
        }
        Ok((times, failed))
    }

    async fn dial(&mut self, to: &str) -> io::Result<Duration> {
        let id = format!("honest-{}", self.dials);
        self.dials += 1;
        let begun = Instant::now();
        let dial = format!("[\"ss-dial\",\"{}\",\"{to}\",\"{id}\"]", self.link.address);
        let answer = self.link.request(&dial).await?;
        let took = begun.elapsed();
        if !answer.ends_with("[]") {
            return Err(io::Error::other(answer));
        }
        self.link.end(&format!("{id}.dialer")).await?;
        self.link.ended(&format!("{id}.listener")).await?;
        Ok(took)
    }
}
