//! Streams that are used wrongly. At most the stream itself fails; its neighbours and the link continue.

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::Transport as _;
use libp2p_websocket_star::{
    Connection, Limits,
    error::{DialError, Error, LinkError, StreamError},
};
use serde_json::json;

use super::{connection, linked, loss};
use crate::support::{
    ed25519, hasty,
    raw::{Raw, read_error, reset},
    scripted::{Frame, NONCE, Scripted, header},
    within,
};

async fn write_error(connection: &mut Connection) -> StreamError {
    reset(connection.write(b"late").await.expect_err("a reset"))
}

#[tokio::test]
async fn a_malformed_item_costs_its_stream_and_not_its_neighbour() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut neighbour = connection(&mut link, &mut node, "neighbour").await;
    for item in [
        json!(null),
        json!(true),
        json!(7),
        json!({}),
        json!([256]),
        json!([-1]),
        json!([1.5]),
        json!([[1]]),
        json!(["a"]),
        json!({"type": "Buffer"}),
        json!({"type": "Buffer", "data": "a"}),
        json!({"type": "Buffer", "data": [1, 300]}),
        json!({"type": "Other", "data": [1]}),
        json!({"_placeholder": true, "num": 0}),
    ] {
        let mut spoilt = connection(&mut link, &mut node, "spoilt").await;
        link.queue("spoilt.dialer", b"before").await;
        link.event(json!(["socket.io-pull-stream.queue.spoilt.dialer", item]))
            .await;
        assert_eq!(read_error(&mut spoilt).await, StreamError::MalformedItem);
        assert_eq!(write_error(&mut spoilt).await, StreamError::MalformedItem);
        link.expect("socket.io-pull-stream.error.spoilt.listener")
            .await;
    }
    for placeholder in [r#"{"_placeholder":true,"num":1}"#, "null", "7", "[]"] {
        let mut spoilt = connection(&mut link, &mut node, "spoilt").await;
        let name = "socket.io-pull-stream.queue.spoilt.dialer";
        link.text(&format!("451-[\"{name}\",{placeholder}]")).await;
        link.binary(b"\x04data").await;
        assert_eq!(read_error(&mut spoilt).await, StreamError::MalformedItem);
    }
    link.queue("neighbour.dialer", b"alive").await;
    let mut data = [0; 5];
    let read = within("an item", neighbour.read_exact(&mut data)).await;
    read.expect("no reset");
    assert_eq!(&data, b"alive");
}

#[tokio::test]
async fn an_item_may_be_written_as_text_and_have_foreign_packets_before_it() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    link.text("462-0[]").await;
    link.text("b4aGVsbG8=").await;
    link.binary(b"\x04passed over").await;
    link.text("40/admin,").await;
    link.text(&header("a.dialer")).await;
    link.text("b4aGVsbG8=").await;
    let mut data = [0; 5];
    let read = within("an item", connection.read_exact(&mut data)).await;
    read.expect("no reset");
    assert_eq!(&data, b"hello");
}

#[tokio::test]
async fn events_of_unknown_and_closed_streams_are_passed_over() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut closed = connection(&mut link, &mut node, "closed").await;
    link.end("closed.dialer", json!(true)).await;
    closed.close().await.expect("no reset");
    drop(closed);
    drop(connection(&mut link, &mut node, "dropped").await);
    link.expect("socket.io-pull-stream.error.dropped.listener")
        .await;
    for id in ["closed", "dropped", "unknown"] {
        for stream in [format!("{id}.dialer"), format!("{id}.listener")] {
            link.accept(&stream).await;
            link.queue(&stream, b"late").await;
            link.queue(&stream, b"").await;
            link.event(json!([
                format!("socket.io-pull-stream.queue.{stream}"),
                "late"
            ]))
            .await;
            link.event(json!([
                format!("socket.io-pull-stream.queue.{stream}"),
                null
            ]))
            .await;
            link.end(&stream, json!("late")).await;
            link.end(&stream, json!(true)).await;
        }
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_dial_id_in_use_is_refused_and_its_connection_goes_on() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let mut first = connection(&mut link, &mut node, "twice").await;
    let ack = link.incoming("twice").await;
    assert_eq!(link.answered(ack).await, json!(["the dial id is in use"]));
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let own = link.take_dial().await;
    let _dialled = within("a dial", dial)
        .await
        .expect("no panic")
        .expect("a connection");
    let ack = link.incoming(&own).await;
    assert_eq!(link.answered(ack).await, json!(["the dial id is in use"]));
    link.queue("twice.dialer", b"alive").await;
    let mut data = [0; 5];
    within("an item", first.read_exact(&mut data))
        .await
        .expect("no reset");
}

#[tokio::test]
async fn a_stream_that_ends_twice_has_ended_the_first_time() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    for second in [json!(true), json!("sorry"), json!(null), json!({})] {
        let mut connection = connection(&mut link, &mut node, "twice").await;
        link.queue("twice.dialer", b"data").await;
        link.end("twice.dialer", json!(true)).await;
        link.end("twice.dialer", second).await;
        link.queue("twice.dialer", b"late").await;
        let mut all = Vec::new();
        let read = within("the end", connection.read_to_end(&mut all)).await;
        read.expect("a proper end");
        assert_eq!(all, b"data");
        link.end("twice.listener", json!(true)).await;
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn events_of_the_wrong_direction_do_nothing() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let ack = link.incoming("a").await;
    assert_eq!(link.answered(ack).await, json!([]));
    let (mut connection, _) = node.accept().await;
    connection.write_all(b"data").await.expect("no reset");
    connection.flush().await.expect("no reset");

    link.accept("a.dialer").await;
    link.queue("a.listener", b"not for us").await;
    link.event(json!(["socket.io-pull-stream.queue.a.listener", null]))
        .await;
    link.text("2mark").await;
    match link.next().await {
        Frame::Pong(mark) => assert_eq!(mark, "mark"),
        other => panic!("sent before the accept: {other:?}"),
    }
    link.accept("a.listener").await;
    assert_eq!(link.item().await, &b"data"[..]);
    link.queue("a.dialer", b"for us").await;
    let mut data = [0; 6];
    within("an item", connection.read_exact(&mut data))
        .await
        .expect("no reset");
    assert_eq!(&data, b"for us");
}

