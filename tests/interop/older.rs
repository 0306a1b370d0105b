//! Peers of every age, through both rendezvous: peers that know credits, and peers that do not.

use futures::future::join;
use serde_json::json;

use crate::support::{
    address, embedded,
    js::{Peer, Rendezvous, RendezvousOptions, wire},
    raw::{Raw, check_echo, echo},
};

/// One release of each line before the current one. All of them send the same on the wire.
const OLDER: [&str; 3] = ["0.8.0", "0.9.1", "0.10.0"];
/// The number of bytes, many times the first credit.
const BYTES: usize = 2 << 20;

/// Has a Rust peer and a JavaScript peer dial each other.
async fn check(rust: &mut Raw, ours: &str, js: &Peer, addr: &str) {
    let wire = wire(ours);
    let theirs = js.listen(addr).await;
    for chunk in [65_536, 999_000] {
        check_echo(rust.dial(&theirs).await, BYTES, chunk).await;
        let dial = js.dial(&wire, json!({"bytes": BYTES, "chunk": chunk}));
        let answer = async { echo(rust.accept().await.0).await.expect("no reset") };
        let (dialled, copied) = join(dial, answer).await;
        assert_eq!(dialled["ok"], true, "{dialled}");
        assert_eq!(copied, BYTES as u64);
    }
}

async fn all(addr: &str) {
    let (mut rust, mut other) = (Raw::new(), Raw::new());
    let (_, ours) = rust.listen(addr).await;
    let (_, others) = other.listen(addr).await;
    let (ours, others) = (ours.to_string(), others.to_string());
    for version in OLDER {
        check(&mut rust, &ours, &Peer::older(version), addr).await;
    }
    check(&mut rust, &ours, &Peer::start(), addr).await;
    // Two peers that know credits.
    let dial = rust.dial(&others);
    let (connection, (accepted, _)) = join(dial, other.accept()).await;
    let (_, copied) = join(check_echo(connection, BYTES, 65_536), echo(accepted)).await;
    assert_eq!(copied.expect("no reset"), BYTES as u64);
    // Two peers that do not know credits.
    let (older, old) = (Peer::older(OLDER[0]), Peer::start());
    let (of_older, of_old) = (older.listen(addr).await, old.listen(addr).await);
    older.echo(&of_old, BYTES as u64).await;
    old.echo(&of_older, BYTES as u64).await;
}

#[tokio::test]
async fn peers_of_every_age_reach_each_other_through_the_embedded_rendezvous() {
    let star = embedded().await;
    all(&address(&star)).await;
    star.shutdown().await;
}

#[tokio::test]
async fn peers_of_every_age_reach_each_other_through_the_npm_rendezvous() {
    let star = Rendezvous::start(RendezvousOptions::default()).await;
    all(&star.addr()).await;
}
