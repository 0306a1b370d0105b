//! The metrics of a transport, with an embedded rendezvous and with npm's.

use std::time::Duration;

use futures::AsyncWriteExt as _;
use libp2p::core::transport::TransportEvent;
use libp2p_websocket_star::{
    metrics::Reset,
    rendezvous::{self, Server},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::support::{
    address, ed25519, hasty,
    js::{Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
    within,
};

const LEN: usize = 1 << 20;

/// Returns the metrics of a node in the text format of Prometheus.
fn text(node: &Raw) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(node.transport().metrics()));
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    text
}

#[tokio::test]
async fn links_joins_dials_and_bytes_are_counted() {
    let mut npm = Rendezvous::start(RendezvousOptions::default()).await;
    let (mut one, mut other) = (
        Raw::with(&ed25519(), hasty()),
        Raw::with(&ed25519(), hasty()),
    );
    assert!(one.transport().snapshot().links.is_empty());
    one.listen(&npm.addr()).await;
    let (_, to) = other.listen(&npm.addr()).await;
    let dialled = one.dial(&to.to_string()).await;
    let answer = async { echo(other.accept().await.0).await.expect("no reset") };
    futures::future::join(check_echo(dialled, LEN, 65_536), answer).await;
    let nobody = format!("{}/p2p/{}", npm.addr(), ed25519().public().to_peer_id());
    one.try_dial(&nobody).await.expect_err("nobody");
    let (ours, theirs) = (one.transport().snapshot(), other.transport().snapshot());
    let url = format!("ws://127.0.0.1:{}", npm.port());
    for snapshot in [&ours, &theirs] {
        let [link] = &snapshot.links[..] else {
            panic!("{snapshot:?}");
        };
        assert_eq!((&*link.rendezvous, link.joined), (&*url, 1));
        assert_eq!((snapshot.links_opened, snapshot.links_lost), (1, 0));
        assert_eq!((snapshot.joins, snapshot.joins_failed), (1, 0));
        let bytes = (snapshot.sent_bytes, snapshot.received_bytes);
        assert_eq!(bytes, (LEN as u64, LEN as u64));
    }
    assert_eq!((ours.dials, ours.dials_failed, ours.accepted), (1, 1, 0));
    assert_eq!(
        (theirs.dials, theirs.dials_failed, theirs.accepted),
        (0, 0, 1)
    );
    // A connection is reset when its link is lost.
    let mut dialled = one.dial(&to.to_string()).await;
    dialled.write_all(b"hello").await.expect("writable");
    let _accepted = other.accept().await;
    npm.kill().await;
    loop {
        let event = one.event().await;
        if matches!(event, TransportEvent::ListenerError { .. }) {
            break;
        }
    }
    within("a failed attempt", async {
        while one.transport().snapshot().links_failed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let lost = one.transport().snapshot();
    assert!(lost.links.is_empty());
    assert_eq!((lost.links_lost, lost.resets(Reset::LinkLost)), (1, 1));
    npm.restart().await;
    one.joined().await;
    let text = text(&one);
    for line in [
        "websocket_star_links_opened_total 2".to_owned(),
        "websocket_star_joins_total 2".to_owned(),
        "websocket_star_resets_total{reason=\"link_lost\"} 1".to_owned(),
        "websocket_star_resets_total{reason=\"by_peer\"} 0".to_owned(),
        format!("websocket_star_links{{rendezvous=\"{url}\"}} 1.0"),
        format!("websocket_star_joined{{rendezvous=\"{url}\"}} 1.0"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn the_answer_to_a_heartbeat_tells_the_round_trip() {
    let often = rendezvous::Config::default().with_ping_interval(Duration::from_millis(50));
    let server = Server::bind(often).await.expect("a free port");
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen(&address(&server)).await;
    let measured = async {
        loop {
            if let Some(time) = node.transport().snapshot().links[0].round_trip {
                return time;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let round_trip = within("a heartbeat", measured).await;
    assert!(round_trip > Duration::ZERO);
    assert!(text(&node).contains("websocket_star_round_trip_seconds{rendezvous=\"ws://127.0.0.1"));
}
