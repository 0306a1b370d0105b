//! The HTTP requests that are answered: the upgrade to a WebSocket, the page, `/health` and `/metrics`.

mod answer;
mod upgrade;

use std::{
    convert::Infallible,
    future::ready,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
#[cfg(feature = "rendezvous")]
use hyper::header::{FORWARDED, VIA};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as HttpBody, Incoming},
    header::{
        ALLOW, CONNECTION, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue,
        REFERRER_POLICY,
    },
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use self::{
    answer::{JSON, PLAIN, answer},
    upgrade::Handshake,
};
#[cfg(feature = "rendezvous")]
use super::admin;
use super::{
    access::Visit,
    admission::Place,
    body::Body,
    house::House,
    hub::{AdmitError, Hub, Member},
    link::{Partner, Upgraded},
    metrics, page,
    refusals::Refused,
    request,
    site::Site,
    tenants::Tenants,
    write_timeout::WriteTimeout,
};
use crate::{runtime::now, words::Words};

/// The time for an answer that is under way when its connection is to end.
const GRACE: Duration = Duration::from_millis(500);
/// The maximum size of a request's head, in bytes; the same as in Node.js.
const MAX_REQUEST: usize = 16 * 1024;
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request that becomes a link.
pub(super) struct BegunLink {
    pub(super) stream: OnUpgrade,
    pub(super) member: Member,
    pub(super) base64: bool,
}

/// The sender of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) client: IpAddr,
    /// Whether a trusted proxy sends the request for the client.
    pub(super) is_proxy: bool,
}

impl Caller {
    /// Returns the caller of a request from `remote`. If `remote` is a trusted proxy, the client is the one that the
    /// proxy names.
    pub(super) fn of<B>(
        request: &Request<B>,
        remote: IpAddr,
        is_proxy: bool,
        house: &House,
    ) -> Self {
        let proxies = house.config().trusted_proxies();
        let client = match is_proxy {
            true => proxies.client(remote, request.headers()),
            false => remote.to_canonical(),
        };
        Self { client, is_proxy }
    }

    /// Counts the request. Returns the refusal if the client has sent too many.
    pub(super) fn count(self, house: &House) -> Option<Response<String>> {
        let may_ask = house.admission().may_ask(self.client, now());
        let text = "Too many requests a second from your address\n";
        (!may_ask).then(|| refusal(StatusCode::TOO_MANY_REQUESTS, text))
    }

    /// Returns the visitor of the operator's page. Only a trusted proxy is believed when it says that it was asked over
    /// TLS.
    #[cfg(feature = "rendezvous")]
    fn visitor(self, headers: &HeaderMap, house: &House) -> admin::Visitor {
        admin::Visitor {
            client: self.client,
            claimant: house.config().origin_weights().claimant(self.client),
            is_secure: house.tls().is_some() || (self.is_proxy && says_https(headers)),
            is_of_untrusted_proxy: !self.is_proxy && is_forwarded(headers),
        }
    }

    /// Assigns the place of a connection to the client. Returns the refusal if there is no place for the client.
    pub(super) fn take(self, place: &Place) -> Option<Response<String>> {
        let is_placed = !self.is_proxy || place.set_client(self.client);
        (!is_placed).then(|| not_placed(Refused::TooManyConnections))
    }
}

/// What a request leads to.
pub(super) enum Reply {
    Answer(Response<String>),
    Link(LinkRequest),
}

/// A request for a link. The link needs a place before it can begin.
pub(super) struct LinkRequest {
    hub: Arc<Hub>,
    stream: OnUpgrade,
    handshake: Handshake,
    visit: Option<Visit>,
}

impl LinkRequest {
    /// Begins the link, or refuses it. Returns the response for either case.
    pub(super) fn begin(
        self,
        client: IpAddr,
        place: &Place,
    ) -> (Response<String>, Option<BegunLink>) {
        let Self {
            hub,
            stream,
            handshake,
            visit,
        } = self;
        let admitted = match hub.is_leaving() {
            true => Err(AdmitError::Stopping),
            false => hub.admit(place, client, handshake.version, visit),
        };
        match admitted {
            Ok(member) => {
                let begun = BegunLink {
                    stream,
                    member,
                    base64: handshake.base64,
                };
                (handshake.response(), Some(begun))
            }
            Err(error) => {
                tracing::debug!(%client, %error, "a link is refused");
                (not_admitted(error), None)
            }
        }
    }
}

