//! Readers that stall, beside a pair that does not.

use std::{io, time::Duration};

use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::{
    client::{Client, ORDINARY, item},
    judge, load,
    nodes::{Kind, Nodes},
    spread::{Spread, number},
    transfer::{self, dialled},
};

const ITEM: usize = 64 * 1024;
/// How many join at a time.
const AT_A_TIME: usize = 64;
/// How much each sender sends at most: more than its reader's queue, and what is on its way, hold.
const MOST: usize = 4 * 1024 * 1024;
/// Whoever has sent nothing for so long is held back.
const HELD_BACK: Duration = Duration::from_secs(2);
/// What is left of the rate beside them, at least.
const BOUND: f64 = 0.8;
/// How many MiB each of them may cost a node: its queue there, which is 1 MiB, what is on its way, which is as much, and what the
/// allocator keeps.
const EACH: f64 = 3.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The memory of a node, in MiB.
fn memory(nodes: &Nodes, node: usize) -> f64 {
    nodes.nodes[node].usage().rss / MIB
}

pub async fn measure(quick: bool) -> io::Result<bool> {
    let (count, rounds, mib) = if quick {
        (100, 3, 256)
    } else {
        (1_000, 3, 512)
    };
    println!("\n## {count} streams to another node that nobody reads, beside one that is read\n");
    let mut nodes = Nodes::start(Kind::Tls, 2).await?;
    let mut pair = dialled(&mut nodes, [0, 1], "d").await?;
    pair = transfer::send(pair, 64).await?;
    let mut alone = Vec::new();
    for _ in 0..rounds {
        let rate;
        (pair, rate) = timed(pair, mib).await?;
        alone.push(rate);
    }
    drop(pair);
    let before = [memory(&nodes, 0), memory(&nodes, 1)];
    // One link each, so that each has a stream of its own on the trunk.
    let addrs = [nodes.addr(0), nodes.addr(1)];
    let joining = futures::stream::iter(0..count).map(|n| async move {
        let dialer = Client::joined(addrs[0], ORDINARY).await?;
        let listener = Client::joined(addrs[1], ORDINARY).await?;
        io::Result::Ok((dialer, listener, format!("s{n}")))
    });
    let mut stalled: Vec<_> = joining.buffer_unordered(AT_A_TIME).try_collect().await?;
    nodes.know(2 * count as u64).await?;
    for (dialer, listener, id) in &mut stalled {
        dialer.dial(listener, id).await?;
    }
    let filling = stalled.iter_mut().map(|(dialer, _, id)| async move {
        let frames = item(&format!("{id}.dialer"), &vec![7; ITEM]);
        for _ in 0..MOST / ITEM {
            let written = tokio::time::timeout(HELD_BACK, dialer.write(&frames)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    });
    futures::future::join_all(filling).await;
    // Whoever says nothing for long is taken for dead.
    for (_, listener, _) in &mut stalled {
        listener.text("2").await?;
    }
    let mut pair = (
        Client::joined(addrs[0], ORDINARY).await?,
        Client::joined(addrs[1], ORDINARY).await?,
    );
    nodes.know(2 * count as u64 + 2).await?;
    pair.0.dial(&mut pair.1, "d").await?;
    let mut beside = Vec::new();
    for _ in 0..rounds {
        let rate;
        (pair, rate) = timed(pair, mib).await?;
        beside.push(rate);
    }
    let after = [memory(&nodes, 0), memory(&nodes, 1)];
    let said = |said: &Value| said["queued"].as_f64().unwrap_or_default() / MIB;
    let mut queued = Vec::new();
    for node in &mut nodes.nodes {
        queued.push(said(&node.ask().await?));
    }
    let of =
        |rates: &[f64]| Spread::of(rates.iter().copied()).map_or(f64::NAN, |rates| rates.median);
    println!("| | at the senders' node | at the readers' |");
    println!("|---|---|---|");
    println!(
        "| MiB resident before | {:.0} | {:.0} |",
        before[0], before[1]
    );
    println!(
        "| MiB resident beside them | {:.0} | {:.0} |",
        after[0], after[1]
    );
    println!("| MiB queued | {:.0} | {:.0} |", queued[0], queued[1]);
    println!(
        "\n{} MiB/s alone, {} beside them",
        number(of(&alone)),
        number(of(&beside))
    );
    let left = of(&beside) / of(&alone);
    let mut met = judge("rate beside them ÷ alone", left, BOUND, left >= BOUND);
    for (node, after) in after.into_iter().enumerate() {
        let each = (after - before[node]) / count as f64;
        met &= judge("MiB for each of them", each, EACH, each <= EACH);
    }
    println!("{}", load());
    Ok(met)
}

/// Sends so much, and gives MiB/s.
async fn timed(pair: (Client, Client), mib: usize) -> io::Result<((Client, Client), f64)> {
    let start = std::time::Instant::now();
    let pair = transfer::send(pair, mib).await?;
    Ok((pair, mib as f64 / start.elapsed().as_secs_f64()))
}
