//! Rates in bytes a second.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::StreamExt as _;
use tokio::{task::JoinHandle, time::Instant};

use super::*;

/// Returns the time of a measurement, and its tolerance in hundredths.
fn patience() -> (Duration, usize) {
    match std::env::var("STAR_QUOTA_SECONDS") {
        Ok(seconds) => {
            let seconds = seconds.parse().expect("a number of seconds");
            (Duration::from_secs(seconds), 5)
        }
        Err(_) => (Duration::from_secs(2), 30),
    }
}

/// A peer that sends items of one size as fast as it may, and the number of bytes that have arrived.
struct Flow {
    arrived: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Flow {
    /// Starts a flow from one client to another on a dial between them.
    fn start(from: Client, to: Client, stream: &'static str, size: usize) -> Self {
        let arrived = Arc::<AtomicUsize>::default();
        let (mut sink, mut unread) = from.socket.split();
        let sending = tokio::spawn(async move {
            let data = bytes::Bytes::from(vec![4; size + 1]);
            loop {
                let header = Message::text(header(stream));
                let sent = sink.feed(header).await.is_ok()
                    && sink.send(Message::binary(data.clone())).await.is_ok();
                // Ignore everything that the server sends.
                while let Some(Some(_)) = futures::FutureExt::now_or_never(unread.next()) {}
                if !sent {
                    return;
                }
            }
        });
        let (count, mut socket) = (arrived.clone(), to.socket);
        let taking = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() {
                    count.fetch_add(message.as_payload().len() - 1, Ordering::Relaxed);
                }
            }
        });
        Self {
            arrived,
            tasks: [sending, taking],
        }
    }

    fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts a flow from a new peer at 127.0.0.`host` to a new peer at another address.
async fn flow(server: &Server, host: u8, id: &'static str, size: usize) -> Flow {
    let mut from = peer_at(server, host, Eio::V3).await;
    let mut to = peer_at(server, 99, Eio::V3).await;
    dial(&mut from, &mut to, id).await;
    let stream: &'static str = Box::leak(format!("{id}.dialer").into_boxed_str());
    Flow::start(from, to, stream, size)
}

/// Measures how many bytes a second of each flow arrive, after a start phase.
async fn measure(flows: &[Flow], time: Duration) -> Vec<f64> {
    // The burst after a rest must not count.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (start, before) = (Instant::now(), flows.iter().map(Flow::arrived));
    let before: Vec<_> = before.collect();
    tokio::time::sleep(time).await;
    let elapsed = start.elapsed().as_secs_f64();
    let after = flows.iter().map(Flow::arrived).zip(before);
    after
        .map(|(after, before)| (after - before) as f64 / elapsed)
        .collect()
}

#[track_caller]
fn assert_near(measured: f64, expected: f64, hundredths: usize) {
    let ratio = measured / expected;
    println!("{measured:.0} of {expected:.0} bytes a second: {ratio:.3}");
    let tolerance = hundredths as f64 / 100.0;
    assert!(
        (ratio - 1.0).abs() <= tolerance,
        "{measured} is not {expected}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_sends_as_much_as_it_may_and_no_more() {
    let (time, hundredths) = patience();
    for (per_second, size) in [(128 * KIB, 4 * KIB), (1024 * KIB, 16 * KIB)] {
        let server = bind(config().with_peer_quota(rate(per_second))).await;
        let flows = [
            flow(&server, 2, "a", size).await,
            flow(&server, 2, "b", size).await,
        ];
        for measured in measure(&flows, time).await {
            assert_near(measured, per_second as f64, hundredths);
        }
        assert_eq!(server.snapshot().links, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peers_of_an_address_share_its_rate_by_bytes() {
    let (time, hundredths) = patience();
    let per_second = 1024 * KIB;
    let server = bind(config().with_origin_quota(rate(per_second))).await;
    let flows = [
        flow(&server, 2, "small", KIB).await,
        flow(&server, 2, "large", 64 * KIB).await,
        flow(&server, 3, "elsewhere", 16 * KIB).await,
    ];
    let measured = measure(&flows, time).await;
    let full = per_second as f64;
    assert_near(measured[0] + measured[1], full, hundredths);
    assert_near(measured[0], full / 2.0, hundredths.max(10));
    assert_near(measured[1], full / 2.0, hundredths.max(10));
    assert_near(measured[2], full, hundredths);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_share_the_rate_of_all_by_weight() {
    let (time, hundredths) = patience();
    let per_second = 1024 * KIB;
    let heavy = "127.0.0.3".parse().expect("a network");
    let config = config().with_tenant_quota(rate(per_second));
    let server = bind(config.with_origin_weight(heavy, 3)).await;
    let flows = [
        flow(&server, 2, "light", 4 * KIB).await,
        flow(&server, 3, "heavy", 16 * KIB).await,
    ];
    let measured = measure(&flows, time).await;
    let full = per_second as f64;
    assert_near(measured[0] + measured[1], full, hundredths);
    assert_near(measured[0], full / 4.0, hundredths.max(15));
}