/// A page that is served besides the protocol.
enum Page {
    Front,
    Health,
    Metrics,
}

/// Serves HTTP on a new connection from `remote`, within the limits of age and number of requests. When a link begins,
/// returns the bare stream, so that the relay has no layer of HTTP around it.
pub(super) async fn serve<S>(
    io: S,
    remote: IpAddr,
    place: &Place,
    site: &Arc<Site>,
) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let house = site.house();
    let limits = house.config().limits();
    let upgrade: Mutex<Option<BegunLink>> = Mutex::new(None);
    let requests = AtomicUsize::new(0);
    let lasting = lasting(site);
    let service = service_fn(|request| {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let is_last = number >= limits.http_requests;
        match respond(request, remote, place, site, &lasting) {
            Outcome::Now(mut response, begun) => {
                if begun.is_some() {
                    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = begun;
                } else if is_last {
                    set_last(&mut response);
                }
                Either::Left(ready(Ok(response.map(Body::Text))))
            }
            Outcome::Later(response) => Either::Right(response.map(move |mut response| {
                if is_last {
                    set_last(&mut response);
                }
                Ok::<_, Infallible>(response)
            })),
        }
    });
    // A connection that comes when the server is already stopping may still ask for `/health`.
    let is_late = house.is_stopping();
    let io = WriteTimeout::new(io, limits.handshake_timeout);
    let connection = http1::Builder::new()
        .keep_alive(!is_late)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let over = async {
        tokio::select! {
            () = house.stopping(), if !is_late => {}
            () = over_age(limits.http_age, lasting.as_ref()) => {}
        }
    };
    let result = tokio::select! {
        result = &mut connection => result,
        () = over => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %Words(error), "an HTTP connection failed");
    }
    let begun = upgrade
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)?;
    upgraded(begun).await
}

/// Returns the bare stream of a link that begins; `None` if its connection is gone.
async fn upgraded<S>(begun: BegunLink) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = begun.stream.await.ok()?;
    let parts = stream.downcast::<TokioIo<WriteTimeout<S>>>().ok()?;
    Some(Upgraded {
        io: parts.io.into_inner().into_inner(),
        // Some clients send data before they have received the answer.
        read: parts.read_buf,
        member: begun.member,
        base64: begun.base64,
        end: Partner::Client,
    })
}

/// A lock that an answer holds while it lasts, if the answer may last longer than a connection otherwise may. `None` if
/// there are no such answers.
type Lasting = Option<Arc<tokio::sync::Mutex<()>>>;

fn lasting(site: &Site) -> Lasting {
    #[cfg(feature = "rendezvous")]
    if site.panel().is_some() {
        return Some(Arc::default());
    }
    let _ = site;
    None
}

/// Returns when a connection is too old and has no lasting answer.
async fn over_age(age: Duration, lasting: Option<&Arc<tokio::sync::Mutex<()>>>) {
    tokio::time::sleep(age).await;
    if let Some(lasting) = lasting {
        drop(lasting.lock().await);
    }
}

/// Answers a client that speaks plain HTTP on a TLS port, in a way that a person understands.
pub(super) async fn refuse_plain<S>(io: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let service = service_fn(|_: Request<Incoming>| {
        let text = "This port speaks TLS: use https:// and wss://, and /wss in addresses.\n";
        std::future::ready(Ok::<_, Infallible>(refusal(StatusCode::BAD_REQUEST, text)))
    });
    // If the client does not speak HTTP either, it gets hyper's own answer.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

/// The result of a request on a connection that has a place.
#[allow(
    clippy::large_enum_variant,
    reason = "the value is used at once, and a box would cost an allocation for every request"
)]
enum Outcome {
    Now(Response<String>, Option<BegunLink>),
    /// An answer that takes time.
    #[cfg_attr(
        not(feature = "rendezvous"),
        allow(dead_code, reason = "without this feature, no answer takes time")
    )]
    Later(BoxFuture<'static, Response<Body>>),
}

