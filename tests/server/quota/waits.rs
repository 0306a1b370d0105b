//! What goes on while an item waits for a quota.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::client::{address, offer, stream_event, until};

const ITEM: usize = 16 * KIB;
/// The time that an item waits behind another one. It is far longer than all timeouts here.
const WAIT: Duration = Duration::from_secs(6);
const SHORT: Duration = Duration::from_millis(500);

/// Starts a server where the second item of a peer waits, and where the timeouts of links are short.
async fn server() -> Server {
    let limits = Limits::default().with_stall_timeout(SHORT);
    let config = config()
        .with_limits(limits)
        .with_ping_interval(SHORT)
        .with_ping_timeout(SHORT)
        .with_peer_quota(rate(ITEM / WAIT.as_secs() as usize));
    bind(config).await
}

/// Returns a dialer of this version and a listener. An item of the dialer waits.
async fn waiting(server: &Server, eio: Eio) -> (Client, Client) {
    let mut dialer = Client::upgrade(server, eio).await;
    dialer.answers_pings = eio == Eio::V4;
    dialer.greet().await;
    dialer.join(&Keypair::generate_ed25519()).await;
    let mut listener = Client::joined(server).await;
    dial(&mut dialer, &mut listener, "d").await;
    for _ in 0..2 {
        queue_item(&mut dialer, "d.dialer", ITEM).await;
    }
    take_item(&mut listener, "d.dialer", ITEM).await;
    dialer.answers_pings = false;
    (dialer, listener)
}

/// Returns the next text that is not a heartbeat. Sends a heartbeat now and then.
async fn text(client: &mut Client) -> String {
    loop {
        if client.eio == Eio::V3 {
            client.send("2").await;
        }
        let next = tokio::time::timeout(SHORT / 4, client.text()).await;
        match next.as_deref() {
            Ok("2") => client.send("3").await,
            Ok("3") | Err(_) => {}
            Ok(_) => return next.expect("a text"),
        }
    }
}

