//! Peers that misbehave, and neighbours that must not notice it.

use std::time::Duration;

use bytes::Bytes;
use libp2p_websocket_star::rendezvous::{Limits, Refused, Server};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};
use tokio_websockets::Message;

use crate::client::{Client, config, soon, until};

const QUEUE: usize = 200_000;
/// The most bytes beyond the queue limits: the server's own messages, and one parcel of any size for each link that
/// is full.
const BEYOND: usize = 100_000;
const LEN: usize = 16 * 1024;
const ITEMS: usize = 200;
/// The rate of a slow reader in bytes a second. It is so high that a full socket has room again several times within
/// the stall timeout.
const TRICKLE: u64 = 1024 * 1024;

async fn server(stall: Duration, drain: u64) -> Server {
    let limits = Limits::default()
        .with_queue_limit(QUEUE)
        .with_stall_timeout(stall)
        .with_min_drain_rate(drain);
    let config = config().with_limits(limits);
    Server::bind(config).await.expect("a free port")
}

async fn dialled(server: &Server, id: &str) -> (Client, Client) {
    let addr = server.local_addr();
    let (mut dialer, mut listener) = (Client::joined(addr).await, Client::joined(addr).await);
    dialer.dial(&mut listener, id).await;
    (dialer, listener)
}

/// Starts two neighbours. Their stream must arrive whole, whatever other peers do.
async fn neighbours(server: &Server) -> impl Future<Output = ()> + use<> {
    let (mut dialer, mut listener) = dialled(server, "neighbours").await;
    async move {
        let sending = async {
            for n in 0..ITEMS {
                assert!(dialer.try_item("neighbours.dialer", n, LEN).await);
            }
        };
        let receiving = listener.check_items(0, ITEMS, LEN);
        let both = futures::future::join(sending, receiving);
        soon("the neighbours", both).await;
    }
}

/// Runs `what`, and checks all the while that the queues for the two receivers stay within their limits.
async fn bounded<T>(server: &Server, what: impl Future<Output = T>) -> T {
    let watch = async {
        loop {
            let queued = server.snapshot().queued_bytes;
            assert!(queued <= 2 * QUEUE + BEYOND, "{queued} bytes are queued");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = what => done,
        () = watch => unreachable!("it watches for ever"),
    }
}

/// Sends until the link is closed.
async fn flood(mut client: Client, stream: &str) {
    let mut n = 0;
    while client.try_item(stream, n, LEN).await {
        n += 1;
    }
}

#[tokio::test]
async fn a_reader_that_stalls_is_cut_off_and_its_neighbours_lose_nothing() {
    let server = server(Duration::from_secs(2), 0).await;
    let neighbours = neighbours(&server).await;
    let (dialer, _listener) = dialled(&server, "d").await;
    let flood = tokio::spawn(flood(dialer, "d.dialer"));
    bounded(&server, async {
        until(&server, "the queue is full", |now| {
            now.queued_bytes > QUEUE / 2
        })
        .await;
        neighbours.await;
        until(&server, "it is cut off", |now| now.dials == 0).await;
    })
    .await;
    assert_eq!(server.snapshot().refusals.get(Refused::Stalled), 1);
    flood.abort();
}

/// The system's buffers are large, and they drain in large steps.
#[tokio::test]
async fn a_reader_that_is_slow_but_steady_is_not_taken_for_stalled() {
    let server = server(Duration::from_secs(2), 0).await;
    let (mut dialer, mut listener) = dialled(&server, "d").await;
    let sender = tokio::spawn(async move {
        let mut n = 0;
        while dialer.try_item("d.dialer", n, LEN).await {
            n += 1;
        }
    });
    // This reads a quarter of a MiB a second.
    let mut pace = tokio::time::interval(Duration::from_millis(60));
    for n in 0..130 {
        pace.tick().await;
        listener.check_items(n, n + 1, LEN).await;
    }
    assert_eq!(server.snapshot().refusals.get(Refused::Stalled), 0);
    sender.abort();
}

#[tokio::test]
async fn a_reader_that_trickles_is_cut_off_and_its_sender_can_go_on() {
    let server = server(Duration::from_secs(3), 4 * TRICKLE).await;
    let addr = server.local_addr();
    let mut dialer = Client::joined(addr).await;
    // A small receive buffer keeps little unread data in transit.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_recv_buffer_size(64 * 1024)
        .expect("an open socket");
    let mut trickle = Client::connect_on(socket, addr).await;
    trickle.join().await;
    dialer.dial(&mut trickle, "d").await;
    let mut other = Client::joined(addr).await;
    dialer.dial(&mut other, "e").await;
    // This receiver always reads something, a quarter of the minimum rate, so it is slow but never stalled. Once it
    // is cut off, it reads as fast as it can until the reason.
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    let trickling = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_secs(LEN as u64) / TRICKLE as u32);
        loop {
            let message = trickle.message().await.expect("a reason");
            if let Some((_, reason)) = message.as_close() {
                return reason.to_owned();
            }
            if message.is_binary() && !*is_cut.borrow() {
                pace.tick().await;
            }
        }
    });
    let header = "451-[\"socket.io-pull-stream.queue.d.dialer\",{\"_placeholder\":true,\"num\":0}]";
    let data = Bytes::from(vec![4; LEN]);
    let flood = async {
        // Send until the server has reported that the stream is cut.
        while server.snapshot().dials == 2 {
            assert!(dialer.try_send(Message::text(header)).await);
            assert!(dialer.try_send(Message::binary(data.clone())).await);
        }
    };
    bounded(&server, soon("the trickle is cut off", flood)).await;
    cut.send_replace(true);
    let reason = soon("the trickle hears why", trickling).await;
    assert_eq!(reason.expect("no panic"), "the peer reads too slowly");
    assert_eq!(server.snapshot().refusals.get(Refused::Slow), 1);
    assert_eq!(server.snapshot().links, 2);
    assert!(soon("to send", dialer.try_item("e.dialer", 0, LEN)).await);
    other.check_items(0, 1, LEN).await;
}

