//! Measures how much memory a hostile rendezvous can make a node use. Each test runs again in a process of its own.

use std::{fs, process::Command};

use libp2p_websocket_star::{Config, error::LinkError};
use tokio_websockets::Message;

use super::{floods::fragments, linked, loss};
use crate::support::{
    ed25519, hasty,
    raw::Raw,
    scripted::{Scripted, header},
    within,
};

const ALONE: &str = "STAR_TEST_ALONE";
const MIB: usize = 1 << 20;

/// Runs the test of that name in a process of its own. Returns `false` inside that process.
fn run_alone(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let program = std::env::current_exe().expect("the path of the tests");
    let output = Command::new(program)
        .args([
            &format!("hostile::memory::{name}"),
            "--exact",
            "--nocapture",
        ])
        .env(ALONE, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the tests can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{output:?}"
    );
    true
}

/// Returns the highest memory use of the process so far, in bytes, or `None` where that is not available.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

struct Peak(Option<usize>);

impl Peak {
    fn now() -> Self {
        Self(peak())
    }

    fn has_grown_by_less_than(&self, bytes: usize) {
        if let (Some(before), Some(after)) = (self.0, peak()) {
            let grown = (after - before) / MIB;
            assert!(grown < bytes / MIB, "{grown} MiB more");
        }
    }
}

#[tokio::test]
async fn a_message_of_100_mib() {
    if run_alone("a_message_of_100_mib") {
        return;
    }
    let (server, mut node, mut link) = linked(hasty()).await;
    let peak = Peak::now();
    fragments(&mut link, b"42[\"x\",\"", 100).await;
    let error = loss(&server, &mut node).await;
    assert!(matches!(error, LinkError::MessageTooLong { .. }), "{error}");
    peak.has_grown_by_less_than(32 * MIB);
}

/// Each answer used to be as long as the heartbeat, and 4096 of them were queued.
#[tokio::test]
async fn long_heartbeats_whose_answers_are_not_read() {
    if run_alone("long_heartbeats_whose_answers_are_not_read") {
        return;
    }
    let server = Scripted::with_small_receive_buffer().await;
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen_on(&server.addr()).expect("a good address");
    let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
    let peak = Peak::now();
    let ping = Message::text(format!("2{}", "x".repeat(MIB)));
    within("the node to give up", async {
        for _ in 0..100 {
            if !link.feed(ping.clone()).await {
                return;
            }
        }
    })
    .await;
    loss(&server, &mut node).await;
    peak.has_grown_by_less_than(32 * MIB);
}

/// An item of one byte used to keep the whole read buffer in which it arrived.
#[tokio::test]
async fn small_items_between_large_ones() {
    if run_alone("small_items_between_large_ones") {
        return;
    }
    let (_server, mut node, mut link) = linked(Config::default()).await;
    let (_, (_stalled, _)) = futures::future::join(link.dial("stalled"), node.accept()).await;
    let peak = Peak::now();
    let (queue, unknown) = (header("stalled.dialer"), header("unknown.dialer"));
    let filler = Message::binary([&[4], &[0; 16 * 1024][..]].concat());
    // Each item takes 129 bytes of the budget, which is 1 MiB.
    for _ in 0..8000 {
        link.feed(Message::text(queue.clone())).await;
        link.feed(Message::binary(&b"\x04x"[..])).await;
        link.feed(Message::text(unknown.clone())).await;
        link.feed(filler.clone()).await;
    }
    link.check(&mut node).await;
    peak.has_grown_by_less_than(24 * MIB);
}

/// The item used to be parsed into a tree, at 40 bytes for each byte of the item.
#[tokio::test]
async fn an_item_that_is_a_deep_tree_of_json() {
    if run_alone("an_item_that_is_a_deep_tree_of_json") {
        return;
    }
    let (_server, mut node, mut link) = linked(hasty()).await;
    let (_, (_spoilt, _)) = futures::future::join(link.dial("a"), node.accept()).await;
    let item = format!("[{}[0]]", "[0],".repeat(900_000));
    let peak = Peak::now();
    link.text(&format!(
        "42[\"socket.io-pull-stream.queue.a.dialer\",{item}]"
    ))
    .await;
    link.text(&format!(
        "451-[\"socket.io-pull-stream.queue.a.dialer\",{item}]"
    ))
    .await;
    link.binary(b"\x04data").await;
    link.check(&mut node).await;
    peak.has_grown_by_less_than(48 * MIB);
}
