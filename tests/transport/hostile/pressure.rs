//! Back-pressure: only a reader that stalls loses its stream, and only after the stall timeout.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::{
    Config, Limits,
    error::{Error, LinkError, StreamError},
};
use serde_json::json;

use super::{connection, linked, loss};
use crate::support::{
    ed25519, hasty, pattern,
    raw::{Raw, reset},
    scripted::{Frame, Link, Scripted, error},
    within,
};

const BUDGET: usize = 64 * 1024;
const ITEM: usize = 4096;
/// An open packet with a ping interval of 50 ms.
const OPEN: &str = r#"0{"sid":"a","upgrades":[],"pingInterval":50,"pingTimeout":20000}"#;

fn small() -> Config {
    hasty().with_limits(Limits::default().with_receive_bytes(BUDGET))
}

async fn linked_with_heartbeats(config: Config) -> (Scripted, Raw, Link) {
    let server = Scripted::start().await;
    let mut node = Raw::with(&ed25519(), config);
    node.listen_on(&server.addr()).expect("a good address");
    let mut link = server.opened(OPEN).await;
    futures::future::join(link.join(&[]), node.joined()).await;
    (server, node, link)
}

async fn queue_pattern(link: &mut Link, stream: &str, items: usize) {
    for i in 0..items {
        link.queue(stream, &pattern(i * ITEM, ITEM)).await;
    }
}