#[tokio::test]
async fn a_peer_that_stops_reading_fails_our_writes_only() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    link.end("a.listener", json!("not read any more")).await;
    link.queue("a.dialer", b"data").await;
    link.end("a.dialer", json!(true)).await;
    let mut all = Vec::new();
    let read = within("the end", connection.read_to_end(&mut all)).await;
    read.expect("a proper end");
    assert_eq!(all, b"data");
    assert_eq!(write_error(&mut connection).await, StreamError::Stopped);
}

#[tokio::test]
async fn an_error_of_the_peer_resets_after_the_data_before_it() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    let mut connection = connection(&mut link, &mut node, "a").await;
    link.queue("a.dialer", b"data").await;
    link.end("a.dialer", json!("x".repeat(100_000))).await;
    let mut data = [0; 4];
    within("an item", connection.read_exact(&mut data))
        .await
        .expect("no reset");
    let error = StreamError::ResetByPeer("x".repeat(256));
    assert_eq!(read_error(&mut connection).await, error);
    assert_eq!(write_error(&mut connection).await, error);
}

#[tokio::test]
async fn a_dial_that_is_answered_twice_was_answered_the_first_time() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let call = link.expect("ss-dial").await;
    let id = call.arg(2).to_owned();
    for answer in [json!([]), json!(["Peer not found"]), json!([])] {
        link.answer(&call, answer).await;
    }
    let mut connection = within("a dial", dial)
        .await
        .expect("no panic")
        .expect("a connection");
    link.queue(&format!("{id}.listener"), b"data").await;
    let mut data = [0; 4];
    within("an item", connection.read_exact(&mut data))
        .await
        .expect("no reset");
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_dial_whose_streams_end_before_its_answer_is_reset() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let call = link.expect("ss-dial").await;
    link.end(&format!("{}.listener", call.arg(2)), json!("gone"))
        .await;
    link.answer(&call, json!([])).await;
    match within("a dial", dial).await.expect("no panic") {
        Err(Error::Dial {
            error: DialError::Reset,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_lost_link_resets_every_connection_and_never_ends_one() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let mut first = connection(&mut link, &mut node, "first").await;
    let mut second = connection(&mut link, &mut node, "second").await;
    link.queue("first.dialer", b"data").await;
    link.text(&header("second.dialer")).await;
    drop(link);
    loss(&server, &mut node).await;
    let mut data = [0; 4];
    within("an item", first.read_exact(&mut data))
        .await
        .expect("no reset");
    for connection in [&mut first, &mut second] {
        assert_eq!(read_error(connection).await, StreamError::LinkLost);
        assert_eq!(write_error(connection).await, StreamError::LinkLost);
        let closed = connection.close().await.expect_err("a reset");
        assert_eq!(reset(closed), StreamError::LinkLost);
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_until_one_ends() {
    let config = hasty().with_limits(Limits::default().with_connections(2));
    let (server, mut node, mut link) = linked(config).await;
    let first = connection(&mut link, &mut node, "first").await;
    let _second = connection(&mut link, &mut node, "second").await;
    let ack = link.incoming("third").await;
    assert_eq!(link.answered(ack).await, json!(["too many connections"]));
    match node.try_dial(&server.somebody()).await {
        Err(Error::Dial {
            error: DialError::TooMany,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    drop(first);
    link.expect("socket.io-pull-stream.error.first.listener")
        .await;
    link.check(&mut node).await;
}

/// Removing the listener used to lose the dials that waited for its join, until they timed out.
#[tokio::test]
async fn a_dial_outlives_the_listener_whose_join_it_waits_for() {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty());
    let listener = node.listen_on(&server.addr()).expect("a good address");
    let mut link = server.link().await;
    let challenge = link.expect("ss-join").await;
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    tokio::task::yield_now().await;
    node.transport().remove_listener(listener);
    link.answer(&challenge, json!([null, NONCE])).await;
    let proof = link.expect("ss-join").await;
    link.answer(&proof, json!([null, null, []])).await;
    link.take_dial().await;
    within("a dial", dial)
        .await
        .expect("no panic")
        .expect("a connection");
}

/// The dials and connections of a link whose runtime had been shut down used to wait for ever.
#[tokio::test]
async fn a_link_whose_runtime_ends_leaves_nobody_waiting() {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let first = runtime.spawn(node.start_dial(&server.somebody()));
    let mut link = server.joined().await;
    link.take_dial().await;
    let first = within("a dial", first).await.expect("no panic");
    let mut first = first.expect("a connection");
    let second = tokio::spawn(node.start_dial(&server.somebody()));
    link.expect("ss-dial").await;

    runtime.shutdown_background();
    assert_eq!(read_error(&mut first).await, StreamError::LinkLost);
    match within("a dial", second).await.expect("no panic") {
        Err(Error::Link {
            error: LinkError::TaskEnded,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    let third = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.joined().await;
    link.take_dial().await;
    within("a dial", third)
        .await
        .expect("no panic")
        .expect("a connection");
}
