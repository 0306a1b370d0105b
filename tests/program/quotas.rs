//! Quotas as an operator sets them, with npm's client and ours.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::transport::TransportEvent::{AddressExpired, ListenerError};
use libp2p_websocket_star::error::{DialError, Error};
use serde_json::json;

use crate::support::{
    binary::{Binary, http, value},
    ed25519, hasty,
    js::{Peer, wire},
    raw::{Raw, echo_both_ways, read_error},
    within,
};

const KIB: usize = 1024;
const SPENT: &str = " s: a peer has spent its daily quota";

/// Starts a node and an npm client at that rendezvous. Returns them with their addresses.
async fn both(star: &Binary) -> (Raw, String, Peer, String) {
    let (mut node, npm) = (Raw::with(&ed25519(), hasty()), Peer::start());
    let (_, own) = node.listen(&star.addr()).await;
    let theirs = npm.listen(&star.addr()).await;
    (node, own.to_string(), npm, theirs)
}

async fn metrics(star: &Binary) -> String {
    http(star.local_addr(), "GET", "/metrics", "x").await
}

#[tokio::test]
async fn peers_are_slowed_down_and_lose_nothing() {
    const LEN: usize = 512 * KIB;
    let flags = [
        "--peer-rate",
        "256KiB",
        "--metrics-top-peers",
        "10",
        // These times are far shorter than the whole transfer.
        "--ping-interval",
        "500ms",
        "--ping-timeout",
        "500ms",
        "--stall-timeout",
        "500ms",
    ];
    let star = Binary::start(&flags).await;
    let (mut node, own, npm, theirs) = both(&star).await;
    let start = Instant::now();
    let address = own.parse().expect("a multiaddr");
    echo_both_ways(&mut node, &address, &npm, &theirs, LEN, 16 * KIB).await;
    // Each of them has sent that much twice.
    let least = Duration::from_secs(2 * LEN as u64 / (256 * KIB as u64)) * 9 / 10;
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    let metrics = metrics(&star).await;
    for address in [&own, &theirs] {
        let (_, id) = address.rsplit_once('/').expect("an id");
        let name = format!("rendezvous_top_peer_sent_bytes{{peer=\"{id}\"}}");
        let sent: usize = value(&metrics, &name);
        assert!((2 * LEN..2 * LEN + KIB).contains(&sent), "{sent}");
    }
    for reason in ["silent", "stalled", "slow", "day_spent"] {
        let name = format!("rendezvous_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(value::<u64>(&metrics, &name), 0, "{reason}");
    }
}

#[tokio::test]
async fn a_peer_whose_day_is_spent_is_told_so_and_when_to_come_again() {
    let star = Binary::start(&["--peer-daily", "300KiB"]).await;
    let (node, own, npm, theirs) = both(&star).await;
    let (mut reader, mut writer) = node.dial(&theirs).await.split();
    let sending = async {
        let item = vec![0; 16 * KIB];
        while writer.write_all(&item).await.is_ok() {}
    };
    let reading = async {
        let mut buffer = vec![0; 64 * KIB];
        while reader.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    };
    within("the end", futures::future::join(sending, reading)).await;
    let mut connection = reader.reunite(writer).expect("the same");
    let told = read_error(&mut connection).await.to_string();
    let expected = "a peer has spent its daily quota, again in ";
    assert!(told.contains(expected), "{told}");

    let Err(Error::Dial { error, .. }) = node.try_dial(&theirs).await else {
        panic!("dialled")
    };
    let after = error.retry_after().expect("a time");
    assert!(after <= Duration::from_secs(86_400), "{after:?}");
    match &error {
        DialError::Refused(words) => assert!(words.ends_with(SPENT), "{words}"),
        other => panic!("{other:?}"),
    }
    // A peer that dials this node gets the same error.
    let dialled = npm.dial(&wire(&own), json!({"timeoutMS": 1000})).await;
    let words = dialled["error"].to_string();
    let expected = format!("{SPENT}\"");
    assert!(words.ends_with(&expected), "{dialled}");
    // The link stays open.
    let name = "rendezvous_peers";
    assert_eq!(value::<u64>(&metrics(&star).await, name), 2);
}

#[tokio::test]
async fn links_that_are_too_old_end_and_their_peers_come_back_at_once() {
    let star = Binary::start(&["--max-link-age", "2s"]).await;
    let (mut node, _, npm, _) = both(&star).await;
    loop {
        match node.event().await {
            AddressExpired { .. } => {}
            ListenerError { error, .. } => {
                let told = error.to_string();
                assert!(
                    told.ends_with("the link has reached its maximum age; connect again"),
                    "{told}"
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    node.joined().await;
    // The npm client connected at about the same time, so its link expires too.
    let name = "rendezvous_refusals_total{reason=\"link_age\"}";
    let both_back = async {
        loop {
            let metrics = metrics(&star).await;
            let peers = value::<u64>(&metrics, "rendezvous_peers");
            if value::<u64>(&metrics, name) >= 2 && peers == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("both are back", both_back).await;
    drop(npm);
}
