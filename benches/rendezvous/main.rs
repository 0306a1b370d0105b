//! The rendezvous under load, compared with the npm server: `cargo bench --bench rendezvous`, some 7 minutes; about
//! one with `-- --quick`. `-- links`, `-- churn`, `-- access` and `-- transfer` run a part of it, and
//! `-- links --links=5000` changes the number of links. Linux only. The npm server takes part if Node.js is
//! installed and `npm ci --prefix tests/js` was run.
//!
//! The server is a process of its own, and all clients are in this one.
//!
//! `cargo bench --bench rendezvous --features _lock-times -- growth` is for very many links: 100,000 in memory, with
//! server and clients in one process, and 18,000 over TCP, with the clients in processes of their own. It takes some
//! 15 minutes and 2 GiB, or a minute or two with `--quick`. Everything is done twice, because measuring the locks
//! takes processor time. `--memory` or `--tcp` runs one of the two, `--links=50000` changes the number of links,
//! `--origins=1` the number of client addresses in memory, and `--no-challenge` makes joins without the challenge.
//! With `--check`, it fails if a bound is missed. Without the feature, the locks are not measured.

mod access;
mod churn;
mod client;
mod growth;
mod limits;
mod links;
mod listed;
#[allow(dead_code, reason = "each benchmark uses its own part")]
#[path = "../star/machine.rs"]
mod machine;
mod process;
mod secure;
#[path = "../star/spread.rs"]
mod spread;
mod stream;
mod transfer;

use std::{io, time::Duration};

use self::{
    churn::Work,
    process::{Kind, SERVE, SERVE_LISTED, SERVE_TLS},
    spread::{Spread, number},
};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;
/// The default number of idle links with TLS.
const SECURE_LINKS: usize = 2000;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    // Allow as many descriptors as possible, for ten thousand links.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)?;
    if let Some(done) = growth::part(&args) {
        return done;
    }
    let served = [
        (SERVE, Kind::Ours),
        (SERVE_TLS, Kind::OursTls),
        (SERVE_LISTED, Kind::OursListed),
    ];
    let served = served.into_iter().find(|(argument, _)| has(argument));
    if served.is_none() && !has("--bench") {
        // `cargo test` starts benchmarks too.
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some((_, kind)) = served {
        return runtime.block_on(process::serve(kind));
    }
    if !cfg!(target_os = "linux") {
        println!("The figures come from /proc, which only Linux has.");
        return Ok(());
    }
    println!("{descriptors} descriptors, {}", load());
    runtime.block_on(measure(has("--quick"), &args))
}

