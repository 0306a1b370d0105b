//! The listening socket and its tasks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{Instrument as _, field::Empty};

#[cfg(feature = "rendezvous")]
use super::introduction;
use super::{
    admission::{Place, Ticket},
    config::Config,
    http,
    hub::{Hub, now},
    link,
    read_ahead::ReadAhead,
    refusals::Refused,
    snapshot::Snapshot,
    supervised::{EndError, Supervised, contained},
    tls::{self, TlsConfig, TlsError},
};
use crate::{limited::Limited, words::Words};

/// How many bytes the system may hold of what it has not sent, before it takes more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 512 * 1024;
/// How long to wait when no connection can be accepted, which is when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections that were accepted elsewhere may wait to be served.
const HANDED: usize = 256;
/// The same when one has been ended instead, until its descriptor is free.
const EVICTION_PAUSE: Duration = Duration::from_millis(10);
/// What the system calls it when the process, or the whole system, has no descriptor left: `EMFILE` and `ENFILE`,
/// or `WSAEMFILE`.
const NO_DESCRIPTOR: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };

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

/// A connection on its way to the task of the server.
struct Handed {
    serving: BoxFuture<'static, ()>,
    ticket: Ticket,
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

async fn accept(
    listener: &TcpListener,
    handed: &mut mpsc::Receiver<Handed>,
    hub: &Arc<Hub>,
    tasks: &mut JoinSet<()>,
) {
    let (refused, cannot_accept) = (Limited::default(), Limited::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(Handed { serving, ticket }) = handed.recv() => {
                ticket.served_by(tasks.spawn(contained(hub.clone(), serving)));
                continue;
            }
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => match hub.admission().enter(remote.ip(), now()) {
                Ok(place) => {
                    let (ticket, served) = (place.ticket(), hub.clone());
                    let hub = hub.clone();
                    ticket.served_by(match hub.tls() {
                        None => tasks.spawn(contained(hub, serve(stream, remote, place, served))),
                        Some(_) => {
                            tasks.spawn(contained(hub, serve_tls(stream, remote, place, served)))
                        }
                    });
                }
                Err(reason) => {
                    reset(stream);
                    if let Some(left_out) = refused.admit(now()) {
                        tracing::warn!(%remote, %reason, left_out, "a connection is refused");
                    }
                }
            },
            Err(error) => {
                if let Some(left_out) = cannot_accept.admit(now()) {
                    tracing::warn!(%error, left_out, "cannot accept a connection");
                }
                // Whoever holds most of the descriptors is not to keep others out.
                let is_short = error
                    .raw_os_error()
                    .is_some_and(|n| NO_DESCRIPTOR.contains(&n));
                let pause = match is_short && hub.admission().make_room() {
                    true => EVICTION_PAUSE,
                    false => ACCEPT_PAUSE,
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Ends a connection that nothing was read from: without the system remembering it for a minute, and
/// with no task for it.
fn reset(stream: TcpStream) {
    // If it fails, the connection ends in the usual way.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

async fn serve(mut stream: TcpStream, remote: SocketAddr, mut place: Place, hub: Arc<Hub>) {
    set_options(&stream);
    match introduced(&mut stream, remote, &mut place, &hub).await {
        Some(from) => serve_http(stream, remote, from, place, hub).await,
        None => reset(stream),
    }
}

async fn serve_tls(mut stream: TcpStream, remote: SocketAddr, mut place: Place, hub: Arc<Hub>) {
    set_options(&stream);
    let Some(from) = introduced(&mut stream, remote, &mut place, &hub).await else {
        return reset(stream);
    };
    // In a box, so that the memory of an idle link does not include what the handshake needed.
    if let Some(stream) = Box::pin(handshake(stream, remote, &hub)).await {
        serve_http(stream, remote, from, place, hub).await;
    }
}

/// Where a connection comes from, as far as its first bytes tell. `None` if it is not to be served.
#[cfg_attr(
    not(feature = "rendezvous"),
    allow(unused_variables, reason = "nothing is read before TLS and HTTP")
)]
async fn introduced(
    stream: &mut TcpStream,
    remote: SocketAddr,
    place: &mut Place,
    hub: &Hub,
) -> Option<IpAddr> {
    #[cfg(feature = "rendezvous")]
    if place.is_proxy() && hub.config().proxy_protocol() {
        // In a box, for the same reason.
        return Box::pin(introduction::take(stream, remote, place, hub)).await;
    }
    Some(remote.ip())
}

/// Small frames are not to wait for the acknowledgement of others; and large ones are to wait with us,
/// not with the system, which tells in steps of megabytes that a slow peer has taken something.
fn set_options(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
}

/// The stream is in a box, because a future has room for each place through which it is passed.
async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    hub: &Hub,
) -> Option<Box<TlsStream<ReadAhead<TcpStream>>>> {
    let acceptor = TlsAcceptor::from(hub.tls()?.config());
    let timeout = hub.config().limits().handshake_timeout;
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? != 0 && first != [tls::HANDSHAKE_RECORD] {
            http::refuse_plain(stream).await;
            return Ok(None);
        }
        let stream = acceptor.accept(ReadAhead::new(stream)).await?;
        Ok(Some(Box::new(stream)))
    };
    let is_late = hub.is_stopping();
    let handshaken = tokio::select! {
        result = tokio::time::timeout(timeout, handshake) => {
            result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = hub.stopping(), if !is_late => return None,
    };
    handshaken.unwrap_or_else(|error: io::Error| {
        tracing::debug!(%remote, error = %Words(error), "a TLS handshake failed");
        None
    })
}

/// `remote` is the other end of the socket, and `from` is where the connection comes from.
async fn serve_http<S>(stream: S, remote: SocketAddr, from: IpAddr, place: Place, hub: Arc<Hub>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // In a box, so that the memory of an idle link does not include what HTTP needed.
    let Some(upgraded) = Box::pin(http::serve(stream, from, &place, &hub)).await else {
        return;
    };
    drop(hub);
    let (link, client) = (upgraded.member.link, upgraded.member.client);
    let span = tracing::debug_span!("link", %link, %remote, client = Empty, peer = Empty);
    if client != remote.ip().to_canonical() {
        span.record("client", tracing::field::display(client));
    }
    link::serve(upgraded).instrument(span).await;
}
