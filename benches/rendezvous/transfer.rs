//! One stream: how fast it goes, what it costs, and what a reader that stalls costs.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    client::{Client, ORDINARY, item},
    process::{Kind, Rendezvous},
};

const ITEM: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;
/// How many items are written, and how many bytes read, in one call: the clients' part in the processor
/// time that there is.
const AT_ONCE: usize = 4;
const READ: usize = 512 * 1024;
/// How far the sender may be ahead: the npm server would take everything at once.
const WINDOW: usize = 4 * MIB;
const WARM_UP: usize = 32;
/// How much is sent to a reader that does not read.
const STALLED: usize = 64;
/// A sender that is held back for so long will be for longer.
const HELD_BACK: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Figures {
    /// MiB/s.
    pub rate: f64,
    pub cpu_per_gib: f64,
}

pub async fn measure(kind: Kind, mib: usize) -> io::Result<Figures> {
    let server = Rendezvous::start(kind).await?;
    let pair = dialled(&server).await?;
    let pair = send(pair, WARM_UP).await?;
    let (started, before) = (Instant::now(), server.usage());
    send(pair, mib).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = server.usage().cpu - before.cpu;
    Ok(Figures {
        rate: mib as f64 / seconds,
        cpu_per_gib: cpu * 1024.0 / mib as f64,
    })
}

async fn dialled(server: &Rendezvous) -> io::Result<(Client, Client)> {
    let mut dialer = Client::joined(server.addr, ORDINARY).await?;
    let mut listener = Client::joined(server.addr, ORDINARY).await?;
    dialer.dial(&mut listener, "d").await?;
    Ok((dialer, listener))
}

async fn send(
    (mut dialer, mut listener): (Client, Client),
    mib: usize,
) -> io::Result<(Client, Client)> {
    let bytes = mib * MIB;
    let progress = Arc::new((AtomicUsize::new(0), Notify::new()));
    let received = progress.clone();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; READ];
        let mut total = 0;
        while total < bytes {
            // Announcements' texts are counted in, which nobody can see beside the items.
            total += listener.skip(&mut buffer).await?;
            received.0.store(total, Ordering::Release);
            received.1.notify_one();
        }
        io::Result::Ok(listener)
    });
    let frames = item("d.dialer", &vec![7; ITEM]).repeat(AT_ONCE);
    let mut sent: usize = 0;
    while sent < bytes {
        while sent.saturating_sub(progress.0.load(Ordering::Acquire)) >= WINDOW {
            progress.1.notified().await;
        }
        dialer.write(&frames).await?;
        sent += AT_ONCE * ITEM;
    }
    let listener = reader.await.map_err(io::Error::other)??;
    Ok((dialer, listener))
}

/// How many bytes more than before the server had at its worst, for a reader that stalls before 64 MiB.
pub async fn stall(kind: Kind) -> io::Result<f64> {
    let server = Rendezvous::start(kind).await?;
    let pair = dialled(&server).await?;
    let (mut dialer, _listener) = send(pair, WARM_UP).await?;
    let before = server.usage().rss;
    let frames = item("d.dialer", &vec![7; ITEM]);
    let mut most = before;
    for _ in 0..STALLED * MIB / ITEM {
        let written = tokio::time::timeout(HELD_BACK, dialer.write(&frames)).await;
        most = server.usage().rss.max(most);
        match written {
            Ok(written) => written?,
            Err(_) => break,
        }
    }
    Ok(most - before)
}
