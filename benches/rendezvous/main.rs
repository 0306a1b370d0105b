//! The rendezvous under load, beside the npm server: `cargo bench --bench rendezvous`; with
//! `-- --quick` in less than a minute; `-- links`, `-- churn` and `-- transfer` for a part of it, and
//! `-- links --links=5000` for another number. Linux only; the npm server takes part if Node.js is there and
//! `npm ci --prefix tests/js` was run.
//!
//! The server is a process of its own, and all clients are in this one.

mod churn;
mod client;
mod links;
mod process;
mod transfer;

use std::{io, time::Duration};

use self::process::{Kind, SERVE};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if !has(SERVE) && !has("--bench") {
        // `cargo test` starts benchmarks too.
        return Ok(());
    }
    // As many descriptors as we may have, for ten thousand links.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Runtime::new()?;
    if has(SERVE) {
        return runtime.block_on(process::serve());
    }
    if !cfg!(target_os = "linux") {
        println!("The figures are taken from /proc, which is Linux'.");
        return Ok(());
    }
    println!("{descriptors} descriptors, {}", load());
    runtime.block_on(measure(has("--quick"), &args))
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut fields = load.split_whitespace();
    format!("load {}", fields.next().unwrap_or("unknown"))
}

async fn measure(quick: bool, args: &[String]) -> io::Result<()> {
    let only = |name: &str| {
        let named = args.iter().any(|arg| !arg.starts_with("--"));
        !named || args.iter().any(|arg| arg == name)
    };
    if only("links") {
        let counts = args
            .iter()
            .find_map(|arg| arg.strip_prefix("--links=")?.parse().ok());
        idle_links(quick, counts).await?;
    }
    if only("churn") {
        churns(quick).await?;
    }
    if only("transfer") {
        transfers(quick).await?;
    }
    Ok(())
}

fn target(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn kinds() -> impl Iterator<Item = Kind> {
    [Kind::Ours, Kind::Npm]
        .into_iter()
        .filter(|kind| kind.is_there())
}

/// Does the same twice: what the first half leaves behind, the second would double.
async fn churns(quick: bool) -> io::Result<()> {
    println!("\n## Churn: resident KiB before, after one half, and after the other");
    println!("| server | what | before | half | all | CPU s | left over | load |");
    for kind in kinds() {
        for (what, times) in [("dials", 100_000), ("joins and leaves", 20_000)] {
            let times = if quick { times / 20 } else { times };
            let f = churn::measure(kind, what == "dials", times).await?;
            let [before, half, all] = f.rss.map(|bytes| bytes / KIB);
            println!(
                "| {} | {times} {what} | {before:.0} | {half:.0} | {all:.0} | {:.1} | {} | {} |",
                kind.name(),
                f.cpu,
                f.left,
                load()
            );
        }
    }
    Ok(())
}

async fn transfers(quick: bool) -> io::Result<()> {
    println!("\n## One way, items of 64 KiB; and a reader that stalls before 64 MiB");
    println!("| server | MiB/s | CPU s/GiB | MiB beyond its 1 MiB of queue | load |");
    let mut rates = Vec::new();
    for kind in kinds() {
        let mib = if quick { 256 } else { 1024 };
        let f = transfer::measure(kind, mib).await?;
        println!(
            "| {} | {:.0} | {:.2} | {:.1} | {} |",
            kind.name(),
            f.rate,
            f.cpu_per_gib,
            f.stalled / MIB - 1.0,
            load()
        );
        rates.push(f);
    }
    if let [ours, npm] = rates.as_slice() {
        let (cpu, rate) = (npm.cpu_per_gib / ours.cpu_per_gib, ours.rate / npm.rate);
        println!(
            "{cpu:.1} times npm's bytes per CPU second, wanted 5: {}",
            target(cpu >= 5.0)
        );
        println!(
            "{rate:.1} times npm's MiB/s, wanted 4: {}",
            target(rate >= 4.0)
        );
    }
    if let Some(ours) = rates.first() {
        let beyond = ours.stalled / MIB - 1.0;
        println!(
            "{beyond:.1} MiB over the budget of a stalled reader, 2 allowed: {}",
            target(beyond <= 2.0)
        );
    }
    Ok(())
}

async fn idle_links(quick: bool, only: Option<usize>) -> io::Result<()> {
    let counts = match only {
        Some(count) => vec![count],
        None if quick => vec![100, 1000],
        None => vec![100, 1000, 3000, 10_000],
    };
    let rest = Duration::from_secs(if quick { 5 } else { 30 });
    println!("\n## Joined links with the challenge on");
    println!(
        "| server | links | joins/s | join CPU s | heard | newcomer known: median, worst ms | rest CPU % | KiB/link | load |"
    );
    let mut largest = 0.0;
    for links in counts {
        for kind in [Kind::Ours, Kind::Npm] {
            if !kind.is_there() || (kind == Kind::Npm && links > if quick { 100 } else { 1000 }) {
                continue;
            }
            let f = links::measure(kind, links, rest).await?;
            let ms = |time: Option<Duration>| {
                time.map_or("never".to_owned(), |t| {
                    format!("{:.1}", t.as_secs_f64() * 1000.0)
                })
            };
            println!(
                "| {} | {} | {:.0} | {:.2} | {} | {}, {} | {:.1} | {:.1} | {} |",
                f.kind.name(),
                f.links,
                f.join_rate,
                f.join_cpu,
                f.announced,
                ms(f.known[0]),
                ms(f.known[1]),
                f.rest_cpu,
                f.rss_per_link / KIB,
                load()
            );
            if kind == Kind::Ours {
                largest = f.rss_per_link / KIB;
            }
        }
    }
    println!(
        "{largest:.1} KiB a link, 16 allowed: {}",
        target(largest <= 16.0)
    );
    Ok(())
}
