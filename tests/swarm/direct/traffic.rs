//! Traffic while a connection moves to a direct one, and traffic that keeps it from moving.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::direct::Event;
use tokio::time::{Instant, sleep};

use super::{
    LONG,
    node::{InnerEvent, Kind, Node, Options, pair},
};
use crate::support::{embedded, log, panics, pattern, within};

/// Returns the number of upgrades in a row. `STAR_UPGRADES` may ask for more.
pub fn upgrades() -> usize {
    let asked = std::env::var("STAR_UPGRADES").ok();
    asked.map_or(4, |asked| asked.parse().expect("a number"))
}

/// The nodes open one stream after the other as long as there is a connection through the rendezvous. Some of the
/// streams use that connection.
#[tokio::test]
async fn no_byte_is_lost_or_doubled_while_connections_go_over() {
    log();
    let server = embedded().await;
    for round in 0..upgrades() {
        let kind = [Kind::Tcp, Kind::Quic][round % 2];
        let mut nodes = pair(&server, [Options::of(kind), Options::of(kind)]).await;
        go_over_busily(&mut nodes, round).await;
    }
    assert_eq!(panics(), 0);
    server.shutdown().await;
}

/// Has both nodes send until they are connected directly and for a while after that, and again once all traffic is
/// direct.
pub async fn go_over_busily([one, two]: &mut [Node; 2], round: usize) {
    let peers = [one.peer, two.peer];
    futures::future::join(
        busy_until_connected(one, peers[1], round),
        busy_until_connected(two, peers[0], round),
    )
    .await;
    one.left_the_rendezvous(peers[1]).await;
    two.left_the_rendezvous(peers[0]).await;
    one.send(peers[1], 1 << 16).await;
    two.send(peers[0], 1 << 16).await;
}

/// Sends until there is a direct connection, and for a while after that.
async fn busy_until_connected(node: &mut Node, other: libp2p::PeerId, round: usize) {
    let mut more = None;
    while more.is_none_or(|more: Instant| Instant::now() < more) {
        node.send(other, 1 + 1000 * round).await;
        while let Some(event) = node.seen() {
            if let InnerEvent::Direct(event) = event {
                assert!(matches!(event, Event::Connected { .. }), "{event:?}");
                let while_after = Duration::from_millis(100 * (round % 5) as u64);
                more = Some(Instant::now() + while_after);
            }
        }
    }
}

/// A stream in use stays, and its connection stays with it.
#[tokio::test]
async fn a_connection_in_use_stays_until_it_is_not() {
    log();
    let server = embedded().await;
    let mut options = Options::of(Kind::Tcp);
    // The direct connection is kept although it is not in use yet.
    options.idle = Duration::from_secs(1);
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    // The stream is opened before there is a direct connection.
    let (mut reads, mut writes) = two.open(one.peer).await.split();
    let sent = pattern(0, 32);
    let mut echo = async || {
        // It sends as many bytes as a ping.
        writes.write_all(&sent).await.expect("no reset");
        writes.flush().await.expect("no reset");
        let mut received = [0; 32];
        let read = reads.read_exact(&mut received);
        within("the echo", read).await.expect("no reset");
        assert_eq!(received[..], sent);
    };
    echo().await;
    one.connected(two.peer).await;
    two.connected(one.peer).await;
    let began = Instant::now();
    while began.elapsed() < LONG {
        echo().await;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        one.seen()
            .is_none_or(|event| !matches!(event, InnerEvent::Direct(_)))
    );
    one.left_the_rendezvous(two.peer).await;
    two.left_the_rendezvous(one.peer).await;
    server.shutdown().await;
}
