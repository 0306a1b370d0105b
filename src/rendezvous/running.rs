//! A running rendezvous: its tasks, and how they end.

use std::{net::SocketAddr, sync::Arc};

use libp2p_identity::PeerId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    accept::{Handed, accept, serve_http},
    config::Config,
    refusals::Refused,
    service::Service,
    site::Site,
    snapshot::Snapshot,
    supervised::{EndError, Supervised},
    tenants::Tenants,
};
use crate::runtime::now;

/// The number of connections and links that were accepted elsewhere and may wait to be served.
const HANDED: usize = 256;

/// The sockets that a rendezvous listens on.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) listener: Option<TcpListener>,
    /// The socket for the trunks of other nodes.
    #[cfg(feature = "cluster")]
    pub(super) trunks: Option<super::trunks::Bound>,
}

/// Why a connection that was accepted elsewhere is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The connection is not let in. It is counted in [`Snapshot::refusals`].
    #[error("the connection is refused: {0}")]
    Refused(Refused),
    /// The rendezvous has ended.
    #[error("the rendezvous has ended")]
    Ended,
}

/// A running rendezvous without a socket of its own. An application mounts its [`service`](Self::service) beside its
/// own routes, or hands over whole connections. A [`Server`](super::Server) is a rendezvous that listens.
///
/// Keep the value for as long as the application runs: dropping it ends all links at once, and its services refuse
/// everything from then on. [`shutdown`](Self::shutdown) notifies its peers.
#[derive(Debug)]
pub struct Rendezvous {
    site: Arc<Site>,
    handed: mpsc::Sender<Handed>,
    stop: Option<oneshot::Sender<()>>,
    task: Supervised,
}

impl Rendezvous {
    /// Starts a rendezvous. Its tasks are spawned on the current tokio runtime.
    ///
    /// The application has the sockets and does TLS, so an address to listen on and a certificate in `config` have no
    /// effect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: Config) -> Self {
        if config.tls().is_some() {
            tracing::warn!("the certificate has no effect, because the application does TLS");
        }
        #[cfg(feature = "cluster")]
        if config.cluster().is_some() {
            tracing::warn!(
                "the cluster settings have no effect, because only a `Server` can be a node of a cluster"
            );
        }
        #[cfg(feature = "cluster")]
        let config = config.without_cluster();
        let rendezvous = Self::start_with(config.without_tls(), Sockets::default());
        tracing::info!("rendezvous started");
        rendezvous
    }

    /// Starts a rendezvous that listens on these sockets, if there are any.
    pub(super) fn start_with(config: Config, sockets: Sockets) -> Self {
        let site = Arc::new(Site::new(config));
        let (stop, stopped) = oneshot::channel();
        let (handed, incoming) = mpsc::channel(HANDED);
        let task = Supervised::spawn(run(sockets, incoming, site.clone(), stopped));
        Self {
            site,
            handed,
            stop: Some(stop),
            task,
        }
    }

    pub(super) fn tenants(&self) -> &Tenants {
        &self.site
    }

    /// Returns the service that answers requests for the application.
    pub fn service(&self) -> Service {
        Service::new(self.site.tenants().clone(), self.handed.clone())
    }

    /// Serves a connection that was accepted elsewhere: from a listener of your own, a Unix socket, or the TLS
    /// implementation of this process. It counts for `remote`, and may be refused or closed, like a connection that a
    /// [`Server`](super::Server) has accepted itself. If `remote` is a [trusted proxy](Config::with_trusted_proxies),
    /// the connection counts for the client that the proxy names.
    ///
    /// The call waits only while very many connections wait to be served, and returns before this connection is served.
    /// Cancel safe: the connection is then dropped.
    ///
    /// The rendezvous reads and writes plain HTTP and WebSocket on `io`. It drops `io` at the end of the connection,
    /// and on an error. It takes no header of the PROXY protocol: the application that accepts the connection has to
    /// read the header and pass the client that it names as `remote`. Nor does it set socket options:
    /// [`prepare_socket`](super::prepare_socket) does.
    ///
    /// # Errors
    /// [`ServeError::Refused`] if there is no place for the connection, or `remote` connects too often;
    /// [`ServeError::Ended`] if the rendezvous has [ended](Self::ended).
    pub async fn serve_connection<S>(&self, io: S, remote: SocketAddr) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let room = self.handed.reserve().await;
        let room = room.map_err(|_| ServeError::Ended)?;
        let house = self.site.house();
        let is_proxy = house.config().is_proxy_of_requests(remote.ip());
        let entered = house.admission().enter(remote.ip(), is_proxy, now());
        let place = entered.map_err(ServeError::Refused)?;
        let ticket = place.ticket();
        let serving = serve_http(io, remote, remote.ip(), place, self.site.clone());
        let serving = Box::pin(serving);
        room.send(Handed { serving, ticket });
        Ok(())
    }

    /// Closes the links on which a peer has joined, under any of its ids, and sends it this text, of which up to 109
    /// bytes arrive. Returns the number of links.
    ///
    /// The peer may come back at once: the [access](Config::with_access) decides whether it may join then. It is asked
    /// [once more](super::Access::still_allows) about every join that is being judged meanwhile. So to ban a peer,
    /// first make the access refuse it, in both of its methods. Cancel safe: some links may stay.
    pub async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        self.site.disconnect(peer, words).await
    }

    /// Asks the [access](Config::with_access) about every peer that has joined whether it
    /// [may stay](super::Access::still_allows), and closes the links of those that may not. Returns the number of
    /// links. Call it when the access would decide otherwise than before. It takes about a millisecond for a thousand
    /// peers.
    ///
    /// The access is asked once more about a join that is being judged meanwhile. Cancel safe: some links may stay.
    pub async fn recheck_access(&self) -> usize {
        self.site.recheck_access().await
    }

    /// Returns the current state of all tenants together.
    pub fn snapshot(&self) -> Snapshot {
        self.site.snapshot()
    }

    /// Returns the current state of one [tenant](Config::with_tenants); the name of the default tenant is `default`.
    /// What all tenants share is zero there: connections, memory, panics, and what is refused before the tenant is
    /// known. `None` if there is no such tenant.
    pub fn tenant_snapshot(&self, tenant: &str) -> Option<Snapshot> {
        self.site.snapshot_of(tenant)
    }

    /// Waits until the rendezvous has ended although nobody has stopped it, and returns the reason. It then serves
    /// nobody any more, and the application should end, or start another rendezvous. A panic in the code that serves
    /// one connection is not such an end: it costs that connection, and counts in [`Snapshot::panics`].
    ///
    /// Cancel safe. It can be called again, and returns the same reason.
    pub async fn ended(&self) -> EndError {
        // Without an error the task ends only when it is stopped, and that consumes the rendezvous.
        self.task.end().await.err().unwrap_or(EndError::Aborted)
    }

    /// Stops the rendezvous: it takes no new links and ends every stream with a reason. Every link is closed when its
    /// peer has taken what is queued for it, or when the shutdown timeout is over.
    ///
    /// The graceful shutdown of hyper and of axum does not affect links, because links have left HTTP: stop both.
    ///
    /// A node of a cluster drains first: for a while it answers `/health` and new links with 503, and everything else
    /// goes on.
    ///
    /// Not cancel safe: dropping the future stops the rendezvous at once.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // This fails only if the task is gone, which is what is wanted.
            let _ = stop.send(());
        }
        if let Err(error) = self.task.end().await {
            tracing::error!(%error, "the rendezvous did not stop cleanly");
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // The application may still have services: they must refuse everything.
        self.site.house().stop();
        // The task's set of tasks is dropped with it, which aborts all of them.
        self.task.abort();
    }
}

