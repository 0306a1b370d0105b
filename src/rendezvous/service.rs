//! The rendezvous as a service of hyper and tower, in an application that has a listener of its own.

use std::{convert::Infallible, fmt, net::IpAddr, sync::Arc, time::Duration};

use ::http::Extensions;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use hyper::{Request, Response, StatusCode, body::Body, upgrade::Upgraded as Hidden};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{net::TcpStream, sync::mpsc};
use tracing::Instrument as _;

use super::{
    accept::{Handed, link_span, prepare_socket},
    admission::Place,
    http::{self, BegunLink, Caller, LinkRequest, Reply},
    hub::AdmitError,
    link::{self, Partner, Upgraded},
    refusals::Refused,
    tenants::Tenants,
};
use crate::{log_limit::LogLimit, runtime::now, words::Words};

/// The address that a request comes from: an extension that an application adds to requests for a [`Service`].
///
/// It is the address of the peer that has connected, or the address of the client, if the application can find that out
/// in a way that nobody can forge. It decides which origin a request counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

type Lookup = dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync;
type Answer = BoxFuture<'static, Result<Response<String>, Infallible>>;

/// Limits the log lines about mistakes of the application, because clients can cause such lines.
#[derive(Debug, Default)]
struct Complaints {
    no_address: LogLimit,
    no_upgrade: LogLimit,
}

/// A rendezvous as a [`hyper::service::Service`] and, with the feature `tower`, as a `tower::Service`. An application
/// mounts it beside its own routes, behind its listener, its TLS and its middleware. Clones are cheap.
///
#[cfg_attr(feature = "tower", doc = "```")]
#[cfg_attr(not(feature = "tower"), doc = "```ignore")]
/// use std::net::SocketAddr;
///
/// use axum::{Router, extract::ConnectInfo, routing::get};
/// use libp2p_websocket_star::rendezvous::{Config, Rendezvous};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rendezvous = Rendezvous::start(Config::default());
/// let star = rendezvous
///     .service()
///     .with_client_addr(|ConnectInfo(addr): &ConnectInfo<SocketAddr>| addr.ip());
/// let app = Router::new()
///     .route("/hello", get(|| async { "hello" }))
///     .fallback_service(star)
///     .into_make_service_with_connect_info::<SocketAddr>();
/// let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
/// let serving = tokio::spawn(async move { axum::serve(listener, app).await });
/// // As long as the application runs. In the end:
/// rendezvous.shutdown().await;
/// serving.abort();
/// # Ok(())
/// # }
/// ```
///
/// # Paths
///
/// `/socket.io/` is for links. `/`, `/health` and `/metrics` are answered unless the
/// [configuration](super::Config::with_page) says otherwise, and everything else is answered with 404. Peers always ask
/// for `/socket.io/` at the root of the host, because an address of websocket-star has no path. Mount the service
/// there: as the fallback of all routes, or for this path alone. If the application strips the prefix of a path, as
/// axum's `nest_service` does, the rest may be anywhere: the page, for example, at `/star/`.
///
/// # The client's address
///
/// All limits of an origin need it, so each request must have an extension [`ClientAddr`], or the extension that
/// [`with_client_addr`](Self::with_client_addr) names. A request without one is answered with 500, counted as
/// [`Refused::NoClientAddr`], and logged as an error, at most once a second. If all such requests counted for one
/// origin, a single stranger could take everybody's places, and the application would notice its mistake only then. If
/// the address is one of the [trusted proxies](super::Config::with_trusted_proxies), `X-Forwarded-For` names the
/// client.
///
/// # Limits
///
/// The limits are those of a [`Server`](super::Server), from the request on: links, joins, dials, rates, memory and the
/// heartbeat, with the shares of origins, and the access. A link counts as a connection when it begins, so
/// [`with_connection_rate`](super::Limits::with_connection_rate) is a rate of links, and what exceeds it is answered
/// with 429.
///
/// The application has to bound what comes before the request: connections that ask for nothing or for something else,
/// TLS handshakes, how long a request's head may take and how large it may be, how long a connection may last and how
/// many requests it may send. In particular, no connection of the application makes room for another one when
/// descriptors run out.
///
/// Some socket options keep urgent data from waiting behind bulk data. They are set where the stream is a bare
/// [`TcpStream`]. Where it is not, as with TLS, call [`prepare_socket`] for each connection.
///
/// A link begins with an upgrade of HTTP/1.1. HTTP/2 has no such upgrade, but browsers try one over HTTP/2 if the
/// application offers it (as axum does with its feature `http2`). Make such an application offer `http/1.1` only, or
/// give the rendezvous a host of its own.
///
/// # The end
///
/// Links do not end with the application's server, because they have left HTTP. They end with the
/// [`Rendezvous`](super::Rendezvous). Its services then answer requests for links, and for `/health`, with 503.
#[derive(Clone)]
pub struct Service {
    tenants: Arc<Tenants>,
    handed: mpsc::Sender<Handed>,
    lookup: Option<Arc<Lookup>>,
    is_secure: bool,
    complaints: Arc<Complaints>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    pub(super) fn new(tenants: Arc<Tenants>, handed: mpsc::Sender<Handed>) -> Self {
        Self {
            tenants,
            handed,
            lookup: None,
            is_secure: false,
            complaints: Arc::default(),
        }
    }

