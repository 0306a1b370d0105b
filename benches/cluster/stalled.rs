//! Stalled readers, and their effect on a pair that is not stalled.

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
/// The size of each socket buffer of each client, in bytes; the system uses twice as much. By default, the system
/// holds megabytes for a client that does not read. Then it runs out of memory for all connections of this machine
/// and drops packets, and the benchmark would measure only that.
const BUFFER: u32 = 16 * 1024;
/// The number of clients that join at a time.
const AT_A_TIME: usize = 64;
/// The maximum number of bytes that each sender sends: more than fits into its reader's queue and in transit. Most of
/// the rest waits in the queue of the sender's node.
const MOST: usize = 5 * 512 * 1024;
/// A sender that could not send anything for this long is held back.
const HELD_BACK: Duration = Duration::from_millis(500);
/// The minimum of the rate beside stalled streams, divided by the rate beside as many idle streams.
const BOUND: f64 = 0.8;
/// The maximum memory in MiB that each stalled stream may cost a node: its queue there of 1 MiB, as much again in
/// transit, and the memory that the allocator keeps.
const EACH: f64 = 3.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Joins with a new key over a socket with small buffers.
async fn joined(server: SocketAddr) -> io::Result<Client> {
    let socket = client::socket()?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    let mut client = Client::begin(socket.connect(server).await?, "").await?;
    client.join(&Keypair::generate_ed25519(), ORDINARY).await?;
    Ok(client)
}

/// Returns the resident memory of a node, in MiB.
fn memory(nodes: &Nodes, node: usize) -> f64 {
    nodes.nodes[node].usage().rss / MIB
}

/// Returns the data queued at each node, in MiB.
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
        "\n## One stream to another node beside {count} stalled ones: medians of {rounds} rounds of {mib} MiB\n"
    );
    let mut nodes = Nodes::start(Kind::Tls, 2).await?;
    let alone = rates(&mut nodes, 0, rounds, mib).await?;
    let before = [memory(&nodes, 0), memory(&nodes, 1)];
    // Each client has a link of its own, so that each has a stream of its own on the trunk.
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
    // A limited number of clients send at a time. If all sent at once, the data would come faster than a trunk takes
    // it, and the system would have to hold it.
    let filling = stalled.iter_mut().map(|(dialer, listener, id)| async move {
        // Sends a ping, because the server closes a link that sends nothing for long.
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
    // Wait until the data in transit has reached the queues.
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
        "| MiB resident beside stalled streams | {:.0} | {:.0} |",
        after[0], after[1]
    );
    println!("| MiB queued | {:.0} | {:.0} |", queued[0], queued[1]);
    println!(
        "\n{} MiB/s alone, {} beside {count} idle streams, {} beside {count} stalled ones",
        number(alone),
        number(idle),
        number(beside)
    );
    // The comparison is with idle streams, because the cost of announcements to 2,000 links has nothing to do with
    // streams.
    let left = beside / idle;
    let mut met = judge(
        "rate beside stalled ones ÷ beside idle ones",
        left,
        BOUND,
        left >= BOUND,
    );
    for (node, after) in after.into_iter().enumerate() {
        let each = (after - before[node]) / count as f64;
        met &= judge("MiB for each stalled stream", each, EACH, each <= EACH);
    }
    println!("{}", load());
    Ok(met)
}

/// Returns the rate between two new clients while there are `pairs` other pairs, in MiB/s: the median of the rounds.
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
