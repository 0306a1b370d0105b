//! What is asked over HTTP: the upgrade to a WebSocket, the page, `/health` and `/metrics`.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
        X_CONTENT_TYPE_OPTIONS,
    },
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    admission::Place,
    hub::{AdmitError, Hub, Member},
    metrics, page,
    patient::Patient,
};
use crate::{protocol::engine_io, websocket::upgrade::accept_for};

/// How long an answer that is under way may take when its connection is to end.
const GRACE: Duration = Duration::from_millis(500);
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// A request that becomes a link.
type Upgrade = (OnUpgrade, Member);

/// Serves HTTP on a new connection, for so long and for so many requests. When a link begins, gives the bare
/// stream back: the relay has nothing of HTTP around it.
pub(super) async fn serve<S>(
    io: S,
    remote: IpAddr,
    place: &Place,
    hub: &Arc<Hub>,
) -> Option<(S, Member)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = hub.config().limits();
    let upgrade: Mutex<Option<Upgrade>> = Mutex::new(None);
    let requests = AtomicUsize::new(0);
    let service = service_fn(|request| {
        let (mut response, begun) = respond(request, remote, place, hub);
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        if begun.is_some() {
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        } else if number >= limits.http_requests {
            set_last(&mut response);
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // One that comes when the server stops already may still ask for its health.
    let is_late = hub.is_stopping();
    let io = Patient::new(io, limits.handshake_timeout);
    let connection = http1::Builder::new()
        .keep_alive(!is_late)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let over = async {
        tokio::select! {
            () = hub.stopping(), if !is_late => {}
            () = tokio::time::sleep(limits.http_age) => {}
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
        tracing::debug!(%error, "an HTTP connection failed");
    }
    let (upgraded, member) = upgrade
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)?;
    let parts = upgraded.await.ok()?.downcast::<TokioIo<Patient<S>>>();
    let parts = parts.ok()?;
    // RFC 6455, section 4.1: a client waits for the answer before it sends anything.
    parts
        .read_buf
        .is_empty()
        .then(|| (parts.io.into_inner().into_inner(), member))
}

/// Answers whoever speaks plain HTTP where TLS is spoken, in a way that a person understands.
pub(super) async fn refuse_plain<S>(io: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let service = service_fn(|_: Request<Incoming>| {
        let text = "This port speaks TLS: use https:// and wss://, and /wss in addresses.\n";
        std::future::ready(Ok::<_, Infallible>(refusal(StatusCode::BAD_REQUEST, text)))
    });
    // What is no HTTP either gets hyper's own answer.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

fn respond(
    request: Request<Incoming>,
    remote: IpAddr,
    place: &Place,
    hub: &Arc<Hub>,
) -> (Response<String>, Option<Upgrade>) {
    let proxies = hub.config().trusted_proxies();
    let mut client = remote.to_canonical();
    if proxies.contain(remote) {
        client = proxies.client(remote, request.headers());
        if !place.name(client) {
            return (no_place(), None);
        }
    }
    let answer: fn(&Request<Incoming>, &Hub) -> Response<String> = match request.uri().path() {
        "/socket.io/" | "/socket.io" => return upgrade(request, client, place, hub),
        "/" => front_page,
        "/health" => health,
        "/metrics" if hub.config().metrics() => metrics,
        _ => return (refusal(StatusCode::NOT_FOUND, "Not found\n"), None),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return (response, None);
    }
    (answer(&request, hub), None)
}

fn front_page(request: &Request<Incoming>, hub: &Hub) -> Response<String> {
    let header = |name: &HeaderName| request.headers().get(name)?.to_str().ok();
    let forwarded = HeaderName::from_static("x-forwarded-proto");
    // Only the browser that asks sees what it says about itself, or its proxy about it.
    let secure = hub.tls().is_some() || header(&forwarded) == Some("https");
    let address = header(&HOST).and_then(|host| page::address(host, secure));
    let html = page::html(address.as_deref(), hub.figures().peers);
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", html);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, page::content_security_policy());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn health(_: &Request<Incoming>, hub: &Hub) -> Response<String> {
    let figures = hub.figures();
    let (status, text) = match hub.is_stopping() {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let (peers, links) = (figures.peers, figures.snapshot.links);
    let json = serde_json::json!({ "status": text, "peers": peers, "links": links });
    answer(status, JSON, json.to_string())
}

fn metrics(_: &Request<Incoming>, hub: &Hub) -> Response<String> {
    match metrics::encode(hub) {
        Ok(text) => answer(StatusCode::OK, metrics::CONTENT_TYPE, text),
        // A number is beyond what the format can hold.
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Cannot be encoded\n"),
    }
}

fn upgrade(
    mut request: Request<Incoming>,
    client: IpAddr,
    place: &Place,
    hub: &Arc<Hub>,
) -> (Response<String>, Option<Upgrade>) {
    let (version, accept) = match accept_key(&request) {
        Ok(accepted) => accepted,
        Err(error) => return (error.response(), None),
    };
    let member = match hub.admit(place, client, version) {
        Ok(member) => member,
        Err(error) => {
            tracing::debug!(%client, %error, "a link is refused");
            return (not_admitted(error), None);
        }
    };
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    (response, Some((hyper::upgrade::on(&mut request), member)))
}

fn refusal(status: StatusCode, text: &str) -> Response<String> {
    answer(status, PLAIN, text.to_owned())
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a client is told that has its share of connections already.
fn no_place() -> Response<String> {
    let text = "Too many connections from your address\n";
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, text);
    set_last(&mut response);
    response
}

/// Has the connection end after this answer.
fn set_last(response: &mut Response<String>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

fn not_admitted(error: AdmitError) -> Response<String> {
    let status = match error {
        AdmitError::Links | AdmitError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        AdmitError::LinksPerIp => StatusCode::TOO_MANY_REQUESTS,
    };
    refusal(status, &format!("{error}\n"))
}

/// What engine.io answers to a request that starts no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum EngineError {
    #[error("Transport unknown")]
    Transport = 0,
    #[error("Session ID unknown")]
    Session = 1,
    #[error("Bad handshake method")]
    Method = 2,
    #[error("Bad request")]
    Request = 3,
    /// Of later versions of engine.io; version 3 never looks.
    #[error("Unsupported protocol version")]
    Version = 5,
}

impl EngineError {
    fn response(self) -> Response<String> {
        let json = serde_json::json!({ "code": self as u8, "message": self.to_string() });
        let mut response = answer(StatusCode::BAD_REQUEST, JSON, json.to_string());
        let anybody = HeaderValue::from_static("*");
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
        response
    }
}

/// Checks the request for a link, in engine.io's order, and gives the version that it asks for and
/// the `Sec-WebSocket-Accept` for it.
fn accept_key<B>(request: &Request<B>) -> Result<(engine_io::Version, HeaderValue), EngineError> {
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if parameter("transport") != Some("websocket") {
        return Err(EngineError::Transport);
    }
    if parameter("sid").is_some_and(|sid| !sid.is_empty()) {
        return Err(EngineError::Session);
    }
    if request.method() != Method::GET {
        return Err(EngineError::Method);
    }
    let version = parameter("EIO").and_then(engine_io::Version::of_parameter);
    let version = version.ok_or(EngineError::Version)?;
    let headers = request.headers();
    let is_upgrade = request.version() == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade);
    let key = key.ok_or(EngineError::Request)?;

    let accept = accept_for(key.as_bytes());
    let accept = HeaderValue::try_from(accept).map_err(|_| EngineError::Request)?;
    Ok((version, accept))
}

/// Whether a header's comma-separated list has `token`, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