async fn run(
    sockets: Sockets,
    mut handed: mpsc::Receiver<Handed>,
    site: Arc<Site>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = sockets.listener.as_ref();
    let mut tasks = JoinSet::new();
    // This set takes no turns from connections, and ends with this function.
    let mut panel = JoinSet::new();
    site.spawn_panel(&mut panel);
    #[cfg(feature = "cluster")]
    let node = sockets
        .trunks
        .and_then(|trunks| trunks.spawn(site.tenants(), &mut panel));
    let told = async {
        // An error means that the sender is gone, which also ends the rendezvous.
        let _ = stopped.await;
        #[cfg(feature = "cluster")]
        if let Some(node) = &node {
            node.drain(&site).await;
        }
    };
    tokio::select! {
        () = accept(listener, &mut handed, &site, &mut tasks) => {}
        () = site.run_timers() => {}
        () = told => {}
    }
    site.shut_down().await;
    // Links that were let in before are waited for, too.
    while let Ok(handed) = handed.try_recv() {
        handed.spawn(site.house(), &mut tasks);
    }
    let mut late = JoinSet::new();
    let all = async {
        while tasks.join_next().await.is_some() {}
        site.rested().await;
        #[cfg(feature = "cluster")]
        if let Some(node) = &node {
            node.rested().await;
        }
    };
    tokio::select! {
        () = all => {}
        // Requests for `/health` are answered meanwhile.
        () = accept(listener, &mut handed, &site, &mut late) => {}
        () = tokio::time::sleep(site.config().limits().shutdown_timeout) => {
            tracing::info!("not everything was finished in time: some links did not read what was queued for them, or bans are not saved");
        }
    }
    tasks.shutdown().await;
}
