//! Servers that send more than was asked for.

use std::collections::HashSet;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::PeerId;
use libp2p_websocket_star::{Event, Limits, error::LinkError};
use serde_json::json;
use tokio_websockets::Message;

use super::{linked, loss};
use crate::support::{
    ed25519, hasty,
    raw::Raw,
    scripted::{Frame, Link, Scripted},
    within,
};

/// Sets up a link whose server reads nothing, so that the node's answers soon back up in the node.
async fn unread() -> (Scripted, Raw, Link) {
    let server = Scripted::with_small_receive_buffer().await;
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen_on(&server.addr()).expect("a good address");
    let (link, _) = futures::future::join(server.joined(), node.joined()).await;
    (server, node, link)
}

/// Sends `message` until the node gives up the link because its answers are not read.
async fn flooded(message: Message) {
    let (server, mut node, mut link) = unread().await;
    within("the node to give up", async {
        while link.feed(message.clone()).await {}
    })
    .await;
    let error = loss(&server, &mut node).await;
    assert!(matches!(error, LinkError::Flooded), "{error}");
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_flood_of_incoming_dials_is_answered_within_the_limit_of_connections() {
    const DIALS: usize = 100_000;
    const AT_ONCE: usize = 1000;
    const LIMIT: usize = 50;
    let config = hasty().with_limits(Limits::default().with_connections(LIMIT));
    let (_server, mut node, mut link) = linked(config).await;
    let from = format!(
        "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/{}",
        PeerId::random()
    );
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..DIALS / AT_ONCE {
        for i in 0..AT_ONCE {
            let ack = round * AT_ONCE + i;
            let text = format!("42{ack}[\"ss-incomming\",\"{ack}\",\"{from}\"]");
            assert!(link.feed(Message::text(text)).await);
        }
        link.text("6").await;
        let mut answers = 0;
        while answers < AT_ONCE {
            match link.next().await {
                Frame::Ack(_, args) if args == json!([]) => accepted += 1,
                Frame::Ack(_, args) if args == json!(["too many connections"]) => refused += 1,
                Frame::Event(call) if call.name.contains(".accept.") => continue,
                other => panic!("{other:?}"),
            }
            answers += 1;
        }
    }
    assert_eq!((accepted, refused), (LIMIT, DIALS - LIMIT));
    for _ in 0..LIMIT {
        node.accept().await;
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_flood_of_incoming_dials_whose_answers_are_not_read_costs_the_link() {
    let text = format!("421[\"ss-incomming\",\"{}\",\"nonsense\"]", "x".repeat(100));
    flooded(Message::text(text)).await;
}

#[tokio::test]
async fn a_flood_of_heartbeats_whose_answers_are_not_read_costs_the_link() {
    flooded(Message::text(format!("2{}", "x".repeat(100)))).await;
}

/// One pong answers all pings before it, so nothing accumulates.
#[tokio::test]
async fn a_flood_of_websocket_pings_whose_answers_are_not_read_does_no_harm() {
    let (_server, mut node, mut link) = unread().await;
    for _ in 0..200_000 {
        assert!(link.feed(Message::ping(vec![b'x'; 125])).await);
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_flood_of_pings_whose_answers_are_read_does_no_harm() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    for _ in 0..20 {
        for i in 0..1000 {
            link.feed(Message::ping(&b"x"[..])).await;
            link.feed(Message::text(format!("2{i}"))).await;
        }
        link.text("6").await;
        for i in 0..1000 {
            match link.next().await {
                Frame::Pong(mark) => assert_eq!(mark, i.to_string()),
                other => panic!("{other:?}"),
            }
        }
    }
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_heartbeat_with_more_than_a_mark_costs_the_link() {
    let (server, mut node, mut link) = linked(hasty()).await;
    link.text(&format!("2{}", "x".repeat(125))).await;
    assert!(matches!(link.next().await, Frame::Pong(mark) if mark.len() == 125));
    link.text(&format!("2{}", "x".repeat(126))).await;
    let error = loss(&server, &mut node).await;
    assert!(matches!(error, LinkError::Protocol(_)), "{error}");
    server.serve(&mut node).await;
}

/// Sends a message in fragments of 1 MiB until the node closes the link or `mib` fragments are sent.
pub(super) async fn fragments(link: &mut Link, first: &[u8], mib: usize) {
    let frame = |opcode: u8, len: usize| {
        let mut frame = vec![opcode, 127];
        frame.extend_from_slice(&u64::try_from(len).expect("64 bits").to_be_bytes());
        frame.resize(frame.len() + len, b'x');
        frame
    };
    let mut start = frame(1, 1 << 20);
    start[10..10 + first.len()].copy_from_slice(first);
    if !link.try_raw(&start).await {
        return;
    }
    for _ in 1..mib {
        if !link.try_raw(&frame(0, 1 << 20)).await {
            return;
        }
    }
}

#[tokio::test]
async fn a_message_over_the_limit_costs_the_link_before_it_is_there() {
    const MAX: usize = 4 << 20;
    let (server, mut node, mut link) = linked(hasty()).await;
    link.raw(b"\x82\x7f\x00\x00\x00\x00\x06\x40\x00\x00").await;
    match loss(&server, &mut node).await {
        LinkError::MessageTooLong { len, max } => assert_eq!((len, max), (100 << 20, MAX)),
        other => panic!("{other}"),
    }

    let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
    link.raw(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff").await;
    let error = loss(&server, &mut node).await;
    assert!(
        matches!(error, LinkError::MessageTooLong { max: MAX, .. }),
        "{error}"
    );

    let (mut link, _) = futures::future::join(server.joined(), node.joined()).await;
    fragments(&mut link, b"42[\"x\",\"", 100).await;
    let error = loss(&server, &mut node).await;
    assert!(
        matches!(error, LinkError::MessageTooLong { max: MAX, .. }),
        "{error}"
    );
    server.serve(&mut node).await;
}

#[tokio::test]
async fn empty_fragments_without_end_do_not_keep_the_node_from_its_work() {
    let (_server, mut node, mut link) = linked(hasty()).await;
    link.raw(b"\x01\x016").await;
    link.raw(&b"\x00\x00".repeat(500_000)).await;
    link.raw(b"\x80\x00").await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn announcements_are_bounded_and_nonsense_is_passed_over() {
    const KNOWN: usize = 500;
    let server = Scripted::start().await;
    let config = hasty().with_limits(Limits::default().with_known_peers(KNOWN));
    let mut node = Raw::with(&ed25519(), config);
    let (mut polled, mut late) = (node.discovery(), node.discovery());
    node.listen_on(&server.addr()).expect("a good address");
    let mut peers: Vec<_> = (0..5_000).map(|_| server.somebody()).collect();
    peers.extend(nonsense(&server));
    let mut link = server.link().await;
    let (own, _) = futures::future::join(link.join(&peers), node.joined()).await;
    for nonsense in nonsense(&server).into_iter().chain([own]) {
        link.event(json!(["ws-peer", nonsense])).await;
    }

    let mut known = HashSet::new();
    for _ in 0..15 {
        for _ in 0..1000 {
            let event = json!(["ws-peer", server.somebody()]);
            assert!(link.feed(Message::text(format!("42{event}"))).await);
        }
        link.text("2mark").await;
        while !matches!(link.next().await, Frame::Pong(_)) {}
        while let Some(Some(event)) = polled.next().now_or_never() {
            match event {
                Event::Discovered { address, .. } => assert!(known.insert(address)),
                Event::Expired { address, .. } => assert!(known.remove(&address)),
                other => panic!("{other:?}"),
            }
            assert!(known.len() <= KNOWN);
        }
        assert_eq!(known.len(), KNOWN);
    }
    let mut seen = HashSet::new();
    while let Some(Some(Event::Discovered { address, .. })) = late.next().now_or_never() {
        assert!(seen.insert(address));
    }
    assert_eq!(seen, known);
    link.check(&mut node).await;
}

fn nonsense(server: &Scripted) -> Vec<String> {
    let peer = PeerId::random();
    vec![
        String::new(),
        "/".to_owned(),
        "nonsense".to_owned(),
        server.addr(),
        format!("/ip4/127.0.0.1/tcp/1/ws/ipfs/{peer}"),
        format!("/ip4/127.0.0.1/tcp/0/ws/p2p-websocket-star/ipfs/{peer}"),
        format!("/ip4/127.0.0.1/tcp/99999/ws/p2p-websocket-star/ipfs/{peer}"),
        format!("/ip4/256.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/{peer}"),
        format!("/dns4//tcp/1/ws/p2p-websocket-star/ipfs/{peer}"),
        format!("/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/{peer}/p2p-circuit"),
        "/ip4/127.0.0.1/tcp/1/ws/p2p-websocket-star/ipfs/Qm".to_owned(),
        format!(
            "/dns4/{}/tcp/1/ws/p2p-websocket-star/ipfs/{peer}",
            "x".repeat(1000)
        ),
        "/p2p-circuit".repeat(10_000),
    ]
}