    /// Takes the client's address from an extension of another type, where a request has no [`ClientAddr`]: from axum's
    /// `ConnectInfo`, for example.
    #[must_use]
    pub fn with_client_addr<T>(
        mut self,
        addr: impl Fn(&T) -> IpAddr + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
    {
        let lookup = move |extensions: &Extensions| extensions.get::<T>().map(&addr);
        self.lookup = Some(Arc::new(lookup));
        self
    }

    /// Sets whether the application speaks TLS itself. Its page then shows an address with `/wss`. Default: no. Behind
    /// a proxy that sends `X-Forwarded-Proto`, this is not needed.
    #[must_use]
    pub fn with_wss(mut self, is_secure: bool) -> Self {
        self.is_secure = is_secure;
        self
    }

    /// Answers a request. The answer does not hold the request.
    fn respond<B: Body>(&self, mut request: Request<B>) -> Answer {
        // The tasks of the rendezvous may have ended for any reason; the cause does not matter here.
        if self.handed.is_closed() {
            self.tenants.house().stop();
        }
        let answer = |response| std::future::ready(Ok(response)).boxed();
        let Some(remote) = self.remote(request.extensions()) else {
            return answer(self.refuse_without_address());
        };
        let house = self.tenants.house();
        let is_proxy = house.config().is_proxy_of_requests(remote);
        let caller = Caller::of(&request, remote, is_proxy, house);
        if let Some(refusal) = caller.count(house) {
            return answer(refusal);
        }
        match http::reply(&mut request, caller.client, self.is_secure, &self.tenants) {
            Reply::Answer(response) => answer(response),
            Reply::Link(wish) => self.clone().begin(remote, caller, wish).map(Ok).boxed(),
        }
    }

    /// Returns the address that the request comes from, as far as the application says.
    fn remote(&self, extensions: &Extensions) -> Option<IpAddr> {
        match extensions.get::<ClientAddr>() {
            Some(ClientAddr(addr)) => Some(*addr),
            None => self.lookup.as_ref()?(extensions),
        }
    }

    fn refuse_without_address(&self) -> Response<String> {
        self.tenants
            .house()
            .admission()
            .count_refused(Refused::NoClientAddr);
        if let Some(left_out) = self.complaints.no_address.admit(now()) {
            tracing::error!(
                left_out,
                "a request is refused, because the application does not provide the client's address (`ClientAddr`)"
            );
        }
        let text = "The server does not know your address\n";
        http::refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// Begins a link in a place of its own, or answers why not.
    async fn begin(self, remote: IpAddr, caller: Caller, wish: LinkRequest) -> Response<String> {
        let Self {
            tenants,
            handed,
            complaints,
            ..
        } = self;
        let Ok(room) = handed.reserve().await else {
            tenants
                .house()
                .admission()
                .count_refused(Refused::ShuttingDown);
            return http::not_admitted(AdmitError::Stopping);
        };
        let place = match tenants
            .house()
            .admission()
            .enter(remote, caller.is_proxy, now())
        {
            Ok(place) => place,
            Err(reason) => return http::not_placed(reason),
        };
        if let Some(refusal) = caller.take(&place) {
            return refusal;
        }
        let (response, begun) = wish.begin(caller.client, &place);
        if let Some(begun) = begun {
            let ticket = place.ticket();
            let serving = Box::pin(serve(begun, remote, place, complaints));
            room.send(Handed { serving, ticket });
        }
        response
    }
}

impl<B: Body> hyper::service::Service<Request<B>> for Service {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.respond(request)
    }
}

#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
impl<B: Body> tower_service::Service<Request<B>> for Service {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Answer;

