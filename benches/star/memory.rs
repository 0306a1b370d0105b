//! The memory cost of a slow reader: each peer and each server runs in a process of its own.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    Result,
    lineup::Id,
    plan::Plan,
    process::{Child, memory},
    subjects::{Kind, js, server::ServerKind},
};

const SETTLE: Duration = Duration::from_millis(500);
const SAMPLE: Duration = Duration::from_millis(100);
/// The maximum growth in the second half of the transfer for a process to count as steady, in bytes.
const STEADY: u64 = 1024 * 1024;

/// The growth of a process: its maximum resident memory minus that before the transfer, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Grown {
    pub by: u64,
    /// Whether it was still growing at the end.
    pub still: bool,
}

/// The memory figures of one row.
pub struct Found {
    pub id: Id,
    pub dialer: Option<Grown>,
    pub listener: Option<Grown>,
    pub server: Option<Grown>,
}

/// Offers data to readers of 1 MiB/s, in all rows at once: they have little to do.
pub async fn measure(ids: &[Id], plan: &Plan) -> Vec<(Id, Result<Found>)> {
    let applicable = |id: &&Id| match id {
        Id::SwarmEven | Id::Proxied | Id::JsNpm | Id::JsEmbedded => false,
        Id::RawNpm | Id::SwarmNpm => plan.with_js && js::missing().is_none(),
        _ => true,
    };
    let ids = ids.iter().filter(applicable);
    join_all(ids.map(|id| async { (*id, of(*id, plan).await) })).await
}

/// The server of one row.
enum Server {
    Ours(Child),
    Npm(js::Rendezvous),
    None,
}

impl Server {
    async fn start(id: Id) -> Result<(Self, String)> {
        let kind = match id {
            Id::RawEmbedded | Id::SwarmEmbedded => ServerKind::Rendezvous,
            Id::RawWss | Id::SwarmWss => ServerKind::SecureRendezvous,
            Id::Relay => ServerKind::Relay,
            Id::RawNpm | Id::SwarmNpm => {
                let server = js::rendezvous().await;
                let address = server.addr();
                return Ok((Self::Npm(server), address));
            }
            _ => return Ok((Self::None, String::new())),
        };
        let (child, address) = Child::start(&["server", &kind.to_string()]).await?;
        Ok((Self::Ours(child), address))
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Ours(child) => child.pid(),
            Self::Npm(server) => server.pid(),
            Self::None => None,
        }
    }
}

async fn of(id: Id, plan: &Plan) -> Result<Found> {
    let kind: Kind = id.kind().ok_or("not for JavaScript")?;
    let kind = kind.to_string();
    let (server, via) = Server::start(id).await?;
    let (listener, to) = Child::start(&["listener", &kind, &via]).await?;
    let offered = plan.offered.to_string();
    let (mut dialer, _) = Child::start(&["dialer", &kind, &via, &to, &offered]).await?;
    sleep(SETTLE).await;

    let pids = [dialer.pid(), listener.pid(), server.pid()];
    let resident = || pids.map(|pid| pid.and_then(memory));
    let idle = resident();
    dialer.go().await?;
    let end = Instant::now() + plan.slow;
    let half = end - plan.slow / 2;
    let (mut first, mut second) = ([0; 3], [0; 3]);
    while Instant::now() < end {
        sleep(SAMPLE).await;
        let most = match Instant::now() < half {
            true => &mut first,
            false => &mut second,
        };
        for (most, now) in most.iter_mut().zip(resident()) {
            *most = now.map_or(0, |memory| memory.now).max(*most);
        }
    }
    let peaks = resident();
    let grown = |n: usize| {
        let by = peaks[n]?.peak.saturating_sub(idle[n]?.now);
        let still = second[n] > first[n] + STEADY;
        Some(Grown { by, still })
    };
    Ok(Found {
        id,
        dialer: grown(0),
        listener: grown(1),
        server: grown(2),
    })
}
