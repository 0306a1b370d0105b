//! Readers that stall, beside a pair that does not.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::stream::{StreamExt as _, TryStreamExt as _};
use libp2p_identity::Keypair;

use crate::{
    client::{self, Client, ORDINARY, item},
    judge, load,
    nodes::{Kind, Nodes},
    spread::{Spread, number},
    transfer::{self, WARM_UP},
};

const ITEM: usize = 64 * 1024;
/// What the system may hold for each end of each client here, of which it makes twice as much. Left to itself it holds megabytes for
/// one that does not read, until it has no memory for any connection of this machine and drops what comes: that is then measured,
/// and nothing else.
const BUFFER: u32 = 16 * 1024;
/// How many join at a time.
const AT_A_TIME: usize = 64;
/// How much each sender sends at most: more than its reader's queue holds, and what is on its way. Most of the rest is in its own queue.
const MOST: usize = 5 * 512 * 1024;
/// Whoever has sent nothing for so long is held back.
const HELD_BACK: Duration = Duration::from_millis(500);
/// What is left of the rate beside as many that are idle, at least.
const BOUND: f64 = 0.8;
/// How many MiB each of them may cost a node: its queue there, which is 1 MiB, what is on its way, which is as much, and what the
/// allocator keeps.
const EACH: f64 = 3.0;
const MIB: f64 = 1024.0 * 1024.0;

/// One that joined, of whom the system holds little.
async fn joined(server: SocketAddr) -> io::Result<Client> {
    let socket = client::socket()?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    let mut client = Client::begin(socket.connect(server).await?, "").await?;
    client.join(&Keypair::generate_ed25519(), ORDINARY).await?;
    Ok(client)
}

/// The memory of a node, in MiB.
fn memory(nodes: &Nodes, node: usize) -> f64 {
    nodes.nodes[node].usage().rss / MIB
}

/// What waits at each node to be sent, in MiB.
async fn queued(nodes: &mut Nodes) -> io::Result<Vec<f64>> {
    let mut queued = Vec::new();
    for node in &mut nodes.nodes {
        queued.push(node.ask().await?["queued"].as_f64().unwrap_or_default() / MIB);
    }
    Ok(queued)
}

pub async fn measure(quick: bool) -> io::Result<bool> {
    let (count, rounds, mib) = if quick {
        (100, 12, 256)
    } else {
        (1_000, 12, 512)
    };
    println!(
        "\n## One stream to another node beside {count} that nobody reads: medians of {rounds} rounds of {mib} MiB\n"
    );
    let mut nodes = Nodes::start(Kind::Tls, 2).await?;
    let alone = rates(&mut nodes, 0, rounds, mib).await?;
    let before = [memory(&nodes, 0), memory(&nodes, 1)];
    // One link each, so that each has a stream of its own on the trunk.
    let addrs = [nodes.addr(0), nodes.addr(1)];
    let joining = futures::stream::iter(0..count).map(|n| async move {
        let dialer = joined(addrs[0]).await?;
        let listener = joined(addrs[1]).await?;
        io::Result::Ok((dialer, listener, format!("s{n}")))
    });
    let mut stalled: Vec<_> = joining.buffer_unordered(AT_A_TIME).try_collect().await?;
    nodes.know(2 * count as u64).await?;
    for (dialer, listener, id) in &mut stalled {
        dialer.dial(listener, id).await?;
    }
    let idle = rates(&mut nodes, count, rounds, mib).await?;
    // Sent by all at once, it would come faster than a trunk takes it, and the system would have to hold it.
    let filling = stalled.iter_mut().map(|(dialer, listener, id)| async move {
        // Whoever says nothing for long is taken for dead.
        listener.text("2").await?;
        let frames = item(&format!("{id}.dialer"), &vec![7; ITEM]);
        for _ in 0..MOST / ITEM {
            let written = tokio::time::timeout(HELD_BACK, dialer.write(&frames)).await;
            match written {
                Ok(written) => written?,
                Err(_) => break,
            }
        }
        io::Result::Ok(())
    });
    let filling = futures::stream::iter(filling).buffer_unordered(AT_A_TIME);
    filling.try_collect::<()>().await?;
    // What is on its way still comes to where it will wait.
    let mut last = Vec::new();
    loop {
        let now = queued(&mut nodes).await?;
        if now == last {
            break;
        }
        last = now;
        tokio::time::sleep(HELD_BACK).await;
    }
    let beside = rates(&mut nodes, count, rounds, mib).await?;
    let after = [memory(&nodes, 0), memory(&nodes, 1)];
    let queued = queued(&mut nodes).await?;
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
        "\n{} MiB/s alone, {} beside {count} streams where nothing moves, {} beside {count} stalled ones",
        number(alone),
        number(idle),
        number(beside)
    );
    // What 2,000 links that hear announcements cost is no matter of streams.
    let left = beside / idle;
    let mut met = judge(
        "rate beside stalled ones ÷ beside idle ones",
        left,
        BOUND,
        left >= BOUND,
    );
    for (node, after) in after.into_iter().enumerate() {
        let each = (after - before[node]) / count as f64;
        met &= judge("MiB for each of them", each, EACH, each <= EACH);
    }
    println!("{}", load());
    Ok(met)
}

/// What two newcomers send each other beside so many pairs, in MiB/s: the median of so many rounds.
async fn rates(nodes: &mut Nodes, pairs: usize, rounds: usize, mib: usize) -> io::Result<f64> {
    let others = 2 * pairs as u64;
    let mut pair = transfer::dialled(nodes, [0, 1], others).await?;
    pair = transfer::send(pair, WARM_UP).await?;
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        pair = transfer::send(pair, mib).await?;
        rates.push(mib as f64 / start.elapsed().as_secs_f64());
    }
    drop(pair);
    nodes.know(others).await?;
    Ok(Spread::of(rates).map_or(f64::NAN, |rates| rates.median))
}
