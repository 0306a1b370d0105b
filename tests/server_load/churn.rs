//! Dials, joins and links that are over must leave nothing behind, while others stay. The benchmark does the same a
//! hundred times more often.

use std::{fs, net::SocketAddr, process::Command};

use futures::future::join_all;
use libp2p_websocket_star::rendezvous::Server;

use crate::{
    client::{Client, config, end, until},
    js::{Rendezvous, RendezvousOptions},
};

const ALONE: &str = "STAR_LOAD_ALONE";
const PAIRS: usize = 10;
/// The number of dials and of joins of each pair in a round.
const DIALS: usize = 250;
const JOINS: usize = 50;
/// The most bytes that a dial that is over may leave behind. The last test shows what a leak looks like.
const LEFT: u64 = 512;

/// Returns the resident memory in bytes, or `None` where that is not available.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Peers that dial each other, and stay on their links.
struct Pairs(Vec<(Client, Client)>);

impl Pairs {
    async fn join(server: SocketAddr) -> Self {
        let pair = async |_| (Client::joined(server).await, Client::joined(server).await);
        Self(join_all((0..PAIRS).map(pair)).await)
    }

    /// Makes 2,500 dials, each of which is ended by both sides.
    async fn dial(&mut self, round: usize) {
        let pairs = self.0.iter_mut().enumerate();
        let dials = pairs.map(async |(pair, (dialer, listener))| {
            for n in 0..DIALS {
                let id = format!("{round}-{pair}-{n}");
                dialer.dial(listener, &id).await;
                let (there, back) = (end(&format!("{id}.dialer")), end(&format!("{id}.listener")));
                dialer.send(there.clone()).await;
                listener.expect(|text| text == there).await;
                listener.send(back.clone()).await;
                dialer.expect(|text| text == back).await;
            }
        });
        join_all(dials).await;
    }
}

/// Makes 500 joins and leaves. Half of the leaves are links that are cut.
async fn join_and_leave(server: SocketAddr) {
    let joins = (0..PAIRS).map(async |_| {
        for _ in 0..JOINS / 2 {
            let mut client = Client::joined(server).await;
            client.leave().await;
            client.join().await;
        }
    });
    join_all(joins).await;
}

#[tokio::test]
async fn nothing_is_left_of_dials_joins_and_links_that_are_over() {
    if std::env::var_os(ALONE).is_none() {
        // The test runs in a process of its own, so that no other test affects its memory.
        let name = "churn::nothing_is_left_of_dials_joins_and_links_that_are_over";
        let program = std::env::current_exe().expect("the path of the tests");
        let mut command = Command::new(program);
        command.args([name, "--exact"]).env(ALONE, "1");
        let output = command.output().expect("the tests can be run");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let server = Server::bind(config()).await.expect("a free port");
    let addr = server.local_addr();
    let mut pairs = Pairs::join(addr).await;
    let mut memory = Vec::new();
    for round in 0..3 {
        pairs.dial(round).await;
        join_and_leave(addr).await;
        until(&server, "only the pairs are left", |now| {
            now.links == 2 * PAIRS && now.peers.len() == 2 * PAIRS
        })
        .await;
        until(&server, "nothing is left of the dials", |now| {
            now.dials == 0 && now.queued_bytes == 0
        })
        .await;
        memory.extend(resident());
    }
    assert_eq!(server.snapshot().counters.dials, 3 * (PAIRS * DIALS) as u64);
    // The first round includes memory that is allocated only once.
    if let [_, before, after] = memory[..] {
        let grown = after.saturating_sub(before) / (PAIRS * DIALS) as u64;
        assert!(grown < LEFT, "{grown} bytes a dial: {memory:?}");
    }
}

#[tokio::test]
async fn the_npm_server_keeps_of_every_dial_what_would_not_be_overlooked() {
    let options = RendezvousOptions {
        crypto_challenge: false,
        ..RendezvousOptions::default()
    };
    let server = Rendezvous::start(options).await;
    let mut pairs = Pairs::join(([127, 0, 0, 1], server.port()).into()).await;
    let mut heap = Vec::new();
    for round in 0..3 {
        pairs.dial(round).await;
        heap.push(server.heap().await);
    }
    // A dial leaves some 6 KB, which are freed only when the links end.
    let grown = heap[2].saturating_sub(heap[1]) / (PAIRS * DIALS) as u64;
    assert!(grown > 2 * LEFT, "{grown} bytes a dial: {heap:?}");
}
