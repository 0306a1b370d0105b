//! Connections, from `accept` on: each gets a place and a task, which serves HTTP first and then, maybe, a link.

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
use super::introduction;
use super::{
    admission::{Place, Ticket},
    house::House,
    http,
    hub::{Member, now},
    link,
    read_ahead::ReadAhead,
    refusals::Refused,
    supervised::contained,
    tenants::Tenants,
    tls,
};
use crate::{limited::Limited, words::Words};

/// How many bytes the system may hold of what it has not sent, before it takes more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 512 * 1024;
/// How long to wait when no connection can be accepted, which is when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The same when one has been ended instead, until its descriptor is free.
const EVICTION_PAUSE: Duration = Duration::from_millis(10);
/// What the system calls it when the process, or the whole system, has no descriptor left: `EMFILE` and `ENFILE`,
/// or `WSAEMFILE`.
const NO_DESCRIPTOR: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };

/// A connection, or a link, that was accepted elsewhere, on its way to the tasks of the rendezvous.
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

/// Serves whoever comes, at the listener, if there is one, and from elsewhere, until it is dropped.
pub(super) async fn accept(
    listener: Option<&TcpListener>,
    handed: &mut mpsc::Receiver<Handed>,
    tenants: &Arc<Tenants>,
    tasks: &mut JoinSet<()>,
) {
    let house = tenants.house();
    let (refused, cannot_accept) = (Limited::default(), Limited::default());
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
                    let (ticket, tenants) = (place.ticket(), tenants.clone());
                    let house = house.clone();
                    ticket.served_by(match house.tls() {
                        None => {
                            tasks.spawn(contained(house, serve(stream, remote, place, tenants)))
                        }
                        Some(_) => {
                            tasks.spawn(contained(house, serve_tls(stream, remote, place, tenants)))
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

/// Ends a connection that nothing was read from: without the system remembering it for a minute, and
/// with no task for it.
fn reset(stream: TcpStream) {
    // If it fails, the connection ends in the usual way.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

async fn serve(mut stream: TcpStream, remote: SocketAddr, mut place: Place, tenants: Arc<Tenants>) {
    prepare_socket(&stream);
    match introduced(&mut stream, remote, &mut place, tenants.house()).await {
        Some(from) => serve_http(stream, remote, from, place, tenants).await,
        None => reset(stream),
    }
}

async fn serve_tls(
    mut stream: TcpStream,
    remote: SocketAddr,
    mut place: Place,
    tenants: Arc<Tenants>,
) {
    prepare_socket(&stream);
    let Some(from) = introduced(&mut stream, remote, &mut place, tenants.house()).await else {
        return reset(stream);
    };
    // In a box, so that the memory of an idle link does not include what the handshake needed.
    if let Some(stream) = Box::pin(handshake(stream, remote, tenants.house())).await {
        serve_http(stream, remote, from, place, tenants).await;
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
    house: &House,
) -> Option<IpAddr> {
    #[cfg(feature = "rendezvous")]
    if place.is_proxy() && house.config().proxy_protocol() {
        // In a box, for the same reason.
        return Box::pin(introduction::take(stream, remote, place, house)).await;
    }
    Some(remote.ip())
}

/// Sets the options of a socket that are good for links: small frames are not to wait for the acknowledgement of others
/// (`TCP_NODELAY`); and large ones are to wait with the rendezvous, where what is urgent overtakes them, not with the system
/// (`TCP_NOTSENT_LOWAT`, on Linux), which tells in steps of megabytes that a slow peer has taken something.
///
/// A [`Server`](super::Server) does it where it listens, and so does a [`Service`](super::Service) where hyper, hyper-util or
/// `axum::serve` runs on a bare [`TcpStream`]. An application that puts something around the stream, such as TLS, is to call
/// this when it has accepted a connection. An option that cannot be set is logged at the level `debug`.
pub fn prepare_socket(stream: &TcpStream) {
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

/// `remote` is the other end of the socket, and `from` is where the connection comes from.
pub(super) async fn serve_http<S>(
    stream: S,
    remote: SocketAddr,
    from: IpAddr,
    place: Place,
    tenants: Arc<Tenants>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // In a box, so that the memory of an idle link does not include what HTTP needed.
    let Some(upgraded) = Box::pin(http::serve(stream, from, &place, &tenants)).await else {
        return;
    };
    drop(tenants);
    let span = link_span(&upgraded.member, remote.ip(), &remote);
    link::serve(upgraded).instrument(span).await;
}

/// What the log has of a link on each of its lines. `shown` is what is known of whoever has connected.
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
