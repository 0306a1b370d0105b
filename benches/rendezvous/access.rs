//! The cost of looking up each joining peer in the lists of the server binary.

use std::{
    hint::black_box,
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Access as _, Join};

use crate::{
    churn::{self, Work},
    listed::{LISTED, listed},
    process::Kind,
    spread::{Spread, number},
    target,
};

/// The number of lookups that are timed.
const LOOKS: usize = 20_000;
/// The minimum share of the join rate that must be left.
const LEFT: f64 = 0.95;

/// Returns the time of one lookup, in microseconds.
fn look() -> io::Result<f64> {
    let access = listed()?;
    let key = || Keypair::generate_ed25519().public().to_peer_id();
    let joins = (0..LOOKS).map(|_| Join::new(key(), Ipv4Addr::LOCALHOST.into()));
    let joins: Vec<Join> = joins.collect();
    let started = Instant::now();
    for join in &joins {
        black_box(access.judge(black_box(join)));
    }
    Ok(started.elapsed().as_secs_f64() * 1e6 / LOOKS as f64)
}

/// Measures the server's processor time for joins with and without a list, in turns.
pub async fn measure(quick: bool) -> io::Result<()> {
    let (rounds, joins) = if quick { (3, 4000) } else { (7, 20_000) };
    println!("\n## Joins and leaves, with and without a list of {LISTED} peer ids");
    println!("| round | joins | CPU s without | with | rate that remains |");
    let mut kinds = [Kind::Ours, Kind::OursListed];
    let mut left = Vec::new();
    for round in 1..=rounds {
        let mut cpu = [f64::NAN; 2];
        for kind in kinds {
            let limit = Duration::from_secs(300);
            let figures = churn::measure(kind, Work::Joins, joins, limit).await?;
            if figures.done < joins {
                return Err(io::Error::other("the joins took too long"));
            }
            cpu[usize::from(kind == Kind::OursListed)] = figures.cpu;
        }
        let [without, with] = cpu;
        println!(
            "| {round} | {joins} | {without:.2} | {with:.2} | {:.3} |",
            without / with
        );
        left.push(without / with);
        // The first position may be an advantage or a disadvantage.
        kinds.reverse();
    }
    if let Some(left) = Spread::of(left) {
        println!("{} µs for one lookup alone", number(look()?));
        println!(
            "{} of the join rate remains, {left}; at least {LEFT} wanted: {}",
            number(left.median),
            target(left.median >= LEFT)
        );
    }
    Ok(())
}