    /// Always ready: requests beyond the limits are refused in the answer.
    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.respond(request)
    }
}

/// Serves a link from its upgrade on.
async fn serve(begun: BegunLink, remote: IpAddr, place: Place, complaints: Arc<Complaints>) {
    let timeout = begun.member.hub.config().limits().handshake_timeout;
    let span = link_span(&begun.member, remote, &remote);
    // The future is boxed, so that the memory of an idle link does not include what the upgrade needed.
    let opened = Box::pin(open(begun, timeout, complaints));
    let opened = opened.instrument(span.clone()).await;
    match opened {
        None => {}
        Some(Opened::Bare(upgraded)) => link::serve(upgraded).instrument(span).await,
        Some(Opened::Hidden(upgraded)) => link::serve(upgraded).instrument(span).await,
    }
    // The place is held up to here.
    drop(place);
}

/// The stream of a link.
enum Opened {
    /// A socket, without any layer of HTTP around it.
    Bare(Upgraded<TcpStream>),
    /// Any other stream that the application has, behind hyper's upgrade.
    Hidden(Upgraded<TokioIo<Hidden>>),
}

/// Waits until the application's server hands over the connection. The server does so when it has sent the answer.
async fn open(begun: BegunLink, timeout: Duration, complaints: Arc<Complaints>) -> Option<Opened> {
    let BegunLink {
        stream,
        member,
        base64,
    } = begun;
    let Ok(handed_over) = tokio::time::timeout(timeout, stream).await else {
        tracing::debug!("a connection was not handed over in time");
        return None;
    };
    let hidden = handed_over
        .inspect_err(|error| {
            if !error.is_user() {
                tracing::debug!(error = %Words(error), "a connection ended before its upgrade");
            } else if let Some(left_out) = complaints.no_upgrade.admit(now()) {
                let error = Words(error);
                tracing::error!(%error, left_out, "the application's server does not allow upgrades");
            }
        })
        .ok()?;
    Some(match bare(hidden) {
        Ok((io, read)) => {
            prepare_socket(&io);
            Opened::Bare(Upgraded {
                io,
                read,
                member,
                base64,
                end: Partner::Client,
            })
        }
        Err(hidden) => Opened::Hidden(Upgraded {
            io: TokioIo::new(hidden),
            // If data has arrived already, it is still inside `hidden`.
            read: Bytes::new(),
            member,
            base64,
            end: Partner::Client,
        }),
    })
}

/// Returns the socket and what was read from it, if hyper or hyper-util hold the socket as it was accepted.
fn bare(hidden: Hidden) -> Result<(TcpStream, Bytes), Hidden> {
    let hidden = match hidden.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(hidden) => hidden,
    };
    let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(hidden)?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
