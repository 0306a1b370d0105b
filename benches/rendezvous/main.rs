//! The rendezvous under load, beside the npm server: `cargo bench --bench rendezvous`, and with
//! `-- --quick` in less than a minute. Linux only; the npm server takes part if Node.js is there and
//! `npm ci --prefix tests/js` was run.
//!
//! The server is a process of its own, and all clients are in this one.

mod client;
mod links;
mod process;

use std::{io, time::Duration};

use self::process::{Kind, Rendezvous, SERVE};

const KIB: f64 = 1024.0;

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
        idle_links(quick).await?;
    }
    Ok(())
}

async fn idle_links(quick: bool) -> io::Result<()> {
    let counts: &[usize] = if quick {
        &[100, 1000]
    } else {
        &[100, 1000, 3000, 10_000]
    };
    let rest = Duration::from_secs(if quick { 5 } else { 30 });
    println!("\n## Joined links with the challenge on");
    println!(
        "| server | links | joins/s | join CPU s | heard | newcomer known: median, worst ms | rest CPU % | KiB/link | load |"
    );
    for &links in counts {
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
        }
    }
    Ok(())
}
