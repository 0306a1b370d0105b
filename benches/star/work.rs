//! The measurements of a subject.

pub mod beside;
mod bulk;
mod pings;
pub mod senders;
mod unread;

use std::{
    iter::repeat_n,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    Result,
    lineup::{Peers, Subject},
    plan::Plan,
    process,
    serve::{CHUNK, Request},
    subjects::{Dialer, js, stream::Stream},
    works::Work,
};

pub use bulk::Bulk;
pub use pings::Pings;

const SMALL: usize = 1024;
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
    /// Round trips of 64 bytes on a link or connection: with nothing else on it, beside one bulk stream, and beside
    /// several; and the rates of the bulk.
    AloneP50,
    BesideOneP50,
    BesideOneP99,
    BesideOneBulk,
    BesideSeveralP50,
    BesideSeveralP99,
    BesideSeveralBulk,
    /// The same for one sender, while the other senders to the same receiver are idle, and beside them.
    SenderAloneP50,
    SenderP50,
    SenderP99,
    SendersBulk,
    /// The rate of all streams of a link but one: while that one does not exist, and while it is not read.
    AllRead,
    BesideUnread,
    /// Figures over a long line.
    LineBulk,
    LineAloneP50,
    LineP50,
    LineP99,
    LineDial,
}

pub type Figures = Vec<(Metric, f64)>;

/// Measures once. Returns nothing if the measurement makes no sense for the subject.
pub async fn measure(subject: &Subject, work: Work, plan: &Plan) -> Result<Figures> {
    match (&subject.peers, work) {
        _ if !subject.id.does(work) => Ok(Vec::new()),
        (Peers::Missing(_), _) => Ok(Vec::new()),
        (Peers::Js(pair), work) => measure_js(pair, work, plan).await,
        (Peers::Rust(peers), work) => {
            let pair = subject.pair(peers, work);
            match work {
                Work::Cpu => cpu(&pair.dialer, plan, subject.server).await,
                Work::Beside => beside::measure(&pair.dialer, subject.id, plan).await,
                Work::Senders => senders::measure(pair, plan).await,
                Work::Unread => unread::measure(&pair.dialer, plan).await,
                _ => measure_rust(&pair.dialer, work, plan).await,
            }
        }
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
            let mut pings = Pings::open(dialer).await?;
            let mut times = pings.times(plan.pings).await?;
            pings.end().await?;
            vec![
                (Metric::RttP50, percentile(&mut times, 0.5)),
                (Metric::RttP99, percentile(&mut times, 0.99)),
            ]
        }
        Work::Dial => {
            vec![(Metric::Dial, dials(dialer, plan.dials).await?)]
        }
        Work::Many => {
            let (total, share) = many(dialer, plan).await?;
            vec![(Metric::Many, total), (Metric::Share, share)]
        }
        Work::Cpu | Work::Beside | Work::Senders | Work::Unread => Vec::new(),
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
        Work::Many | Work::Cpu | Work::Beside | Work::Senders | Work::Unread => {
            return Ok(Vec::new());
        }
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

pub fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * p) as usize).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// Returns the median time of `dials` dials, in milliseconds.
pub async fn dials(dialer: &Dialer, dials: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(dials);
    for _ in 0..dials {
        times.push(dialer.dial().await?.as_secs_f64() * 1e3);
    }
    Ok(percentile(&mut times, 0.5))
}

/// Returns the time from the first write until the other end has read everything and ended its own direction.
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
        _ => Err("bytes that were not sent".into()),
    }
}

/// Returns the time until everything has come back.
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

/// Returns the rate of all streams together, and the smallest share divided by the largest.
async fn many(dialer: &Dialer, plan: &Plan) -> Result<(f64, f64)> {
    let bulk = Bulk::start(repeat_n(dialer, plan.streams)).await?;
    sleep(plan.window / 3).await;
    let ((), read) = bulk.during(sleep(plan.window)).await;
    bulk.end().await?;
    Ok((read.rate(), read.share()))
}

/// Returns the processor seconds per GiB of both clients together (this process) and of the server (another one).
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

/// Sends some megabytes, to fill the buffers, windows and caches before the measurement.
pub async fn warm_up(subject: &Subject, plan: &Plan) -> Result<()> {
    if let Peers::Rust(peers) = &subject.peers {
        for peers in std::iter::once(&**peers).chain(&subject.apart) {
            send(&peers.dialer, plan.bulk / 16, CHUNK, false).await?;
        }
    }
    Ok(())
}