impl From<Response<String>> for Outcome {
    fn from(response: Response<String>) -> Self {
        Self::Now(response, None)
    }
}

/// Answers a request on a connection that has a place.
#[cfg_attr(
    not(feature = "rendezvous"),
    allow(unused_variables, reason = "without this feature, no answer lasts")
)]
fn respond(
    mut request: Request<Incoming>,
    remote: IpAddr,
    place: &Place,
    site: &Arc<Site>,
    lasting: &Lasting,
) -> Outcome {
    let house = site.house();
    let caller = Caller::of(&request, remote, place.is_proxy(), house);
    if let Some(mut refusal) = caller.count(house).or_else(|| caller.take(place)) {
        set_last(&mut refusal);
        return refusal.into();
    }
    #[cfg(feature = "rendezvous")]
    if let Some(lasting) = lasting
        && let Some(panel) = site.panel()
        && admin::is_asked_for(request.uri().path())
    {
        if let Some(refusal) = admin_elsewhere(&request, site) {
            return refusal.into();
        }
        let visitor = caller.visitor(request.headers(), house);
        let panel = panel.clone();
        let answer = panel.respond(request, visitor, site.tenants().clone(), lasting.clone());
        return Outcome::Later(answer.boxed());
    }
    match reply(&mut request, caller.client, house.tls().is_some(), site) {
        Reply::Answer(response) => response.into(),
        Reply::Link(wish) => {
            let (response, begun) = wish.begin(caller.client, place);
            Outcome::Now(response, begun)
        }
    }
}

/// Answers a client's request, unless it is a request for a link. `is_secure` tells whether the request is known to
/// have come over TLS.
pub(super) fn reply<B: HttpBody>(
    request: &mut Request<B>,
    client: IpAddr,
    is_secure: bool,
    tenants: &Tenants,
) -> Reply {
    if let Some(refusal) = refuse_bad_host(request, tenants) {
        return Reply::Answer(refusal);
    }
    let config = tenants.config();
    let page = match request.uri().path() {
        "/socket.io/" | "/socket.io" => return reply_with_link(request, tenants),
        "/" if config.page() => Page::Front,
        "/health" if config.health() => Page::Health,
        "/metrics" if config.metrics() => Page::Metrics,
        _ => return Reply::Answer(not_found()),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return Reply::Answer(response);
    }
    let host = request::host(request);
    Reply::Answer(match page {
        Page::Front => front_page(request.headers(), host, is_secure, tenants),
        Page::Health => health(tenants, tenants.known(host)),
        // An operator asks by the server's own address.
        Page::Metrics => match tenants.named(host) {
            None if config.is_operator(client) => metrics(tenants, None),
            _ => metrics(tenants, Some(tenants.known(host))),
        },
    })
}

fn reply_with_link<B: HttpBody>(request: &mut Request<B>, tenants: &Tenants) -> Reply {
    let Some(hub) = tenants.of(request::host(request)) else {
        return Reply::Answer(refuse_host(tenants));
    };
    match Handshake::of(request) {
        Err(error) => Reply::Answer(error.response()),
        Ok(handshake) => Reply::Link(LinkRequest {
            hub: hub.clone(),
            handshake,
            visit: hub
                .doorkeeper()
                .map(|_| request::visit(request, hub.tenant())),
            stream: hyper::upgrade::on(request),
        }),
    }
}

/// Returns a refusal if the host in the request cannot be one. Only checked if there are several tenants, because
/// otherwise the host does not matter.
fn refuse_bad_host<B>(request: &Request<B>, tenants: &Tenants) -> Option<Response<String>> {
    let is_bad = tenants.are_several() && request::has_bad_host(request);
    is_bad.then(|| refusal(StatusCode::BAD_REQUEST, "Bad host\n"))
}

