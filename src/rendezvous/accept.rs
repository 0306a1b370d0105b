//! Accepts connections. Each one gets a place and a task, which first serves HTTP and then, if the request asks for it,
//! a link.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{Instrument as _, Span, field::Empty};

#[cfg(feature = "rendezvous")]
use super::proxy_protocol;
use super::{
    admission::{Place, Ticket},
    house::House,
    http,
    hub::Member,
    link,
    read_ahead::ReadAhead,
    refusals::Refused,
    site::Site,
    supervised::contained,
    tls,
};
use crate::{log_limit::LogLimit, runtime::now, words::Words};

/// The number of unsent bytes in a socket above which the system takes no more (`TCP_NOTSENT_LOWAT`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 512 * 1024;
/// The pause after `accept` has failed, which happens when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The pause if a connection was ended to make room; its descriptor is soon free.
const EVICTION_PAUSE: Duration = Duration::from_millis(10);
/// The error codes for "no file descriptors left", in the process or in the whole system: `EMFILE` and `ENFILE`, or
/// `WSAEMFILE`.
const NO_DESCRIPTOR: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };

/// A connection or a link that was accepted elsewhere and is handed over to the tasks of the rendezvous.
pub(super) struct Handed {
    pub(super) serving: BoxFuture<'static, ()>,
    pub(super) ticket: Ticket,
}

impl Handed {
    pub(super) fn spawn(self, house: &Arc<House>, tasks: &mut JoinSet<()>) {
        let task = tasks.spawn(contained(house.clone(), self.serving));
        self.ticket.served_by(task);
    }
}