#[tokio::test]
async fn the_heartbeat_goes_on_for_as_long_as_an_item_waits() {
    for eio in [Eio::V3, Eio::V4] {
        let server = server().await;
        let start = Instant::now();
        let (mut dialer, mut listener) = waiting(&server, eio).await;
        // Each side sends only heartbeats. The sender's pings and pongs come after the item that waits.
        let beats = tokio::spawn(async move {
            let mut beats = 0;
            loop {
                let beat = match dialer.eio {
                    Eio::V3 => {
                        dialer.send("2").await;
                        "3"
                    }
                    Eio::V4 => "2",
                };
                assert_eq!(dialer.text().await, beat);
                if dialer.eio == Eio::V4 {
                    dialer.send("3").await;
                }
                beats += 1;
                if beats == 10 {
                    return (dialer, beats);
                }
                tokio::time::sleep(SHORT / 2).await;
            }
        });
        assert_eq!(text(&mut listener).await, header("d.dialer"));
        assert!(start.elapsed() >= WAIT * 3 / 4, "{:?}", start.elapsed());
        let (_dialer, beats) = soon("the heartbeat", beats).await.expect("no panic");
        assert_eq!(beats, 10, "{eio:?}");
        assert_eq!(refused(&server, Refused::Silent), 0);
        assert_eq!(refused(&server, Refused::Stalled), 0);
        assert_eq!(server.snapshot().links, 2);
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_while_its_item_waits_is_not_silent() {
    let server = server().await;
    let (dialer, mut listener) = waiting(&server, Eio::V3).await;
    // Its pings are behind its data, in the kernel's buffers.
    assert_eq!(text(&mut listener).await, header("d.dialer"));
    assert_eq!(refused(&server, Refused::Silent), 0);
    drop(dialer);
}

/// Starts a server where an item waits longer than any test lasts.
async fn slow() -> Server {
    bind(config().with_peer_quota(rate(64))).await
}

#[tokio::test]
async fn a_join_and_dials_behind_an_item_that_waits_are_dealt_with_at_once() {
    let server = slow().await;
    let (mut dialer, mut listener) = waiting(&server, Eio::V3).await;
    let mut third = Client::joined(&server).await;
    // A dial to the peer. The peer accepts it in its answer.
    let ack = offer(&mut third, &mut dialer, "to").await;
    let incoming = dialer.next_ack;
    dialer.send(format!("43{incoming}[]")).await;
    assert_eq!(third.answer(ack).await, json!([]));
    // A dial from the peer, with an acknowledgement id of its own.
    dialer.next_ack = 1000;
    let ack = offer(&mut dialer, &mut third, "from").await;
    let incoming = third.next_ack;
    third.send(format!("43{incoming}[]")).await;
    assert_eq!(dialer.answer(ack).await, json!([]));
    // A join of another address.
    let (key, first) = (Keypair::generate_ed25519(), dialer.address.clone());
    dialer.join(&key).await;
    assert_eq!(dialer.address, address(&key));
    dialer.address = first;
    // A dial that is refused.
    let nobody = address(&Keypair::generate_ed25519());
    let answer = dialer
        .request(json!(["ss-dial", dialer.address, nobody, "x"]))
        .await;
    assert_eq!(answer, json!(["Peer not found"]));
    let text = tokio::time::timeout(SHORT, listener.message()).await;
    assert!(text.is_err() || server.snapshot().relayed_items == 1);
    assert_eq!(server.snapshot().relayed_items, 1);
}

#[tokio::test]
async fn what_belongs_to_a_stream_waits_behind_the_item_and_keeps_its_order() {
    let server = server().await;
    let (mut dialer, mut listener) = waiting(&server, Eio::V3).await;
    dialer.send(stream_event("true", "d.dialer")).await;
    assert_eq!(text(&mut listener).await, header("d.dialer"));
    let frame = listener.message().await.expect("an open link");
    assert_eq!(frame.as_payload().len(), ITEM + 1);
    let end = stream_event("true", "d.dialer");
    assert_eq!(text(&mut listener).await, end);
}

#[tokio::test]
async fn a_peer_that_hangs_up_while_its_item_waits_is_gone_at_once() {
    for says_so in [false, true] {
        let server = slow().await;
        let (mut dialer, mut listener) = waiting(&server, Eio::V3).await;
        if says_so {
            let closed = dialer.socket.close();
            soon("a close frame", closed).await.expect("sent");
        }
        drop(dialer);
        let told = listener.text().await;
        let lost = "the other peer's link to the rendezvous was lost";
        assert!(told.contains(lost), "{told}");
        until("one is left", || server.snapshot().links == 1).await;
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_behind_what_is_not_read_is_gone_when_it_takes_no_heartbeat() {
    for eio in [Eio::V3, Eio::V4] {
        let server = server().await;
        let (mut dialer, mut listener) = waiting(&server, eio).await;
        // The item's header is read, but nothing after it.
        queue_item(&mut dialer, "d.dialer", ITEM).await;
        tokio::time::sleep(SHORT).await;
        drop(dialer);
        let told = text(&mut listener).await;
        let lost = "the other peer's link to the rendezvous was lost";
        assert!(told.contains(lost), "{eio:?}: {told}");
    }
}

#[tokio::test]
async fn an_item_whose_stream_ends_while_it_waits_is_dropped_and_the_link_goes_on() {
    let server = slow().await;
    let (mut dialer, mut listener) = waiting(&server, Eio::V3).await;
    let stop = stream_event("\"no more\"", "d.dialer");
    listener.send(stop.clone()).await;
    assert_eq!(dialer.text().await, stop);
    // The link is read again: otherwise this end of a stream would wait behind the item.
    dialer.send(stream_event("true", "d.listener")).await;
    let end = stream_event("true", "d.listener");
    assert_eq!(listener.text().await, end);
    assert_eq!(server.snapshot().relayed_items, 1);
}

#[tokio::test]
async fn one_that_is_gone_while_it_waits_leaves_the_turn_to_others() {
    let server = bind(config().with_origin_quota(rate(8 * KIB))).await;
    let mut flows = Vec::new();
    for id in ["a", "b", "c"] {
        let mut from = peer_at(&server, 2, Eio::V3).await;
        let mut to = peer_at(&server, 3, Eio::V3).await;
        dial(&mut from, &mut to, id).await;
        flows.push((from, to, id));
    }
    for (from, _, id) in &mut flows {
        queue_item(from, &format!("{id}.dialer"), ITEM).await;
    }
    // The peers that have waited longest hold the timer.
    let (mut last, mut to, id) = flows.pop().expect("three");
    drop(flows);
    take_item(&mut to, &format!("{id}.dialer"), ITEM).await;
    queue_item(&mut last, &format!("{id}.dialer"), ITEM).await;
    take_item(&mut to, &format!("{id}.dialer"), ITEM).await;
}

#[tokio::test]
async fn a_dial_behind_bulk_comes_soon_because_little_stands_before_it() {
    let server = bind(config().with_peer_quota(rate(128 * KIB))).await;
    let connecting = socket(2);
    // This is the size of a send buffer to another machine.
    connecting
        .set_send_buffer_size(16 * KIB as u32)
        .expect("a size");
    let client = Client::upgrade_on(&server, Eio::V3, connecting).await;
    let mut dialer = client.greeted().await;
    dialer.join(&Keypair::generate_ed25519()).await;
    let mut listener = peer_at(&server, 3, Eio::V3).await;
    let mut third = peer_at(&server, 4, Eio::V3).await;
    dial(&mut dialer, &mut listener, "d").await;
    let reading = tokio::spawn(async move { while listener.message().await.is_some() {} });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        queue_item(&mut dialer, "d.dialer", ITEM).await;
    }
    let start = Instant::now();
    offer(&mut dialer, &mut third, "e").await;
    println!("the dial has taken {:?}", start.elapsed());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    reading.abort();
}

#[tokio::test]
async fn items_that_pass_and_then_find_no_room_arrive_all_the_same_and_in_order() {
    const ITEMS: u32 = 600;
    // One rate makes the items wait for the quota, too; the other does not.
    for per_second in [1 << 40, 32 << 20] {
        let server = bind(config().with_peer_quota(rate(per_second))).await;
        let mut dialer = Client::joined(&server).await;
        let mut listener = Client::joined(&server).await;
        dial(&mut dialer, &mut listener, "d").await;
        let data = |n: u32| [&n.to_be_bytes()[..], &vec![7; ITEM]].concat();
        let sending = tokio::spawn(async move {
            for n in 0..ITEMS {
                dialer.item("d.dialer", &data(n)).await;
            }
            dialer
        });
        // Wait until there is no room for further items.
        let relayed = || server.snapshot().relayed_items;
        let mut before = u64::MAX;
        while relayed() != before {
            before = relayed();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(before < ITEMS.into(), "{before}");
        for n in 0..ITEMS {
            listener.expect_item("d.dialer", &data(n)).await;
        }
        let _dialer = soon("all is sent", sending).await.expect("no panic");
    }
}
