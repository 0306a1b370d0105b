//! One stream: its rate, its cost, and the cost of a stalled reader.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    client::{Client, ORDINARY, item},
    process::{Kind, Rendezvous},
    stream::{self, Load},
};

const ITEM: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;
const WARM_UP: usize = 32;
/// The number of MiB sent to a reader that does not read.
const STALLED: usize = 64;
/// A sender that is held back for this long stays held back.
const HELD_BACK: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Figures {
    /// The rate in MiB/s.
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

async fn send(pair: (Client, Client), mib: usize) -> io::Result<(Client, Client)> {
    let load = Load { item: ITEM, mib };
    stream::send(pair, load, load.bytes()).await
}

/// Returns the largest increase of the server's memory in bytes while a stalled reader is sent 64 MiB.
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
