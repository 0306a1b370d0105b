//! Fair turns for data that waits for one link, and dials that hold up their senders.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream::SplitSink};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Limits, Refused, Server};
use serde_json::json;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_websockets::{MaybeTlsStream, Message, WebSocketStream};

use crate::client::{Client, Eio, config, dial, header, soon};

const KIB: usize = 1024;
const ITEM: usize = 16 * KIB;
/// The most bytes ahead of anything new: in the kernel's buffers at both ends, in the server's hands, and in the
/// turns of other dials.
const STANDING: usize = 2560 * KIB;
const HOLD: Duration = Duration::from_secs(1);
const REASON: &str = "read too little for too long";

async fn server(limits: Limits) -> Server {
    let config = config().with_limits(limits);
    Server::bind(config).await.expect("a free port")
}

/// Joins with a socket whose receive buffer is small.
async fn slow(server: &Server) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_recv_buffer_size(16 * KIB as u32)
        .expect("a size");
    let client = Client::upgrade_on(server, Eio::V3, socket).await;
    let mut client = client.greeted().await;
    client.join(&Keypair::generate_ed25519()).await;
    client
}

type Sink = SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message>;

/// Sends items until there is no room for further ones.
async fn fill(sink: &mut Sink, stream: &str) {
    let data = Bytes::from(vec![4; ITEM + 1]);
    loop {
        for message in [Message::text(header(stream)), Message::binary(data.clone())] {
            match timeout(HOLD / 4, sink.send(message)).await {
                Ok(sent) => sent.expect("the link is open"),
                Err(_) => return,
            }
        }
    }
}

/// Reads until a text for which `wanted` holds. Returns the number of bytes in items before it.
async fn bytes_before(client: &mut Client, wanted: impl Fn(&str) -> bool) -> usize {
    let mut bytes = 0;
    loop {
        let message = client.message().await.expect("the link is open");
        match message.as_text() {
            Some(text) if wanted(text) => return bytes,
            Some(_) => {}
            None => bytes += message.as_payload().len(),
        }
    }
}

#[tokio::test]
async fn what_is_short_and_what_the_server_says_come_before_what_is_queued() {
    const QUEUE: usize = 8192 * KIB;
    let limits = Limits::default()
        .with_queue_limit(QUEUE)
        .with_hold_timeout(Duration::from_secs(60));
    let server = server(limits).await;
    let mut receiver = slow(&server).await;
    let mut senders = Vec::new();
    for n in 0..3 {
        let mut sender = Client::joined(&server).await;
        dial(&mut sender, &mut receiver, &format!("d{n}")).await;
        senders.push(sender);
    }
    let mut sparse = Client::joined(&server).await;
    dial(&mut sparse, &mut receiver, "sparse").await;
    let floods = (0..).zip(senders).map(|(n, sender)| {
        let (mut sink, stream) = sender.socket.split();
        tokio::spawn(async move {
            fill(&mut sink, &format!("d{n}.dialer")).await;
            (sink, stream)
        })
    });
    let floods: Vec<_> = floods.collect();
    let mut halves = Vec::new();
    for flood in floods {
        halves.push(soon("the queue is full", flood).await.expect("no panic"));
    }
    let queued = server.snapshot().queued_bytes;
    assert!(
        (QUEUE * 8 / 10..=QUEUE + 64 * KIB).contains(&queued),
        "{queued}"
    );

    let ack = receiver.ask(json!(["ss-leave", "nobody"])).await;
    let answer = format!("43{ack}");
    let before = bytes_before(&mut receiver, |text| text.starts_with(&answer)).await;
    assert!(before <= STANDING, "{before} bytes before the answer");
    sparse.item("sparse.dialer", b"little").await;
    let item = header("sparse.dialer");
    let more = bytes_before(&mut receiver, |text| text == item).await;
    assert!(more <= STANDING, "{more} bytes before the item");
    let data = receiver.message().await.expect("the link is open");
    assert!(data.as_payload()[..] == *b"\x04little");
    assert!(server.snapshot().queued_bytes >= QUEUE / 2);
}

