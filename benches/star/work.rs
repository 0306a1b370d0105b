//! What is measured of a subject.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    future::{join, try_join_all},
};
use serde_json::json;

use crate::{
    Result,
    lineup::{Peers, Subject},
    plan::Plan,
    process,
    serve::{self, CHUNK, Request},
    subjects::{Dialer, Stream, js},
};

const SMALL: usize = 1024;
const PING: usize = 64;
const WARM_UP_PINGS: usize = 50;
pub const MIB: f64 = (1024 * 1024) as f64;
const GIB: f64 = 1024.0 * MIB;

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    Bulk,
    Small,
    Echo,
    RttP50,
    RttP99,
    Dial,
    Many,
    Share,
    CpuClients,
    CpuServer,
}

/// One measurement, which may give several figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Bulk,
    Small,
    Echo,
    RoundTrips,
    Dial,
    Many,
    Cpu,
}

impl Work {
    pub const ALL: [Self; 7] = [
        Self::Bulk,
        Self::Small,
        Self::Echo,
        Self::RoundTrips,
        Self::Dial,
        Self::Many,
        Self::Cpu,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Small => "small",
            Self::Echo => "echo",
            Self::RoundTrips => "rtt",
            Self::Dial => "dial",
            Self::Many => "many",
            Self::Cpu => "cpu",
        }
    }
}

type Figures = Vec<(Metric, f64)>;

/// Measures once. Nothing if that work makes no sense for the subject.
pub async fn measure(subject: &Subject, work: Work, plan: &Plan) -> Result<Figures> {
    match (&subject.peers, work) {
        _ if !subject.id.does(work) => Ok(Vec::new()),
        (Peers::Missing(_), _) => Ok(Vec::new()),
        (Peers::Js(pair), work) => measure_js(pair, work, plan).await,
        (Peers::Rust(peers), Work::Cpu) => {
            let peers = subject.apart.as_ref().unwrap_or(peers);
            cpu(&peers.dialer, plan, subject.server).await
        }
        (Peers::Rust(peers), work) => measure_rust(&peers.dialer, work, plan).await,
    }
}

async fn measure_rust(dialer: &Dialer, work: Work, plan: &Plan) -> Result<Figures> {
    Ok(match work {
        Work::Bulk => {
            let took = send(dialer, plan.bulk, CHUNK, false).await?;
            vec![(Metric::Bulk, rate(plan.bulk, took))]
        }
        Work::Small => {
            let took = send(dialer, plan.small, SMALL, true).await?;
            vec![(Metric::Small, rate(plan.small, took))]
        }
        Work::Echo => {
            let took = echo(dialer, plan.echo).await?;
            vec![(Metric::Echo, rate(plan.echo, took))]
        }
        Work::RoundTrips => {
            let mut times = round_trips(dialer, plan.pings).await?;
            vec![
                (Metric::RttP50, percentile(&mut times, 0.5)),
                (Metric::RttP99, percentile(&mut times, 0.99)),
            ]
        }
        Work::Dial => {
            let mut times = Vec::with_capacity(plan.dials);
            for _ in 0..plan.dials {
                times.push(dialer.dial().await?.as_secs_f64() * 1e3);
            }
            vec![(Metric::Dial, percentile(&mut times, 0.5))]
        }
        Work::Many => {
            let (total, share) = many(dialer, plan).await?;
            vec![(Metric::Many, total), (Metric::Share, share)]
        }
        Work::Cpu => Vec::new(),
    })
}

async fn measure_js(pair: &js::Pair, work: Work, plan: &Plan) -> Result<Figures> {
    let (metric, incoming, what, field, options) = match work {
        Work::Bulk => {
            let options = json!({ "mib": plan.js >> 20 });
            (Metric::Bulk, "sink", "oneway", "onewayMiBs", options)
        }
        Work::Small => {
            let options = json!({ "mib": (plan.small >> 22).max(1), "chunk": SMALL });
            (Metric::Small, "sink", "oneway", "onewayMiBs", options)
        }
        Work::Echo => {
            let options = json!({ "mib": plan.js >> 20 });
            (Metric::Echo, "echo", "echo", "echoMiBs", options)
        }
        Work::RoundTrips => {
            let options = json!({ "pings": plan.pings });
            (Metric::RttP50, "echo", "rtt", "rttP50Us", options)
        }
        Work::Dial => {
            let options = json!({ "dials": plan.dials });
            (Metric::Dial, "echo", "dial", "dialMs", options)
        }
        Work::Many | Work::Cpu => return Ok(Vec::new()),
    };
    let measured = pair.measure(incoming, what, options).await?;
    let figure = |field: &str| measured[field].as_f64().ok_or("no figure");
    let mut figures = vec![(metric, figure(field)?)];
    if work == Work::RoundTrips {
        figures.push((Metric::RttP99, figure("rttP99Us")?));
    }
    Ok(figures)
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / MIB / took.as_secs_f64()
}

fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * p) as usize).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// From the first write until the other end has read it all and ended its own direction.
async fn send(dialer: &Dialer, bytes: usize, chunk: usize, flush: bool) -> Result<Duration> {
    let mut stream = dialer.open(Request::Sink(0)).await?;
    let data = vec![0x5a; chunk];
    let started = Instant::now();
    for _ in 0..bytes / chunk {
        stream.write_all(&data).await?;
        if flush {
            stream.flush().await?;
        }
    }
    close(&mut stream).await?;
    Ok(started.elapsed())
}

async fn close(stream: &mut Stream) -> Result<()> {
    stream.close().await?;
    let mut rest = [0; 1];
    match stream.read(&mut rest).await? {
        0 => Ok(()),
        _ => Err("bytes that nobody sent".into()),
    }
}

/// Until all has come back.
async fn echo(dialer: &Dialer, bytes: usize) -> Result<Duration> {
    let stream = dialer.open(Request::Echo).await?;
    let (mut reader, mut writer) = stream.split();
    let data = vec![0x5a; CHUNK];
    let started = Instant::now();
    let write = async {
        for _ in 0..bytes / CHUNK {
            writer.write_all(&data).await?;
        }
        writer.close().await
    };
    let read = async {
        let mut buffer = vec![0; CHUNK];
        let mut read = 0;
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok::<_, std::io::Error>(read),
                n => read += n,
            }
        }
    };
    let (written, read) = join(write, read).await;
    written?;
    let took = started.elapsed();
    match read? {
        read if read == bytes => Ok(took),
        read => Err(format!("{read} bytes came back instead of {bytes}").into()),
    }
}

/// One after the other, in microseconds.
async fn round_trips(dialer: &Dialer, pings: usize) -> Result<Vec<f64>> {
    let mut stream = dialer.open(Request::Echo).await?;
    let mut ping = [7; PING];
    let mut times = Vec::with_capacity(pings);
    for n in 0..pings + WARM_UP_PINGS {
        let started = Instant::now();
        stream.write_all(&ping).await?;
        stream.flush().await?;
        stream.read_exact(&mut ping).await?;
        if n >= WARM_UP_PINGS {
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
    }
    close(&mut stream).await?;
    Ok(times)
}

/// What all streams together take in a window of time, and the smallest share divided by the largest.
/// It is counted where it is read, so that nothing in a buffer on the way is taken for delivered.
async fn many(dialer: &Dialer, plan: &Plan) -> Result<(f64, f64)> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut counters = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..plan.streams {
        let number = next_counter();
        let stream = dialer.open(Request::Sink(number)).await?;
        counters.push(serve::counter(number));
        writers.push(write_until(stream, stop.clone()));
    }
    let read = || -> Vec<u64> {
        let count = |counter: &Arc<AtomicU64>| counter.load(Ordering::Relaxed);
        counters.iter().map(count).collect()
    };
    let watch = async {
        // Until the buffers on the way are full.
        tokio::time::sleep(plan.window / 3).await;
        let (before, started) = (read(), Instant::now());
        tokio::time::sleep(plan.window).await;
        let (after, took) = (read(), started.elapsed());
        stop.store(true, Ordering::Relaxed);
        let shares: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        (shares, took)
    };
    let writers = writers.into_iter().map(tokio::spawn);
    let ((shares, took), ended) = join(watch, try_join_all(writers)).await;
    for ended in ended? {
        ended?;
    }
    let total: u64 = shares.iter().sum();
    let smallest = shares.iter().min().copied().unwrap_or_default();
    let largest = shares.iter().max().copied().unwrap_or_default();
    let share = smallest as f64 / largest as f64;
    Ok((total as f64 / MIB / took.as_secs_f64(), share))
}

async fn write_until(mut stream: Stream, stop: Arc<AtomicBool>) -> Result<()> {
    let data = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&data).await?;
    }
    close(&mut stream).await
}

fn next_counter() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Processor seconds per GiB, of both clients together (this process) and of the server (another).
async fn cpu(dialer: &Dialer, plan: &Plan, server: Option<u32>) -> Result<Figures> {
    let used = |pid: Option<u32>| pid.and_then(process::cpu);
    let here = Some(std::process::id());
    let before = (used(here), used(server));
    send(dialer, plan.cpu, CHUNK, false).await?;
    let after = (used(here), used(server));
    let per_gib = |before: Option<Duration>, after: Option<Duration>| {
        let used = after?.saturating_sub(before?);
        Some(used.as_secs_f64() * GIB / plan.cpu as f64)
    };
    let clients = per_gib(before.0, after.0).map(|used| (Metric::CpuClients, used));
    let server = per_gib(before.1, after.1).map(|used| (Metric::CpuServer, used));
    Ok(clients.into_iter().chain(server).collect())
}

/// Moves some megabytes, so that no buffer, window or cache is at its beginning.
pub async fn warm_up(subject: &Subject, plan: &Plan) -> Result<()> {
    if let Peers::Rust(peers) = &subject.peers {
        for peers in std::iter::once(peers).chain(&subject.apart) {
            send(&peers.dialer, plan.bulk / 16, CHUNK, false).await?;
        }
    }
    Ok(())
}
