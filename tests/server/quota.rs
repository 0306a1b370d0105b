//! Quotas: how fast and how much peers may send, and what goes on in the meantime.

mod day;
mod rates;
mod waits;

use std::time::Duration;

use futures::SinkExt as _;
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Limits, Quota, Refused, Server};
use tokio_websockets::Message;

use crate::client::{Client, Eio, config, dial, header, socket, soon};

const KIB: usize = 1024;

fn rate(bytes: usize) -> Quota {
    Quota::default().with_bytes_per_second(bytes as u64)
}

fn day(bytes: usize) -> Quota {
    Quota::default().with_bytes_per_day(bytes as u64)
}

async fn bind(config: Config) -> Server {
    Server::bind(config).await.expect("a free port")
}

/// Returns a peer at 127.0.0.`host`.
async fn peer_at(server: &Server, host: u8, eio: Eio) -> Client {
    let client = Client::upgrade_on(server, eio, socket(host)).await;
    let mut client = client.greeted().await;
    client.join(&Keypair::generate_ed25519()).await;
    client
}

/// Sends an item in one write, so that it is in transit as a whole.
async fn queue_item(client: &mut Client, stream: &str, bytes: usize) {
    let frame = match client.eio {
        Eio::V3 => vec![4; bytes + 1],
        Eio::V4 => vec![4; bytes],
    };
    let header = Message::text(header(stream));
    client.socket.feed(header).await.expect("an open link");
    let sent = client.socket.send(Message::binary(frame));
    soon("an item is taken", sent).await.expect("an open link");
}

/// Reads an item of that many bytes.
async fn take_item(client: &mut Client, stream: &str, bytes: usize) {
    assert_eq!(client.text().await, header(stream));
    let frame = client.message().await.expect("an open link");
    let prefix = usize::from(client.eio == Eio::V3);
    assert_eq!(frame.as_payload().len(), bytes + prefix);
}

fn refused(server: &Server, reason: Refused) -> u64 {
    server.snapshot().refusals.get(reason)
}

#[tokio::test]
async fn quotas_that_are_not_reached_change_nothing() {
    const PLENTY: usize = 1 << 40;
    let quota = rate(PLENTY).with_bytes_per_day(PLENTY as u64);
    let config = config()
        .with_peer_quota(quota)
        .with_origin_quota(quota)
        .with_tenant_quota(quota);
    let server = bind(config).await;
    let mut dialer = Client::joined_as(&server, Eio::V4).await;
    let mut listener = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    for n in 0..100 {
        let data = vec![n; 1000 * usize::from(n)];
        dialer.item("d.dialer", &data).await;
        listener.expect_item("d.dialer", &data).await;
        listener.item("d.listener", &data).await;
        dialer.expect_item("d.listener", &data).await;
    }
    let text = "42[\"socket.io-pull-stream.queue.d.dialer\",\"an item of text\"]";
    dialer.send(text).await;
    assert_eq!(listener.text().await, text);
    let snapshot = server.snapshot();
    assert!(snapshot.refusals.iter().all(|(_, count)| count == 0));
    assert_eq!(snapshot.relayed_items, 201);
    let top = snapshot.top_peers;
    let sent: Vec<_> = top.iter().map(|usage| usage.sent_today).collect();
    let binary = (0..100).sum::<u64>() * 1000;
    assert_eq!(sent.len(), 2);
    assert!(sent[0] > binary && sent[0] < binary + 100, "{sent:?}");
    assert_eq!(sent[1], binary);
    assert!(dialer.address.ends_with(&top[0].peer.to_string()));
    assert!(top[0].client.is_loopback() && top[0].sent_per_second > 0);
}

#[tokio::test]
async fn the_metrics_name_those_who_send_most_only_if_told_to() {
    for (most, named) in [(0, 0), (1, 1), (100, 2)] {
        let server = bind(config().with_metrics_top_peers(most)).await;
        let mut dialer = Client::joined(&server).await;
        let mut listener = Client::joined(&server).await;
        dial(&mut dialer, &mut listener, "d").await;
        dialer.item("d.dialer", &[1; 70]).await;
        listener.expect_item("d.dialer", &[1; 70]).await;
        listener.item("d.listener", &[1; 7]).await;
        dialer.expect_item("d.listener", &[1; 7]).await;
        let text = crate::client::http(server.local_addr(), "GET /metrics HTTP/1.1").await;
        let name = "rendezvous_top_peer_sent_bytes{";
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert_eq!(lines.len(), named, "{text}");
        if let Some(first) = lines.first() {
            let (_, peer) = dialer.address.rsplit_once('/').expect("an id");
            assert_eq!(*first, format!("{name}peer=\"{peer}\"}} 70"));
        }
        assert_eq!(server.snapshot().top_peers.len(), most.min(1) * 2);
    }
}

#[tokio::test]
async fn a_link_that_is_too_old_is_closed_when_what_is_queued_is_written() {
    const AGE: Duration = Duration::from_secs(2);
    let limits = Limits::default().with_link_age(AGE);
    let server = bind(config().with_limits(limits)).await;
    let start = std::time::Instant::now();
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    for n in 0..20 {
        dialer.item("d.dialer", &vec![n; 10 * KIB]).await;
    }
    for n in 0..20 {
        listener.expect_item("d.dialer", &vec![n; 10 * KIB]).await;
    }
    let (code, reason) = dialer.closed().await.expect("a reason");
    assert!(start.elapsed() >= AGE * 9 / 10, "{:?}", start.elapsed());
    assert_eq!(u16::from(code), 1001);
    assert_eq!(
        reason,
        "the link has reached its maximum age; connect again"
    );
    let (code, _) = listener.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1001);
    assert_eq!(refused(&server, Refused::LinkAge), 2);
}

#[tokio::test]
async fn a_link_that_is_too_old_and_is_not_read_ends_all_the_same() {
    let limits = Limits::default()
        .with_link_age(Duration::from_secs(1))
        .with_shutdown_timeout(Duration::from_millis(200));
    let server = bind(config().with_limits(limits)).await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "d").await;
    // Send more than all buffers can hold.
    let frame = bytes::Bytes::from(vec![4; 64 * KIB]);
    let sending = async {
        loop {
            let header = Message::text(header("d.dialer"));
            let sent = dialer.socket.feed(header).await.is_ok()
                && dialer
                    .socket
                    .send(Message::binary(frame.clone()))
                    .await
                    .is_ok();
            if !sent {
                return;
            }
        }
    };
    soon("the end of the link", sending).await;
    crate::client::until("all are gone", || server.snapshot().links == 0).await;
    assert_eq!(refused(&server, Refused::LinkAge), 2);
    drop(listener);
}