#[tokio::test]
async fn a_stalled_reader_loses_its_own_stream_and_not_its_neighbours() {
    let config = small().with_stall_timeout(Duration::from_secs(1));
    let (_server, mut node, mut link) = linked_with_heartbeats(config).await;
    let mut stalled = connection(&mut link, &mut node, "stalled").await;
    let mut neighbour = connection(&mut link, &mut node, "neighbour").await;
    queue_pattern(&mut link, "stalled.dialer", 2 * BUDGET / ITEM).await;
    link.queue("neighbour.dialer", b"alive").await;

    let mut heartbeats = 0;
    loop {
        match link.next().await {
            Frame::Heartbeat => heartbeats += 1,
            Frame::Event(call) if call.name == error("stalled.listener") => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        heartbeats > 1,
        "heartbeats go on while the link is not read"
    );
    let mut rest = Vec::new();
    let read = within("a reset", stalled.read_to_end(&mut rest)).await;
    assert_eq!(
        reset(read.expect_err("a reset")),
        StreamError::ReaderStalled
    );
    let written = stalled.write(b"late").await.expect_err("a reset");
    assert_eq!(reset(written), StreamError::ReaderStalled);
    let mut data = [0; 5];
    within("an item", neighbour.read_exact(&mut data))
        .await
        .expect("no reset");
    assert_eq!(&data, b"alive");
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_stalled_reader_holds_at_most_its_budget() {
    let (server, mut node, mut link) = linked_with_heartbeats(small()).await;
    let mut stalled = connection(&mut link, &mut node, "stalled").await;
    queue_pattern(&mut link, "stalled.dialer", 4 * BUDGET / ITEM).await;
    for _ in 0..3 {
        assert!(matches!(link.next().await, Frame::Heartbeat));
    }
    // The node does not read the link now, so only its own heartbeats show it that the link is gone.
    drop(link);
    loss(&server, &mut node).await;
    let mut held = Vec::new();
    let read = within("a reset", stalled.read_to_end(&mut held)).await;
    assert_eq!(reset(read.expect_err("a reset")), StreamError::LinkLost);
    assert!(
        held.len() > BUDGET / 2 && held.len() <= BUDGET,
        "{}",
        held.len()
    );
    assert!(held == pattern(0, held.len()));
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let config = small().with_stall_timeout(Duration::from_millis(1500));
    let (_server, mut node, mut link) = linked_with_heartbeats(config).await;
    let mut slow = connection(&mut link, &mut node, "slow").await;
    let items = 8 * BUDGET / ITEM;
    queue_pattern(&mut link, "slow.dialer", items).await;
    link.end("slow.dialer", json!(true)).await;
    // The heartbeats pace this reader, so that all of it takes longer than the stall timeout.
    let (mut received, mut data) = (0, [0; BUDGET / 6]);
    loop {
        assert!(matches!(link.next().await, Frame::Heartbeat));
        let n = within("data", slow.read(&mut data))
            .await
            .expect("no reset");
        assert!(data[..n] == pattern(received, n));
        received += n;
        if n == 0 {
            break;
        }
    }
    assert_eq!(received, items * ITEM);
}

#[tokio::test]
async fn a_stream_that_is_never_accepted_fails_after_the_stall_timeout() {
    let config = hasty().with_stall_timeout(Duration::from_millis(400));
    let (_server, mut node, mut link) = linked(config).await;
    link.incoming("a").await;
    let (mut connection, _) = node.accept().await;
    connection.write_all(b"data").await.expect("room");
    connection.flush().await.expect("no reset");
    let read = within("a reset", connection.read(&mut [0; 1])).await;
    assert_eq!(reset(read.expect_err("a reset")), StreamError::NotAccepted);
    let written = connection.write(b"late").await.expect_err("a reset");
    assert_eq!(reset(written), StreamError::NotAccepted);
    let flushed = connection.flush().await.expect_err("a reset");
    assert_eq!(reset(flushed), StreamError::NotAccepted);
    let closed = connection.close().await.expect_err("a reset");
    assert_eq!(reset(closed), StreamError::NotAccepted);
    let told = link.expect(&error("a.listener")).await;
    assert!(told.args[0].is_string(), "{told:?}");
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_write_that_waits_for_an_accept_fails_after_the_stall_timeout() {
    let config = hasty().with_stall_timeout(Duration::from_millis(400));
    let (_server, mut node, mut link) = linked(config).await;
    link.incoming("a").await;
    let (mut connection, _) = node.accept().await;
    let written = within("a reset", connection.write_all(&pattern(0, 4 << 20))).await;
    assert_eq!(
        reset(written.expect_err("a reset")),
        StreamError::NotAccepted
    );
    link.check(&mut node).await;
}

/// Such a close used to wait for ever, and to occupy one of the link's connections for ever.
#[tokio::test]
async fn a_close_that_is_never_accepted_fails_after_the_stall_timeout() {
    let limits = Limits::default().with_connections(1);
    let config = hasty()
        .with_stall_timeout(Duration::from_millis(400))
        .with_limits(limits);
    let (_server, mut node, mut link) = linked(config).await;
    link.incoming("closed").await;
    let (mut connection, _) = node.accept().await;
    let closed = within("a reset", connection.close()).await;
    assert_eq!(
        reset(closed.expect_err("a reset")),
        StreamError::NotAccepted
    );
    drop(connection);
    link.expect(&error("closed.listener")).await;

    link.incoming("closed-and-dropped").await;
    link.expect("socket.io-pull-stream.accept.closed-and-dropped.dialer")
        .await;
    let (mut connection, _) = node.accept().await;
    assert!(futures::poll!(connection.close()).is_pending());
    drop(connection);
    link.expect(&error("closed-and-dropped.listener")).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn writes_to_a_server_that_does_not_read_wait_until_it_does() {
    const TOTAL: usize = 32 << 20;
    /// The most bytes that may be written ahead: the kernel's largest buffers, and ours.
    const AHEAD: usize = 12 << 20;
    let server = Scripted::with_small_receive_buffer().await;
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen_on(&server.addr()).expect("a good address");
    let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;

    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let writer = tokio::spawn(async move {
        let chunk = pattern(0, 1 << 16);
        for _ in 0..TOTAL / chunk.len() {
            connection.write_all(&chunk).await?;
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        connection.close().await
    });
    let mut received = 0;
    while received < TOTAL {
        received += link.item().await.len();
        let ahead = written.load(Ordering::Relaxed).saturating_sub(received);
        assert!(ahead <= AHEAD, "{ahead} bytes written ahead");
    }
    let ended = link.expect(&error("a.listener")).await;
    assert_eq!(ended.args, [json!(true)]);
    within("the writer", writer)
        .await
        .expect("no panic")
        .expect("no reset");
}

#[tokio::test]
async fn a_dial_at_a_server_that_does_not_read_ends_with_the_heartbeat() {
    let server = Scripted::with_small_receive_buffer().await;
    let node = Raw::with(&ed25519(), hasty());
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let open = r#"0{"sid":"a","upgrades":[],"pingInterval":50,"pingTimeout":300}"#;
    let _link = server.opened(open).await;
    match within("a dial", dial).await.expect("no panic") {
        Err(Error::Link {
            error: LinkError::Heartbeat(_),
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}
