//! Many joins at once: how soon all nodes know them.

use std::{io, time::Instant};

use futures::stream::{StreamExt as _, TryStreamExt as _};

use crate::{
    client::{Client, ORDINARY},
    judge, load,
    nodes::{Kind, Nodes},
};

const NODES: usize = 3;
/// The number of clients that join at a time. Most of the time goes to making keys and signatures in this process.
const AT_A_TIME: usize = 64;
/// The maximum time until all nodes know all peers, in seconds.
const BOUND: f64 = 5.0;

pub async fn measure(quick: bool) -> io::Result<bool> {
    let peers = if quick { 1_000 } else { 10_000 };
    println!("\n## {peers} joins at {NODES} nodes\n");
    let mut nodes = Nodes::start(Kind::Tls, NODES).await?;
    let (begun, before) = (Instant::now(), nodes.cpu());
    let addrs: Vec<_> = (0..NODES).map(|node| nodes.addr(node)).collect();
    let joining =
        futures::stream::iter(0..peers).map(|n| Client::joined(addrs[n % NODES], ORDINARY));
    let clients: Vec<Client> = joining.buffer_unordered(AT_A_TIME).try_collect().await?;
    let joined = begun.elapsed().as_secs_f64();
    let start = Instant::now();
    nodes.know(peers as u64).await?;
    let took = start.elapsed().as_secs_f64();
    let cpu = nodes.cpu() - before;
    println!(
        "The clients took {joined:.1} s to join; all nodes together used {cpu:.1} s of CPU time for it."
    );
    let met = judge(
        "seconds from the last join until all nodes know all peers",
        took,
        BOUND,
        took <= BOUND,
    );
    println!("{}", load());
    drop(clients);
    Ok(met)
}
