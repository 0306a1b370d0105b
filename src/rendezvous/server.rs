//! The listening socket and its tasks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    accept::{Handed, accept, serve_http},
    config::Config,
    hub::{Hub, now},
    refusals::Refused,
    snapshot::Snapshot,
    supervised::{EndError, Supervised},
    tls::{TlsConfig, TlsError},
};

/// How many connections that were accepted elsewhere may wait to be served.
const HANDED: usize = 256;

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate cannot be used now.
    #[error("cannot use TLS")]
    Tls(#[from] TlsError),
}

/// Why a connection that was accepted elsewhere is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It is not let in, and counted in [`Snapshot::refusals`].
    #[error("the connection is refused: {0}")]
    Refused(Refused),
    /// The server is being shut down, or has ended.
    #[error("the rendezvous serves nobody any more")]
    Ended,
}

/// A running rendezvous.
///
/// Dropping it stops it at once; [`shutdown`](Self::shutdown) lets its peers know.
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    local_addr: SocketAddr,
    handed: mpsc::Sender<Handed>,
    stop: Option<oneshot::Sender<()>>,
    task: Supervised,
}

impl Server {
    /// Starts a rendezvous. Its tasks are spawned on the current tokio runtime.
    ///
    /// # Errors
    /// [`BindError::Listen`] if the address cannot be listened on, [`BindError::Tls`] if the
    /// certificate has expired or is not valid yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        if let Some(tls) = config.tls() {
            tls.check_validity(SystemTime::now())?;
        }
        let addr = config.listen_addr();
        let listen = |source| BindError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let hub = Arc::new(Hub::new(config));
        let (stop, stopped) = oneshot::channel();
        let (handed, incoming) = mpsc::channel(HANDED);
        let task = Supervised::spawn(run(listener, incoming, hub.clone(), stopped));
        tracing::info!(%local_addr, "rendezvous started");
        Ok(Self {
            hub,
            local_addr,
            handed,
            stop: Some(stop),
            task,
        })
    }

    /// Where it listens; the port is the real one if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The addresses for peers to listen on, ready for `Swarm::listen_on`: with the real port, `/ws` or
    /// `/wss`, and at least one.
    ///
    /// Where the server listens on all interfaces, this is the loopback address, for peers on this
    /// machine: by what name or address others reach it, it cannot know. A `/wss` address works for
    /// peers only if the certificate is for that address; usually it is for a name, and the address to
    /// publish is `/dns4/<name>/tcp/<port>/wss/p2p-websocket-star`.
    ///
    /// With [public names](Config::with_public_names) there is one for each of them, since peers may join under no
    /// other. A proxy before the server may have another port.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let ip = match self.local_addr.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let scheme = match self.hub.tls() {
            Some(_) => Protocol::Wss("/".into()),
            None => Protocol::Ws("/".into()),
        };
        let address = |host| {
            Multiaddr::empty()
                .with(host)
                .with(Protocol::Tcp(self.local_addr.port()))
                .with(scheme.clone())
                .with(Protocol::P2pWebSocketStar)
        };
        let names = self.hub.config().public_names();
        let named: Vec<_> = names.hosts().map(address).collect();
        match named.is_empty() {
            true => vec![address(ip.into())],
            false => named,
        }
    }

    /// Greets new connections with another certificate from now on. Open links keep theirs and are
    /// not disturbed.
    ///
    /// # Errors
    /// If the certificate has expired or is not valid yet, or the server was started without TLS; it
    /// goes on with what it had.
    pub fn reload_tls(&self, tls: TlsConfig) -> Result<(), TlsError> {
        self.hub.tls().ok_or(TlsError::NotInUse)?.replace(tls)?;
        tracing::info!("certificate replaced");
        Ok(())
    }

    /// Serves a connection that was accepted elsewhere: from a listener of your own, a Unix socket, or whatever
    /// ends TLS in this process. It counts for `remote`, and may be refused or closed, like one that the server
    /// has accepted itself; if `remote` is a
    /// [trusted proxy](Config::with_trusted_proxies), it counts for whom that one names.
    ///
    /// It waits only while very many connections wait to be served, and returns before this one is. Cancel safe: the
    /// connection is then dropped.
    ///
    /// The server reads and writes plain HTTP and WebSocket on it, even if its own listener speaks TLS, and takes no header
    /// of the PROXY protocol there: whoever accepts the connection reads that, and gives what it says as `remote`. It drops
    /// `io` at the end of the connection, and on an error.
    ///
    /// # Errors
    /// [`ServeError::Refused`] if there is no place for it, or `remote` connects too often;
    /// [`ServeError::Ended`] if the server has [ended](Self::ended).
    pub async fn serve_connection<S>(&self, io: S, remote: SocketAddr) -> Result<(), ServeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let room = self.handed.reserve().await;
        let room = room.map_err(|_| ServeError::Ended)?;
        let entered = self.hub.admission().enter(remote.ip(), now());
        let place = entered.map_err(ServeError::Refused)?;
        let ticket = place.ticket();
        let serving = serve_http(io, remote, remote.ip(), place, self.hub.clone());
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
        self.hub.disconnect(peer, words).await
    }

    /// Asks the [access](Config::with_access) about everybody who has joined whether they
    /// [may stay](super::Access::still_allows), and closes the links of those who may not. Gives how many links that were.
    /// To be called when it would decide otherwise than before; it takes about a millisecond for a thousand peers.
    ///
    /// A join that is judged meanwhile is asked about once more. Cancel safe: some links may stay.
    pub async fn recheck_access(&self) -> usize {
        self.hub.recheck_access().await
    }

    /// What it does now.
    pub fn snapshot(&self) -> Snapshot {
        self.hub.snapshot()
    }

    /// Waits until the server has ended though nobody has stopped it, and tells why: then nobody is served
    /// any more, and whoever runs it had better end, or bind another one. A panic in the code that serves one
    /// connection is not such an end: it costs that connection, and counts in [`Snapshot::panics`].
    ///
    /// Cancel safe. It can be asked again, and gives the same answer.
    pub async fn ended(&self) -> EndError {
        // Without an error it ends only when it is stopped, which takes the server itself.
        self.task.end().await.err().unwrap_or(EndError::Aborted)
    }

    /// Stops: no new links, every stream ends with a reason, every link is closed when its peer has
    /// taken what is queued for it, or when the shutdown timeout is over.
    ///
    /// Not cancel safe in that dropping the future stops the server at once.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails only if the task is gone, which is what is wanted.
            let _ = stop.send(());
        }
        if let Err(error) = self.task.end().await {
            tracing::error!(%error, "the server did not stop in order");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its set of tasks is dropped with it, and so are all of them aborted.
        self.task.abort();
    }
}

async fn run(
    listener: TcpListener,
    mut handed: mpsc::Receiver<Handed>,
    hub: Arc<Hub>,
    stopped: oneshot::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &mut handed, &hub, &mut tasks) => {}
        () = hub.run_timer() => {}
        _ = stopped => {}
    }
    hub.shut_down().await;
    let mut late = JoinSet::new();
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        // Whoever asks for its health is told meanwhile.
        () = accept(&listener, &mut handed, &hub, &mut late) => {}
        () = tokio::time::sleep(hub.config().limits().shutdown_timeout) => {
            tracing::info!("some links did not take what was queued for them in time");
        }
    }
    tasks.shutdown().await;
}
