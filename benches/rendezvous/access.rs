//! The cost of looking up each joining peer in the lists of the server binary.

#![allow(
    dead_code,
    unused_imports,
    reason = "the binary uses more of its lists, and their tests are run with it"
)]

#[path = "../../src/bin/websocket-star-rendezvous/access/file.rs"]
mod file;
#[path = "../../src/bin/websocket-star-rendezvous/access/lists.rs"]
mod lists;
#[path = "../../src/bin/websocket-star-rendezvous/access/networks.rs"]
mod networks;
#[path = "../../src/bin/websocket-star-rendezvous/access/peers.rs"]
mod peers;
#[path = "../../src/bin/websocket-star-rendezvous/access/tokens.rs"]
mod tokens;

use std::{
    hint::black_box,
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_websocket_star::rendezvous::{Access, Config, Join, Judgement, Verdict};

use self::lists::{ListFiles, Lists, Opinion};
use crate::{
    churn::{self, Work},
    process::Kind,
    spread::{Spread, number},
    target,
};

/// The number of listed peer ids.
const LISTED: usize = 100_000;
/// The number of lookups that are timed.
const LOOKS: usize = 20_000;
/// The minimum share of the join rate that must be left.
const LEFT: f64 = 0.95;

/// Access rules with a deny list that contains none of the joining peers. The list has no hashed ids, so each join
/// takes one lookup.
#[derive(Debug)]
struct Listed(Lists);

impl Access for Listed {
    fn judge(&self, join: &Join) -> Judgement {
        let verdict = match self.0.opinion(join) {
            Opinion::No(list) => Verdict::refuse(list.denies()),
            Opinion::Yes(_) | Opinion::Unlisted(_) => Verdict::allow(),
        };
        verdict.into()
    }

    fn still_allows(&self, _: &Join) -> bool {
        true
    }
}

/// Makes a server look up each joining peer in a list of other peers.
pub fn listing(config: Config) -> io::Result<Config> {
    Ok(config.with_access(listed()?))
}

fn listed() -> io::Result<Listed> {
    let file = tempfile::NamedTempFile::new()?;
    let ids: Vec<String> = (0..LISTED).map(|_| PeerId::random().to_base58()).collect();
    std::fs::write(file.path(), ids.join("\n"))?;
    let files = ListFiles {
        deny_peers: Some(file.path().to_owned()),
        ..ListFiles::default()
    };
    files.load().map(Listed).map_err(io::Error::other)
}

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
    println!("| round | joins | CPU s without | with | rate that is left |");
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
        println!("{} µs for one look, alone", number(look()?));
        println!(
            "{} of the join rate is left, {left}; {LEFT} wanted: {}",
            number(left.median),
            target(left.median >= LEFT)
        );
    }
    Ok(())
}
