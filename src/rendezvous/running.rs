//! A rendezvous that runs: its tasks, and how they end.

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
    hub::now,
    refusals::Refused,
    service::Service,
    snapshot::Snapshot,
    supervised::{EndError, Supervised},
    tenants::Tenants,
};

/// How many connections and links that were accepted elsewhere may wait to be served.
const HANDED: usize = 256;

/// What a rendezvous listens on.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) listener: Option<TcpListener>,
    /// For the trunks of other nodes.
    #[cfg(feature = "cluster")]
    pub(super) trunks: Option<super::cluster::Bound>,
}

/// Why a connection that was accepted elsewhere is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It is not let in, and counted in [`Snapshot::refusals`].
    #[error("the connection is refused: {0}")]
    Refused(Refused),
    /// The rendezvous has ended.
    #[error("the rendezvous serves nobody any more")]
    Ended,
}

/// A running rendezvous without a socket of its own. An application mounts its [`service`](Self::service) beside its own
/// routes, or hands over whole connections. A [`Server`](super::Server) is one that listens.
///
/// Dropping it ends all links at once, and its services refuse everything from then on; [`shutdown`](Self::shutdown) lets
/// its peers know. So keep it for as long as the application runs.
#[derive(Debug)]
pub struct Rendezvous {
    tenants: Arc<Tenants>,
    handed: mpsc::Sender<Handed>,
    stop: Option<oneshot::Sender<()>>,
    task: Supervised,
}

impl Rendezvous {
    /// Starts a rendezvous. Its tasks are spawned on the current tokio runtime.
    ///
    /// Sockets and TLS are the application's, so an address to listen on and a certificate in `config` have no effect.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: Config) -> Self {
        if config.tls().is_some() {
            tracing::warn!("a certificate has no effect: TLS is up to the application");
        }
        #[cfg(feature = "cluster")]
        if config.cluster().is_some() {
            tracing::warn!("a cluster has no effect: only a `Server` is a node of one");
        }
        #[cfg(feature = "cluster")]
        let config = config.without_cluster();
        let rendezvous = Self::start_with(config.without_tls(), Sockets::default());
        tracing::info!("rendezvous started");
        rendezvous
    }

    /// The same with sockets, as far as there are some.
    pub(super) fn start_with(config: Config, sockets: Sockets) -> Self {
        let tenants = Arc::new(Tenants::new(config));
        let (stop, stopped) = oneshot::channel();
        let (handed, incoming) = mpsc::channel(HANDED);
        let task = Supervised::spawn(run(sockets, incoming, tenants.clone(), stopped));
        Self {
            tenants,
            handed,
            stop: Some(stop),
            task,
        }
    }

    pub(super) fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// What answers requests for the application.
    pub fn service(&self) -> Service {
        Service::new(self.tenants.clone(), self.handed.clone())
    }

    /// Serves a connection that was accepted elsewhere: from a listener of your own, a Unix socket, or whatever
    /// ends TLS in this process. It counts for `remote`, and may be refused or closed, like one that a
    /// [`Server`](super::Server) has accepted itself; if `remote` is a
    /// [trusted proxy](Config::with_trusted_proxies), it counts for whom that one names.
    ///
    /// It waits only while very many connections wait to be served, and returns before this one is. Cancel safe: the
    /// connection is then dropped.
    ///
    /// It reads and writes plain HTTP and WebSocket on `io`, which it drops at the end of the connection, and on an error. It
    /// takes no header of the PROXY protocol there: whoever accepts the connection reads that, and gives what it says as
    /// `remote`. Nor does it set options of the socket: [`prepare_socket`](super::prepare_socket) does.
    ///
    /// # Errors
    /// [`ServeError::Refused`] if there is no place for it, or `remote` connects too often;
    /// [`ServeError::Ended`] if the rendezvous has [ended](Self::ended).
    pub async fn serve_connection<S>(&self, io: S, remote: SocketAddr) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let room = self.handed.reserve().await;
        let room = room.map_err(|_| ServeError::Ended)?;
        let house = self.tenants.house();
        let is_proxy = house.config().is_proxy_of_requests(remote.ip());
        let entered = house.admission().enter(remote.ip(), is_proxy, now());
        let place = entered.map_err(ServeError::Refused)?;
        let ticket = place.ticket();
        let serving = serve_http(io, remote, remote.ip(), place, self.tenants.clone());
        let serving = Box::pin(serving);
        room.send(Handed { serving, ticket });
        Ok(())
    }

    /// Closes the links on which a peer has joined, under whichever of its ids, and tells it these words; up to 109 bytes
    /// arrive. Gives how many links that were.
    ///
    /// The peer may come back at once: whether it may join then is up to the [access](Config::with_access). A join of its that
    /// is judged meanwhile is asked about [once more](super::Access::still_allows), like all that are. So to ban a peer, have
    /// the access refuse it first, in both of its methods. Cancel safe: some links may stay.
    pub async fn disconnect(&self, peer: &PeerId, words: &str) -> usize {
        self.tenants.disconnect(peer, words).await
    }

    /// Asks the [access](Config::with_access) about everybody who has joined whether they
    /// [may stay](super::Access::still_allows), and closes the links of those who may not. Gives how many links that were.
    /// To be called when it would decide otherwise than before; it takes about a millisecond for a thousand peers.
    ///
    /// A join that is judged meanwhile is asked about once more. Cancel safe: some links may stay.
    pub async fn recheck_access(&self) -> usize {
        self.tenants.recheck_access().await
    }

    /// What it does now, in all tenants together.
    pub fn snapshot(&self) -> Snapshot {
        self.tenants.snapshot()
    }

    /// What one [tenant](Config::with_tenants) does now; that of all others is `default`. What all of them share is zero there:
    /// connections, memory, panics, and what is refused before the tenant is known. `None` if there is no such tenant.
    pub fn tenant_snapshot(&self, tenant: &str) -> Option<Snapshot> {
        self.tenants.snapshot_of(tenant)
    }

    /// Waits until the rendezvous has ended though nobody has stopped it, and tells why: then nobody is served
    /// any more, and whoever runs it had better end, or start another one. A panic in the code that serves one
    /// connection is not such an end: it costs that connection, and counts in [`Snapshot::panics`].
    ///
    /// Cancel safe. It can be asked again, and gives the same answer.
    pub async fn ended(&self) -> EndError {
        // Without an error it ends only when it is stopped, which takes the rendezvous itself.
        self.task.end().await.err().unwrap_or(EndError::Aborted)
    }

    /// Stops: no new links, every stream ends with a reason, every link is closed when its peer has
    /// taken what is queued for it, or when the shutdown timeout is over.
    ///
    /// The orderly stops of hyper and axum know nothing of links, which have left HTTP: stop both.
    ///
    /// A node of a cluster drains first: for a while `/health` and new links are answered with 503, and all else goes on.
    ///
    /// Not cancel safe in that dropping the future stops the rendezvous at once.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails only if the task is gone, which is what is wanted.
            let _ = stop.send(());
        }
        if let Err(error) = self.task.end().await {
            tracing::error!(%error, "the rendezvous did not stop in order");
        }
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        // For services that are left.
        self.tenants.house().stop();
        // Its set of tasks is dropped with it, and so are all of them aborted.
        self.task.abort();
    }
}

