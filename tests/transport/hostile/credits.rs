//! Credits: how much a peer that knows them may send, peers that cheat, and peers that do not know credits.

use std::{io, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p_websocket_star::{Config, Connection, Limits, error::StreamError};
use serde_json::{Value, json};

use super::{connection as ignorant, linked};
use crate::support::{
    address, embedded, hasty, pattern,
    raw::{Raw, check_echo, echo, read_error, reset},
    scripted::{Link, error},
    within,
};

const FIRST: usize = 16_384;
/// The cost of an item in addition to its data, in bytes.
const ITEM: usize = 128;

fn accept(stream: &str) -> String {
    format!("socket.io-pull-stream.accept.{stream}")
}

async fn grant(link: &mut Link, stream: &str, argument: Value) {
    link.event(json!([accept(stream), argument])).await;
}

/// Dials the node like a peer that knows credits.
async fn connection(link: &mut Link, node: &mut Raw, id: &str) -> Connection {
    let dial = async {
        let ack = link.incoming(id).await;
        let accepted = link.expect(&accept(&format!("{id}.dialer"))).await;
        assert_eq!(accepted.args, [json!({"credit": FIRST})]);
        assert_eq!(link.answered(ack).await, json!([]));
        grant(link, &format!("{id}.listener"), json!({"credit": FIRST})).await;
    };
    let (_, (connection, _)) = futures::future::join(dial, node.accept()).await;
    connection
}

async fn read_pattern(connection: &mut Connection, from: usize, len: usize) {
    let mut data = vec![0; len];
    let read = within("data", connection.read_exact(&mut data)).await;
    read.expect("no reset");
    assert!(data == pattern(from, len), "wrong bytes after {from}");
}

/// Takes items until that many bytes have arrived.
async fn take_pattern(link: &mut Link, from: usize, len: usize) {
    let mut data = Vec::new();
    while data.len() < len {
        data.extend_from_slice(&link.item().await);
    }
    assert!(data == pattern(from, len), "wrong bytes after {from}");
}

/// Checks that the node has nothing more to send: its next message is the pong to this ping.
async fn is_quiet(link: &mut Link, mark: &str) {
    link.text(&format!("2{mark}")).await;
    match link.next().await {
        crate::support::scripted::Frame::Pong(found) => assert_eq!(found, mark),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_sends_beyond_its_credit_loses_its_connection_and_not_the_link() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut neighbour = connection(&mut link, &mut node, "neighbour").await;
    let mut cheated = connection(&mut link, &mut node, "a").await;
    // The peer is granted about 256 KiB before anything is read, and sends more than that.
    for _ in 0..17 {
        link.queue("a.dialer", &pattern(0, FIRST - ITEM)).await;
    }
    let told = link.expect(&error("a.listener")).await;
    assert_eq!(told.args, [json!("more was sent than granted")]);
    assert_eq!(read_error(&mut cheated).await, StreamError::CreditExceeded);
    let written = cheated.write(b"late").await.expect_err("a reset");
    assert_eq!(reset(written), StreamError::CreditExceeded);
    // Further data of that connection is ignored.
    link.queue("a.dialer", &pattern(0, FIRST)).await;
    link.queue("neighbour.dialer", &pattern(0, 1000)).await;
    read_pattern(&mut neighbour, 0, 1000).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_peer_gets_more_credit_as_soon_as_half_of_the_first_one_is_read() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    let quarter = FIRST / 4 - ITEM;
    let mut sent = 0;
    for _ in 0..4 {
        for _ in 0..2 {
            link.queue("a.dialer", &pattern(sent, quarter)).await;
            sent += quarter;
            read_pattern(&mut connection, sent - quarter, quarter).await;
        }
        let granted = link.expect(&accept("a.dialer")).await;
        let credit = granted.args[0]["credit"].as_u64().expect("a number");
        assert!(credit >= FIRST as u64 / 2, "{credit}");
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_writer_waits_for_credit_and_its_neighbours_do_not() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    let writer = tokio::spawn(async move {
        connection.write_all(&pattern(0, 200_000)).await?;
        connection.close().await?;
        io::Result::Ok(connection)
    });
    take_pattern(&mut link, 0, FIRST - ITEM).await;
    is_quiet(&mut link, "first").await;
    link.check(&mut node).await;
    grant(&mut link, "a.listener", json!({"credit": 50_128})).await;
    take_pattern(&mut link, FIRST - ITEM, 50_000).await;
    is_quiet(&mut link, "second").await;
    grant(&mut link, "a.listener", json!({"credit": 1_000_000})).await;
    let from = FIRST - ITEM + 50_000;
    take_pattern(&mut link, from, 200_000 - from).await;
    let end = link.expect(&error("a.listener")).await;
    assert_eq!(end.args, [json!(true)]);
    let written = within("the end", writer).await.expect("no panic");
    written.expect("no reset");
    link.check(&mut node).await;
}

#[tokio::test]
async fn absurd_credits_harm_nobody() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let arguments = [
        json!({"credit": u64::MAX}),
        json!({"credit": 1e300}),
        json!({"credit": -1}),
        json!({"credit": 0.5}),
        json!({"credit": "lots"}),
        json!({"credit": {"credit": 1}}),
        json!({"credit": 1_000_000, "returned": u64::MAX}),
        json!({"returned": 5}),
        json!([]),
        json!(null),
        json!("x".repeat(100_000)),
    ];
    for (n, argument) in arguments.into_iter().enumerate() {
        let id = format!("absurd-{n}");
        let ack = link.incoming(&id).await;
        assert_eq!(link.answered(ack).await, json!([]));
        let (mut connection, _) = node.accept().await;
        let stream = format!("{id}.listener");
        for _ in 0..3 {
            grant(&mut link, &stream, argument.clone()).await;
        }
        link.event(json!([accept(&stream)])).await;
        connection
            .write_all(&pattern(0, 100_000))
            .await
            .expect("room");
        connection.flush().await.expect("no reset");
        take_pattern(&mut link, 0, 100_000).await;
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_connection_that_is_not_read_holds_up_nobody_and_is_not_reset_while_there_is_credit() {
    let short = Duration::from_millis(100);
    let config = hasty()
        .with_stall_timeout(short)
        .with_hold_up_timeout(short)
        .with_limits(Limits::default().with_receive_bytes(1000));
    let (_server, mut node, mut link) = linked(config).await;
    let mut stalled = connection(&mut link, &mut node, "stalled").await;
    for n in 0..4 {
        let data = pattern(n * 3968, 3968);
        link.queue("stalled.dialer", &data).await;
    }
    // More credit is granted although nothing was read: the limit of unread data is higher than the first credit.
    let granted = link.expect(&accept("stalled.dialer")).await;
    assert!(granted.args[0]["credit"].is_u64(), "{granted:?}");
    tokio::time::sleep(4 * short).await;
    link.check(&mut node).await;
    read_pattern(&mut stalled, 0, 4 * 3968).await;
}

#[tokio::test]
async fn a_direction_that_ends_leaves_the_other_its_credit() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    link.queue("a.dialer", &pattern(0, 12_000)).await;
    link.expect(&accept("a.dialer")).await;
    link.end("a.dialer", json!(true)).await;
    read_pattern(&mut connection, 0, 12_000).await;
    let end = within("the end", connection.read(&mut [0; 1])).await;
    assert_eq!(end.expect("no reset"), 0);
    // No more credit is granted for a direction that has ended.
    is_quiet(&mut link, "ended").await;
    let writer = tokio::spawn(async move {
        connection.write_all(&pattern(0, 40_000)).await?;
        connection.close().await
    });
    take_pattern(&mut link, 0, FIRST - ITEM).await;
    grant(&mut link, "a.listener", json!({"credit": 100_000})).await;
    let from = FIRST - ITEM;
    take_pattern(&mut link, from, 40_000 - from).await;
    assert_eq!(link.expect(&error("a.listener")).await.args, [json!(true)]);
    let written = within("the end", writer).await.expect("no panic");
    written.expect("no reset");
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_reset_with_credit_outstanding_comes_after_the_data_and_credits_come_too_late() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut by_peer = connection(&mut link, &mut node, "by-peer").await;
    let mut by_us = connection(&mut link, &mut node, "by-us").await;
    link.queue("by-peer.dialer", &pattern(0, 1000)).await;
    link.end("by-peer.dialer", json!("gone")).await;
    read_pattern(&mut by_peer, 0, 1000).await;
    let gone = StreamError::ResetByPeer("gone".to_owned());
    assert_eq!(read_error(&mut by_peer).await, gone);
    by_us
        .write_all(&pattern(0, FIRST - ITEM))
        .await
        .expect("room");
    by_us.flush().await.expect("no reset");
    drop(by_us);
    take_pattern(&mut link, 0, FIRST - ITEM).await;
    link.expect(&error("by-us.listener")).await;
    for stream in ["by-peer.listener", "by-us.listener", "by-us.dialer"] {
        grant(&mut link, stream, json!({"credit": 100_000, "returned": 5})).await;
    }
    link.queue("by-us.dialer", &pattern(0, 100_000)).await;
    link.check(&mut node).await;
}

fn impatient() -> Config {
    hasty()
        .with_hold_up_timeout(Duration::from_millis(500))
        .with_limits(Limits::default().with_receive_bytes(64 * 1024))
}

#[tokio::test]
async fn a_reader_that_stalls_may_hold_up_others_for_a_short_time_only() {
    let (_server, mut node, mut link) = linked(impatient()).await;
    let mut stalled = ignorant(&mut link, &mut node, "stalled").await;
    let mut neighbour = ignorant(&mut link, &mut node, "neighbour").await;
    link.queue("stalled.dialer", &pattern(0, 60_000)).await;
    link.queue("stalled.dialer", &pattern(0, 60_000)).await;
    link.queue("neighbour.dialer", &pattern(0, 1000)).await;
    read_pattern(&mut neighbour, 0, 1000).await;
    assert_eq!(read_error(&mut stalled).await, StreamError::ReaderStalled);
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_reader_that_was_slow_while_it_was_alone_has_all_its_time_when_it_is_not() {
    let (_server, mut node, mut link) = linked(impatient()).await;
    let mut slow = ignorant(&mut link, &mut node, "slow").await;
    for n in 0..2 {
        link.queue("slow.dialer", &pattern(n * 60_000, 60_000))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    // Until now, the reader did not hold up any other connection. Now there is a neighbour, and the reader reads soon.
    let neighbour = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        read_pattern(&mut slow, 0, 120_000).await;
    };
    let dial = ignorant(&mut link, &mut node, "neighbour");
    let (_, mut neighbour) = futures::future::join(neighbour, dial).await;
    link.queue("neighbour.dialer", &pattern(0, 1000)).await;
    read_pattern(&mut neighbour, 0, 1000).await;
    link.check(&mut node).await;
}

/// Such a reader used to hold up its neighbours for ever.
#[tokio::test]
async fn a_reader_that_is_slow_for_ever_is_reset_when_it_has_held_up_others_for_long_enough() {
    let (_server, mut node, mut link) = linked(impatient()).await;
    let mut slow = ignorant(&mut link, &mut node, "slow").await;
    let _neighbour = ignorant(&mut link, &mut node, "neighbour").await;
    let flood = tokio::spawn(async move {
        let item = [b"\x04", &pattern(0, 60_000)[..]].concat();
        let header = crate::support::scripted::header("slow.dialer");
        for _ in 0..100 {
            let sent = link
                .try_send(tokio_websockets::Message::text(header.clone()))
                .await
                && link
                    .try_send(tokio_websockets::Message::binary(item.clone()))
                    .await;
            assert!(sent, "the client has gone");
        }
        link
    });
    let mut data = vec![0; 60_000];
    let error = loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Err(error) = within("data", slow.read_exact(&mut data)).await {
            break reset(error);
        }
    };
    assert_eq!(error, StreamError::ReaderStalled);
    let mut link = within("the flood", flood).await.expect("no panic");
    link.check(&mut node).await;
}

#[tokio::test]
async fn between_peers_of_this_crate_one_that_is_not_read_slows_down_nobody() {
    let star = embedded().await;
    let (dialer, mut listener) = (Raw::new(), Raw::new());
    let (_, addr) = listener.listen(&address(&star)).await;
    let addr = addr.to_string();
    let mut stalled = dialer.dial(&addr).await;
    let (mut unread, _) = listener.accept().await;
    let len = 4 << 20;
    let writer = tokio::spawn(async move {
        stalled.write_all(&pattern(0, len)).await?;
        stalled.close().await
    });
    for _ in 0..3 {
        let (connection, _) = futures::future::join(dialer.dial(&addr), async {
            let (other, _) = listener.accept().await;
            tokio::spawn(echo(other));
        })
        .await;
        check_echo(connection, 2 << 20, 100_000).await;
    }
    assert!(!writer.is_finished(), "it is written ahead of its reader");
    read_pattern(&mut unread, 0, len).await;
    let written = within("the end", writer).await.expect("no panic");
    written.expect("no reset");
}