/// Returns the answer that replaces the operator's page at hosts where there is none. The page is about all tenants, so
/// it is not served at the hosts of a single tenant. If there are no other hosts, it is served at each of them.
#[cfg(feature = "rendezvous")]
fn admin_elsewhere<B>(request: &Request<B>, tenants: &Tenants) -> Option<Response<String>> {
    let takes_unknown = tenants.config().takes_unknown_hosts();
    let mut refused = match (
        refuse_bad_host(request, tenants),
        tenants.named(request::host(request)),
    ) {
        (Some(bad), _) => bad,
        (None, Some(_)) if takes_unknown => not_found(),
        (None, None) if !takes_unknown => refuse_host(tenants),
        _ => return None,
    };
    // The request may have a body that nobody reads.
    set_last(&mut refused);
    Some(refused)
}

fn not_found() -> Response<String> {
    refusal(StatusCode::NOT_FOUND, "Not found\n")
}

/// Refuses a request for a host that belongs to no tenant here.
fn refuse_host(tenants: &Tenants) -> Response<String> {
    let admission = tenants.house().admission();
    admission.count_refused(Refused::UnknownHost);
    let text = "No network on this server has this host\n";
    refusal(StatusCode::MISDIRECTED_REQUEST, text)
}

fn front_page(
    headers: &HeaderMap,
    host: Option<&str>,
    is_secure: bool,
    tenants: &Tenants,
) -> Response<String> {
    let Some(hub) = tenants.of(host) else {
        return refuse_host(tenants);
    };
    // The header is not verified, but it affects only the page for the browser that sent it, or whose proxy added it.
    let is_secure = is_secure || says_https(headers);
    let address = host.and_then(|host| page::address(host, is_secure));
    let html = page::html(address.as_deref(), hub.figures().peers);
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", html);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, page::content_security_policy());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Returns whether a proxy says that it was asked over TLS.
fn says_https(headers: &HeaderMap) -> bool {
    let forwarded = headers.get(&FORWARDED_PROTO);
    let schemes = forwarded.and_then(|schemes| schemes.to_str().ok());
    // Each proxy appends the scheme by which it was asked, so the first one is the client's.
    let scheme = schemes.and_then(|schemes| schemes.split(',').next());
    scheme.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

/// Returns whether a request says that a proxy has forwarded it.
#[cfg(feature = "rendezvous")]
fn is_forwarded(headers: &HeaderMap) -> bool {
    let proxies_say = [
        FORWARDED,
        VIA,
        FORWARDED_PROTO,
        HeaderName::from_static("x-forwarded-for"),
    ];
    proxies_say.iter().any(|name| headers.contains_key(name))
}

fn health(tenants: &Tenants, hub: &Hub) -> Response<String> {
    let figures = hub.figures();
    let (status, text) = match tenants.house().is_leaving() {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let (peers, links) = (figures.peers, figures.snapshot.links);
    let json = serde_json::json!({ "status": text, "peers": peers, "links": links });
    answer(status, JSON, json.to_string())
}

fn metrics(tenants: &Tenants, tenant: Option<&Arc<Hub>>) -> Response<String> {
    match metrics::encode(tenants, tenant) {
        Ok(text) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
        // A number is too large for the format.
        Err(_) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The metrics cannot be encoded\n",
        ),
    }
}

pub(super) fn refusal(status: StatusCode, text: &str) -> Response<String> {
    answer(status, PLAIN, text.to_owned())
}

/// Makes the connection end after this answer.
fn set_last<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

pub(super) fn not_admitted(error: AdmitError) -> Response<String> {
    let status = match error {
        AdmitError::Links | AdmitError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        AdmitError::LinksPerIp | AdmitError::Rate => StatusCode::TOO_MANY_REQUESTS,
    };
    refusal(status, &format!("{error}\n"))
}

/// Returns the refusal of a request whose connection has no place.
pub(super) fn not_placed(reason: Refused) -> Response<String> {
    match reason {
        Refused::ConnectionRate => not_admitted(AdmitError::Rate),
        _ => {
            let text = "Too many connections from your address\n";
            refusal(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}
