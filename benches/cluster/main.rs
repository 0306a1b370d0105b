//! Several rendezvous as one network, compared with a single one: `cargo bench --bench cluster`, some 5 minutes;
//! about one with `-- --quick`. `-- transfer`, `-- stalled` and `-- joins` run a part of it. With `--check`, it fails
//! if a bound is missed. Linux only; it needs nats-server (`.ci/setup`).
//!
//! Each node is a process of its own, nats-server is another one, and all clients are in this one. With
//! `--features _plain-trunks`, trunks without TLS are measured too.

#[path = "../../tests/support/authority.rs"]
mod authority;
#[path = "../rendezvous/client.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod client;
mod joins;
#[path = "../rendezvous/limits.rs"]
mod limits;
#[allow(dead_code, reason = "each benchmark uses its own part")]
#[path = "../star/machine.rs"]
mod machine;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/support/nats.rs"]
mod nats;
mod nodes;
#[allow(dead_code, reason = "the other benchmark needs more of it")]
#[path = "../strangers/other.rs"]
mod other;
#[path = "../star/spread.rs"]
mod spread;
mod stalled;
#[path = "../rendezvous/stream.rs"]
mod stream;
mod transfer;

use std::{io, process::ExitCode};

fn main() -> io::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let is_node = args.first().is_some_and(|first| first == nodes::SERVE);
    if !is_node && !has("--bench") {
        // `cargo test` starts benchmarks too.
        return Ok(ExitCode::SUCCESS);
    }
    if !cfg!(target_os = "linux") {
        println!("The figures come from /proc, which only Linux has.");
        return Ok(ExitCode::SUCCESS);
    }
    // Allow as many descriptors as possible, for ten thousand links.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Runtime::new()?;
    if is_node {
        return runtime
            .block_on(nodes::serve(&args))
            .map(|()| ExitCode::SUCCESS);
    }
    let named = args.iter().any(|arg| !arg.starts_with("--"));
    let only = |name: &str| !named || has(name);
    let quick = has("--quick");
    println!("# Several rendezvous, {}", load());
    let met = runtime.block_on(async {
        let mut met = true;
        if only("transfer") {
            met &= transfer::measure(quick).await?;
        }
        if only("stalled") {
            met &= stalled::measure(quick).await?;
        }
        if only("joins") {
            met &= joins::measure(quick).await?;
        }
        io::Result::Ok(met)
    })?;
    Ok(match met || !has("--check") {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn load() -> String {
    format!("load {}", machine::load())
}

/// Prints a figure and its bound, and returns `is_met`.
fn judge(what: &str, figure: f64, bound: f64, is_met: bool) -> bool {
    let verdict = if is_met { "met" } else { "MISSED" };
    println!(
        "{what}: {}, bound {bound}: {verdict}",
        spread::number(figure)
    );
    is_met
}
