//! A node of a cluster at work, and its trunks: connections of HTTP/2 with mutual TLS, one from each node to each other.
//!
//! Each link of a client that dials peers at another node has a stream on the trunk, for as long as the stream is of
//! use. Messages go over the stream as they would over a WebSocket, but without masks. A stream ends in order after a
//! close frame. Any other end is a cut.

mod driver;
mod incoming;
mod outgoing;
mod stream;

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};

use self::driver::Driver;
use super::{cluster::JoinError, config::Config, tenants::Tenants};

/// The path of a request for a stream, with the version of the protocol on the stream.
const PATH: &str = "/trunk/1/link";
/// The header that names the node that asks.
const NODE: &str = "star-node";
/// The header that names the client's tenant; absent for the default one.
const TENANT: &str = "star-tenant";
/// The header with the client's IP address.
const CLIENT: &str = "star-client";
/// The header that says why a stream is refused, in words.
const REFUSAL: &str = "star-refusal";

/// The window of a stream, in bytes, and the maximum that may wait to be sent on it: two items of the usual length.
/// Half or twice as much made no difference that could be measured (`cargo bench --bench cluster`).
const STREAM_WINDOW: u32 = 320 * 1024;
/// The window of all streams together, in bytes: no limit. With a limit, streams that nobody reads would hold up the
/// others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The maximum number of streams of a trunk. HTTP/2 notifies the sender of room in the connection's window when half of
/// the window was taken. So what nobody reads has to fit the other half, or nothing moves any more.
const STREAMS: u32 = CONNECTION_WINDOW / 2 / STREAM_WINDOW - 96;
/// The longest frame, in bytes: an item of the usual length, which then need not be copied. It has to fit the window of
/// a stream at every node, of whatever version.
const FRAME: u32 = 160 * 1024;
/// How long it may take to open a connection and check its certificate, and how long the answer to a request for a
/// stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval between pings on a trunk.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer to a ping may take. Then the trunk is cut.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The listening socket of a node for trunks.
#[derive(Debug)]
pub(super) struct Bound(TcpListener);

/// Listens for trunks if the server is to be a node of a cluster.
pub(super) fn bind(config: &Config) -> Result<Option<Bound>, JoinError> {
    let Some(cluster) = config.cluster() else {
        return Ok(None);
    };
    cluster.check(config.challenge())?;
    let addr = cluster.listen_addr();
    let listen = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let listener = listen().map_err(|source| JoinError::Listen { addr, source })?;
    Ok(Some(Bound(listener)))
}

impl Bound {
    /// Starts the node in a task of its own.
    pub(super) fn spawn(self, tenants: &Arc<Tenants>, tasks: &mut JoinSet<()>) -> Option<Running> {
        let house = tenants.house();
        let (cluster, desk) = (house.config().cluster()?, house.desk()?);
        let driver = Driver::new(tenants.clone(), cluster.clone(), desk.clone(), &self.0);
        match driver {
            Ok(driver) => {
                let driver = Arc::new(driver);
                tasks.spawn(driver.clone().run(self.0));
                Some(Running(driver))
            }
            Err(error) => {
                tracing::error!(%error, "this is no node of a cluster");
                None
            }
        }
    }
}

/// A running node.
pub(super) struct Running(Arc<Driver>);

impl Running {
    /// Prepares the server to stop: makes it answer `/health` and new links with 503, takes the node out of the
    /// directory, and waits for the drain delay, so that a load balancer notices.
    pub(super) async fn drain(&self, tenants: &Tenants) {
        tenants.house().drain();
        self.0.leave().await;
        if let Some(cluster) = tenants.config().cluster() {
            tokio::time::sleep(cluster.drain_delay()).await;
        }
    }

    /// Returns when the directory knows that all peers here have left. Cancel safe.
    pub(super) async fn rested(&self) {
        self.0.rested().await;
    }
}

/// Pings a trunk again and again. Returns when a ping is not answered. Calls `answered` with the time that each answer
/// took.
async fn ping(mut pings: h2::PingPong, mut answered: impl FnMut(Duration)) {
    loop {
        let start = tokio::time::Instant::now();
        let pong = tokio::time::timeout(PING_TIMEOUT, pings.ping(h2::Ping::opaque()));
        match pong.await {
            Ok(Ok(_)) => answered(start.elapsed()),
            Ok(Err(_)) | Err(_) => return,
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}