fn load() -> String {
    format!("load {}", machine::load())
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
    if args.iter().any(|arg| arg == "growth") {
        growth::measure(quick, args).await?;
    }
    if only("churn") {
        churns(quick).await?;
    }
    if only("access") {
        access::measure(quick).await?;
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

/// Prints a row, or the reason why there is none. The npm server may crash, which is a result; this crate's may not.
fn row(kind: Kind, what: &str, cells: io::Result<String>) -> io::Result<()> {
    match cells {
        Ok(cells) => println!("| {} | {what} | {cells} | {} |", kind.name(), load()),
        Err(error) if kind == Kind::Npm => {
            println!("| {} | {what} | failed: {error} |", kind.name());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Does the same twice: memory that the first half leaves behind, the second half would double.
async fn churns(quick: bool) -> io::Result<()> {
    println!("\n## Churn: resident KiB before, after one half, and after the other");
    println!(
        "| server | what | times | before | half | all | bytes left of each | CPU s | has | load |"
    );
    for kind in kinds() {
        // The npm server does as much as it can in that time.
        let limit = Duration::from_secs(match kind {
            Kind::Ours | Kind::OursTls | Kind::OursListed => 300,
            Kind::Npm if quick => 5,
            Kind::Npm => 20,
        });
        for (work, what, times) in [
            (Work::Dials, "dials", 100_000),
            (Work::Joins, "joins and leaves", 20_000),
        ] {
            let times = if quick { times / 20 } else { times };
            let measured = churn::measure(kind, work, times, limit).await;
            let cells = measured.map(|f| {
                let [before, half, all] = f.rss.map(|bytes| bytes / KIB);
                format!(
                    "{} | {before:.0} | {half:.0} | {all:.0} | {:.0} | {:.1} | {}",
                    of(f.done, times),
                    f.kept,
                    f.cpu,
                    f.left
                )
            });
            row(kind, what, cells)?;
        }
    }
    Ok(())
}

/// Returns the number done, and if that is not all, the number to do.
fn of(done: usize, all: usize) -> String {
    if done < all {
        format!("{done} of {all}")
    } else {
        all.to_string()
    }
}

async fn transfers(quick: bool) -> io::Result<()> {
    let (rounds, mib) = if quick { (3, 256) } else { (5, 1024) };
    println!("\n## One way, items of 64 KiB: medians of {rounds} rounds, least–most");
    println!("| server | MiB/s | | CPU s/GiB | | load |");
    let mut kinds: Vec<Kind> = kinds().collect();
    let mut figures: [Vec<transfer::Figures>; 2] = Default::default();
    for _ in 0..rounds {
        for kind in kinds.clone() {
            match transfer::measure(kind, mib).await {
                Ok(measured) => figures[kind as usize].push(measured),
                Err(error) => {
                    row(kind, "failed", Err(error))?;
                    kinds.retain(|other| *other != kind);
                }
            }
        }
        // The first position may be an advantage or a disadvantage.
        kinds.reverse();
    }
    kinds.sort_by_key(|kind| *kind as usize);
    for kind in &kinds {
        let of = &figures[*kind as usize];
        let rate = Spread::of(of.iter().map(|f| f.rate));
        let cpu = Spread::of(of.iter().map(|f| f.cpu_per_gib));
        println!(
            "| {} | {} | {} | {} |",
            kind.name(),
            spread(rate),
            spread(cpu),
            load()
        );
    }
    let [ours, npm] = &figures;
    let ratio = |of: fn(&transfer::Figures, &transfer::Figures) -> f64| {
        Spread::of(ours.iter().zip(npm).map(|(ours, npm)| of(ours, npm)))
    };
    let cpu = ratio(|ours, npm| npm.cpu_per_gib / ours.cpu_per_gib);
    let rate = ratio(|ours, npm| ours.rate / npm.rate);
    for (ratio, what, wanted) in [(cpu, "bytes per CPU second", 5.0), (rate, "MiB/s", 4.0)] {
        if let Some(ratio) = ratio {
            println!(
                "{} times npm's {what}, {ratio}; wanted {wanted}: {}",
                number(ratio.median),
                target(ratio.median >= wanted)
            );
        }
    }
    stalls(&kinds).await
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| {
        format!("{} | {spread}", number(spread.median))
    })
}

async fn stalls(kinds: &[Kind]) -> io::Result<()> {
    println!("\n## A reader that stalls before 64 MiB");
    println!("| server | MiB beyond its 1 MiB of queue | load |");
    let mut ours = f64::NAN;
    for kind in kinds {
        let beyond = transfer::stall(*kind).await? / MIB - 1.0;
        println!("| {} | {beyond:.1} | {} |", kind.name(), load());
        if *kind == Kind::Ours {
            ours = beyond;
        }
    }
    println!(
        "{ours:.1} MiB over the budget of a stalled reader, 2 allowed: {}",
        target(ours <= 2.0)
    );
    Ok(())
}

async fn idle_links(quick: bool, only: Option<usize>) -> io::Result<()> {
    let counts = match only {
        Some(count) => vec![count],
        None if quick => vec![100, 1000],
        None => vec![100, 1000, 3000, 10_000],
    };
    let rest = Duration::from_secs(if quick { 5 } else { 20 });
    println!("\n## Joined links with the challenge on");
    println!(
        "| server | links | joins/s | join CPU s | heard | newcomer known: median, worst ms | rest CPU % | KiB/link | load |"
    );
    let mut largest = 0.0;
    for kind in kinds() {
        let most = match kind {
            Kind::Ours | Kind::OursTls | Kind::OursListed => usize::MAX,
            Kind::Npm if quick => 100,
            Kind::Npm => 1000,
        };
        for links in counts.iter().copied().filter(|links| *links <= most) {
            let plan = links::Plan::new(kind, links, rest);
            let measured = links::measure(kind, &plan).await;
            if let (Kind::Ours, Ok(f)) = (kind, &measured) {
                largest = f.rss_per_link / KIB;
            }
            links_row(kind, links, measured)?;
        }
    }
    let links = only.unwrap_or(SECURE_LINKS);
    let secure =
        links::measure(Kind::OursTls, &links::Plan::new(Kind::OursTls, links, rest)).await?;
    let (each, joined) = (secure.rss_per_link / KIB, secure.joined);
    links_row(Kind::OursTls, links, Ok(secure))?;
    println!(
        "{largest:.1} KiB a link, 16 allowed: {}",
        target(largest <= 16.0)
    );
    println!(
        "{each:.1} KiB a wss link, 14 allowed: {}",
        target(each <= 14.0 && joined == links && links >= SECURE_LINKS)
    );
    Ok(())
}

fn links_row(kind: Kind, links: usize, measured: io::Result<links::Figures>) -> io::Result<()> {
    let joined = measured.as_ref().map_or(links, |f| f.joined);
    row(kind, &of(joined, links), measured.map(|f| links_cells(&f)))
}

fn links_cells(f: &links::Figures) -> String {
    let ms = |time: Option<Duration>| {
        time.map_or("never".to_owned(), |t| {
            format!("{:.1}", t.as_secs_f64() * 1000.0)
        })
    };
    format!(
        "{:.0} | {:.2} | {} | {}, {} | {:.1} | {:.1}",
        f.join_rate,
        f.join_cpu,
        f.announced,
        ms(f.known[0]),
        ms(f.known[1]),
        f.rest_cpu,
        f.rss_per_link / KIB,
    )
}