/// Serves connections from the listener, if there is one, and those that are handed over, until the future is dropped.
pub(super) async fn accept(
    listener: Option<&TcpListener>,
    handed: &mut mpsc::Receiver<Handed>,
    site: &Arc<Site>,
    tasks: &mut JoinSet<()>,
) {
    let house = site.house();
    let (refused, cannot_accept) = (LogLimit::default(), LogLimit::default());
    loop {
        let accepted = tokio::select! {
            accepted = next(listener) => accepted,
            Some(handed) = handed.recv() => {
                handed.spawn(house, tasks);
                continue;
            }
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => match enter(remote.ip(), house) {
                Ok(place) => {
                    let (ticket, site) = (place.ticket(), site.clone());
                    let house = house.clone();
                    ticket.served_by(match house.tls() {
                        None => tasks.spawn(contained(house, serve(stream, remote, place, site))),
                        Some(_) => {
                            tasks.spawn(contained(house, serve_tls(stream, remote, place, site)))
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
                // Ends a connection of the origin that holds the most descriptors, so that it cannot keep others out.
                let is_short = error
                    .raw_os_error()
                    .is_some_and(|n| NO_DESCRIPTOR.contains(&n));
                let pause = match is_short && house.admission().make_room() {
                    true => EVICTION_PAUSE,
                    false => ACCEPT_PAUSE,
                };
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn enter(remote: IpAddr, house: &House) -> Result<Place, Refused> {
    let is_proxy = house.config().trusted_proxies().contain(remote);
    house.admission().enter(remote, is_proxy, now())
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Resets a connection from which nothing was read. So the system does not remember it for a minute, and it needs no
/// task.
fn reset(stream: TcpStream) {
    // If this fails, the connection ends in the usual way.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

async fn serve(mut stream: TcpStream, remote: SocketAddr, mut place: Place, site: Arc<Site>) {
    prepare_socket(&stream);
    match client_of(&mut stream, remote, &mut place, site.house()).await {
        Some(from) => serve_http(stream, remote, from, place, site).await,
        None => reset(stream),
    }
}

async fn serve_tls(mut stream: TcpStream, remote: SocketAddr, mut place: Place, site: Arc<Site>) {
    prepare_socket(&stream);
    let Some(from) = client_of(&mut stream, remote, &mut place, site.house()).await else {
        return reset(stream);
    };
    // Boxed, so that the memory of an idle link does not include the memory for the handshake.
    if let Some(stream) = Box::pin(handshake(stream, remote, site.house())).await {
        serve_http(stream, remote, from, place, site).await;
    }
}

/// Returns the address that the connection comes from, as far as its first bytes tell. `None` if it is not to be
/// served.
#[cfg_attr(
    not(feature = "rendezvous"),
    allow(
        unused_variables,
        reason = "without this feature, nothing is read before TLS and HTTP"
    )
)]
async fn client_of(
    stream: &mut TcpStream,
    remote: SocketAddr,
    place: &mut Place,
    house: &House,
) -> Option<IpAddr> {
    #[cfg(feature = "rendezvous")]
    if place.is_proxy() && house.config().proxy_protocol() {
        // Boxed, so that the memory of an idle link does not include the memory for the header.
        return Box::pin(proxy_protocol::take(stream, remote, place, house)).await;
    }
    Some(remote.ip())
}

/// Sets the socket options that links need.
///
/// - `TCP_NODELAY`: small frames do not wait for the acknowledgement of earlier ones.
/// - `TCP_NOTSENT_LOWAT`, on Linux and Android: large frames wait in the rendezvous, where urgent ones overtake them,
///   and not in the system, which reports only in steps of megabytes that a slow peer has taken something.
///
/// A [`Server`](super::Server) calls this for the connections that it accepts. A [`Service`](super::Service) calls it
/// where hyper, hyper-util or `axum::serve` runs on a bare [`TcpStream`]. An application that wraps the stream, for
/// example in TLS, should call this after it has accepted a connection. If an option cannot be set, this is logged at
/// the level `debug`.
pub fn prepare_socket(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
}

/// Performs the TLS handshake. Returns `None` if it fails, or if the peer speaks plain HTTP, which is answered with an
/// explanation. The stream is boxed, because a future reserves space at each place through which a value is passed.
async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    house: &House,
) -> Option<Box<TlsStream<ReadAhead<TcpStream>>>> {
    let acceptor = TlsAcceptor::from(house.tls()?.config());
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? != 0 && first != [tls::HANDSHAKE_RECORD] {
            http::refuse_plain(stream).await;
            return Ok(None);
        }
        let stream = acceptor.accept(ReadAhead::new(stream)).await?;
        Ok(Some(Box::new(stream)))
    };
    let handshaken = house.in_time(handshake).await?;
    let handshaken = handshaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    handshaken.unwrap_or_else(|error: io::Error| {
        tracing::debug!(%remote, error = %Words(error), "a TLS handshake failed");
        None
    })
}

/// Serves HTTP on a connection, and then a link if one begins. `remote` is the other end of the socket; `from` is the
/// address that the connection comes from.
pub(super) async fn serve_http<S>(
    stream: S,
    remote: SocketAddr,
    from: IpAddr,
    place: Place,
    site: Arc<Site>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Boxed, so that the memory of an idle link does not include the memory for HTTP.
    let Some(upgraded) = Box::pin(http::serve(stream, from, &place, &site)).await else {
        return;
    };
    drop(site);
    let span = link_span(&upgraded.member, remote.ip(), &remote);
    link::serve(upgraded).instrument(span).await;
}

/// Returns the span with the fields that the log shows on each line about a link. `shown` is what is known of the other
/// end of the connection.
pub(super) fn link_span(member: &Member, remote: IpAddr, shown: &dyn Display) -> Span {
    let (link, client) = (member.link, member.client);
    let span = tracing::debug_span!(
        "link", %link, remote = %shown, client = Empty, tenant = Empty, peer = Empty
    );
    if client != remote.to_canonical() {
        span.record("client", tracing::field::display(client));
    }
    if let Some(tenant) = member.hub.tenant() {
        span.record("tenant", &**tenant);
    }
    span
}