async fn run(
    sockets: Sockets,
    mut handed: mpsc::Receiver<Handed>,
    tenants: Arc<Tenants>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = sockets.listener.as_ref();
    let mut tasks = JoinSet::new();
    // It takes no turns from those who connect, and ends with this.
    let mut panel = JoinSet::new();
    tenants.spawn_panel(&mut panel);
    #[cfg(feature = "cluster")]
    let node = sockets
        .trunks
        .and_then(|trunks| trunks.spawn(&tenants, &mut panel));
    let told = async {
        // An error is the end of whoever could tell.
        let _ = stopped.await;
        #[cfg(feature = "cluster")]
        if let Some(node) = &node {
            node.drain(&tenants).await;
        }
    };
    tokio::select! {
        () = accept(listener, &mut handed, &tenants, &mut tasks) => {}
        () = tenants.run_timers() => {}
        () = told => {}
    }
    tenants.shut_down().await;
    // Links that were let in before are waited for, too.
    while let Ok(handed) = handed.try_recv() {
        handed.spawn(tenants.house(), &mut tasks);
    }
    let mut late = JoinSet::new();
    let all = async {
        while tasks.join_next().await.is_some() {}
        tenants.rested().await;
        #[cfg(feature = "cluster")]
        if let Some(node) = &node {
            node.rested().await;
        }
    };
    tokio::select! {
        () = all => {}
        // Whoever asks for its health is told meanwhile.
        () = accept(listener, &mut handed, &tenants, &mut late) => {}
        () = tokio::time::sleep(tenants.config().limits().shutdown_timeout) => {
            tracing::info!("not all was done in time: some links did not take what was queued for them, or bans are not kept");
        }
    }
    tasks.shutdown().await;
}
