//! A node of a cluster at work, and its trunks: connections of HTTP/2 with mutual TLS, one from each node to each other.
//!
//! Each link of a client that dials peers at another node has a stream on the trunk, for as long as the stream is of
//! use. Messages go over the stream as they would over a WebSocket, but without masks. A stream ends in order after a
//! close frame. Any other end is a cut.

mod driver;
mod incoming;
mod outgoing;
mod stream;
mod terms;

use std::sync::Arc;

use tokio::{net::TcpListener, task::JoinSet};

use self::driver::Driver;
use super::{cluster::JoinError, config::Config, tenants::Tenants};

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
                tracing::error!(%error, "this server cannot be a node of the cluster");
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