/// Makes two dials from one link, one to a receiver that reads that many bytes a second, and one to another receiver.
/// Returns the time until an item reaches the other receiver, or `None` if that takes longer than `patience`.
async fn beside(server: &Server, bytes_per_second: usize, patience: Duration) -> Option<Duration> {
    let mut sender = Client::joined(server).await;
    let mut trickle = slow(server).await;
    let mut third = Client::joined(server).await;
    dial(&mut sender, &mut trickle, "d").await;
    dial(&mut sender, &mut third, "e").await;
    let (mut sink, stream) = sender.socket.split();
    let hurry = Arc::new(AtomicBool::new(false));
    let read_on = hurry.clone();
    let trickling = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        let mut owed = 0;
        loop {
            while owed <= 0 && !read_on.load(Ordering::Relaxed) {
                pace.tick().await;
                owed += (bytes_per_second / 20) as isize;
            }
            let message = trickle.message().await.expect("the link is open");
            match message.as_text() {
                // Every item must be whole.
                Some(text) if text == header("d.dialer") => {
                    let item = trickle.message().await.expect("the link is open");
                    assert_eq!(item.as_payload().len(), ITEM + 1);
                    owed -= ITEM as isize;
                }
                Some(text) if text.contains(REASON) => return trickle,
                _ => {}
            }
        }
    });
    soon("no more room", fill(&mut sink, "d.dialer")).await;
    let start = Instant::now();
    let (text, data) = (header("e.dialer"), Bytes::from_static(b"\x04through"));
    let sending = async {
        let both = [Message::text(text), Message::binary(data)];
        for message in both {
            sink.send(message).await.expect("the link is open");
        }
    };
    let receiving = third.expect_item("e.dialer", b"through");
    let both = futures::future::join(sending, receiving);
    let came = timeout(patience, both)
        .await
        .is_ok()
        .then(|| start.elapsed());
    if came.is_none() {
        trickling.abort();
        return None;
    }
    // The sender gets the reason, and its link stays open.
    let mut sender = Client {
        socket: sink.reunite(stream).expect("of one socket"),
        next_ack: 100,
        address: String::new(),
        eio: Eio::V3,
        answers_pings: false,
    };
    for side in ["dialer", "listener"] {
        let text = sender.text().await;
        assert!(
            text.contains(&format!("d.{side}\"")) && text.contains(REASON),
            "{text}"
        );
    }
    sender.request(json!(["ss-leave", "nobody"])).await;
    let snapshot = server.snapshot();
    assert_eq!((snapshot.links, snapshot.dials), (3, 1));
    assert_eq!(snapshot.refusals.get(Refused::HeldUp), 1);
    // The receiver's link stays open, too.
    hurry.store(true, Ordering::Relaxed);
    let mut trickle = soon("the receiver hears of it", trickling)
        .await
        .expect("no panic");
    assert!(trickle.text().await.contains("d.listener\""));
    dial(&mut third, &mut trickle, "f").await;
    came
}

fn limits() -> Limits {
    Limits::default().with_hold_timeout(HOLD)
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_loses_its_dial_and_its_senders_others_go_on() {
    let server = server(limits()).await;
    // Reads one item now and then.
    let came = beside(&server, ITEM / 4, 4 * HOLD).await.expect("too late");
    assert!(came <= 2 * HOLD, "{came:?}");
}

#[tokio::test]
async fn a_receiver_that_trickles_loses_its_dial_and_its_senders_others_go_on() {
    let server = server(limits().with_hold_rate(4096 * KIB as u64)).await;
    // There is room for another item again and again.
    let came = beside(&server, 600 * KIB, 4 * HOLD)
        .await
        .expect("too late");
    assert!(came <= 3 * HOLD, "{came:?}");
}

#[tokio::test]
async fn a_receiver_that_takes_enough_may_hold_up_its_sender() {
    let server = server(limits().with_hold_rate(64 * KIB as u64)).await;
    let came = beside(&server, 600 * KIB, 3 * HOLD).await;
    assert_eq!(came, None, "some megabytes stand before it");
    assert_eq!(server.snapshot().refusals.get(Refused::HeldUp), 0);
}

#[tokio::test]
async fn a_link_with_one_dial_may_be_held_up_for_longer() {
    let server = server(limits()).await;
    let mut sender = Client::joined(&server).await;
    let mut receiver = slow(&server).await;
    dial(&mut sender, &mut receiver, "d").await;
    let (mut sink, _stream) = sender.socket.split();
    soon("no more room", fill(&mut sink, "d.dialer")).await;
    tokio::time::sleep(3 * HOLD).await;
    let snapshot = server.snapshot();
    assert_eq!((snapshot.dials, snapshot.links), (1, 2));
    assert_eq!(snapshot.refusals.get(Refused::HeldUp), 0);
}

/// The credit that a receiver returns for its own stream must reach the sender.
#[tokio::test]
async fn a_credit_is_relayed_as_long_as_one_stream_of_the_dial_is_open() {
    let server = server(limits()).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    let accept = "socket.io-pull-stream.accept.d.listener";
    let error = "socket.io-pull-stream.error.d.listener";
    listener.send(format!("42{}", json!([error, true]))).await;
    assert!(dialer.text().await.contains(error));
    // An accept without credit has no use any more, so it is not relayed.
    dialer.send(format!("42{}", json!([accept]))).await;
    let credit = json!([accept, {"credit": 0, "returned": 5000}]);
    dialer.send(format!("42{credit}")).await;
    assert_eq!(listener.text().await, format!("42{credit}"));
    dialer.item("d.dialer", b"more").await;
    listener.expect_item("d.dialer", b"more").await;
}
