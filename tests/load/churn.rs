//! Nothing is left of dials, joins and links that are over. The benchmark does the same a hundred times
//! more often.

use std::{fs, process::Command};

use libp2p_websocket_star::rendezvous::Server;
use tokio::task::JoinSet;

use crate::client::{Client, config, end, until};

const ALONE: &str = "STAR_LOAD_ALONE";
const PAIRS: usize = 10;
const DIALS: usize = 250;
const JOINS: usize = 50;

/// How much is resident, in KiB; `None` where that is not to be had.
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// 2,500 dials, and 500 joins and leaves, half of the latter by cutting the link.
async fn churn(server: &Server) {
    let addr = server.local_addr();
    let mut tasks = JoinSet::new();
    for pair in 0..PAIRS {
        tasks.spawn(async move {
            let mut dialer = Client::joined(addr).await;
            let mut listener = Client::joined(addr).await;
            for n in 0..DIALS {
                let id = format!("{pair}-{n}");
                dialer.dial(&mut listener, &id).await;
                let (there, back) = (end(&format!("{id}.dialer")), end(&format!("{id}.listener")));
                dialer.send(there.clone()).await;
                listener.expect(|text| text == there).await;
                listener.send(back.clone()).await;
                dialer.expect(|text| text == back).await;
            }
            for _ in 0..JOINS / 2 {
                let mut client = Client::joined(addr).await;
                client.leave().await;
                client.join().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    until(server, "nothing is left", |now| {
        now.links == 0 && now.peers.is_empty() && now.dials == 0 && now.queued_bytes == 0
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_of_dials_joins_and_links_that_are_over() {
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own, whose memory is nobody else's.
        let name = "churn::nothing_is_left_of_dials_joins_and_links_that_are_over";
        let program = std::env::current_exe().expect("the path of the tests");
        let mut command = Command::new(program);
        command.args([name, "--exact"]).env(ALONE, "1");
        let output = command.output().expect("the tests can be run");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let server = Server::bind(config()).await.expect("a free port");
    churn(&server).await;
    let before = resident();
    churn(&server).await;
    assert_eq!(server.snapshot().counters.dials, 2 * (PAIRS * DIALS) as u64);
    if let (Some(before), Some(after)) = (before, resident()) {
        // The npm server keeps two listeners a dial, and a timer a join: more than 2 KiB each.
        let grown = after.saturating_sub(before);
        assert!(grown < 2 * 1024, "{grown} KiB more than {before}");
    }
}