#[tokio::test]
async fn a_sender_that_floods_waits_for_its_reader_and_loses_nothing() {
    let server = server(Duration::from_secs(60), 1).await;
    let neighbours = neighbours(&server).await;
    let (dialer, mut listener) = dialled(&server, "d").await;
    let flood = tokio::spawn(flood(dialer, "d.dialer"));
    bounded(&server, async {
        until(&server, "the queue is full", |now| {
            now.queued_bytes > QUEUE / 2
        })
        .await;
        neighbours.await;
        listener.check_items(0, 10 * ITEMS, LEN).await;
    })
    .await;
    flood.abort();
}

#[tokio::test]
async fn a_peer_that_never_answers_costs_its_dialer_one_dial_and_nobody_else_anything() {
    let limits = Limits::default()
        .with_dial_timeout(Duration::from_secs(1))
        .with_max_pending_dials(8);
    let config = config().with_limits(limits);
    let server = Server::bind(config).await.expect("a free port");
    let addr = server.local_addr();
    let neighbours = neighbours(&server).await;
    let (mut dialer, silent) = (Client::joined(addr).await, Client::joined(addr).await);
    let mut asked = Vec::new();
    for n in 0..12 {
        let event = json!(["ss-dial", dialer.address, silent.address, format!("{n}")]);
        asked.push(dialer.ask(event).await);
    }
    neighbours.await;
    for _ in asked {
        let refused = dialer.expect(|text| text.starts_with("43")).await;
        assert!(
            refused.contains("did not answer") || refused.contains("Too many dials"),
            "{refused}"
        );
    }
    until(&server, "no dial is left", |now| now.dials == 0).await;
    assert_eq!(server.snapshot().counters.dials_failed, 12);
}

#[tokio::test]
async fn a_link_that_is_cut_in_mid_frame_ends_its_streams_and_no_others() {
    let server = server(Duration::from_secs(60), 1).await;
    let neighbours = neighbours(&server).await;
    let (mut dialer, mut listener) = dialled(&server, "d").await;
    assert!(dialer.try_item("d.dialer", 0, LEN).await);
    listener.check_items(0, 1, LEN).await;
    // A binary frame of 64 KiB, of which only this beginning is sent.
    let mut raw = dialer.socket.into_inner();
    let begun = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7];
    raw.write_all(&begun).await.expect("sent");
    drop(raw);
    let lost = "the other peer's link to the rendezvous was lost";
    listener.expect(|text| text.contains(lost)).await;
    neighbours.await;
}

#[tokio::test]
async fn when_half_of_the_links_are_cut_at_once_the_other_half_loses_nothing() {
    let server = server(Duration::from_secs(60), 1).await;
    let neighbours = neighbours(&server).await;
    let mut cut = Vec::new();
    let mut kept = Vec::new();
    for n in 0..20 {
        let (dialer, listener) = dialled(&server, &n.to_string()).await;
        kept.push(listener);
        cut.push(dialer);
    }
    let neighbours = tokio::spawn(neighbours);
    drop(cut);
    for listener in &mut kept {
        let streams = ["dialer\",\"the other", "listener\",\"the other"];
        for stream in streams {
            listener.expect(|text| text.contains(stream)).await;
        }
    }
    neighbours.await.expect("no panic");
    drop(kept);
    until(&server, "nothing is left", |now| {
        now.links == 0 && now.dials == 0 && now.queued_bytes == 0
    })
    .await;
}
