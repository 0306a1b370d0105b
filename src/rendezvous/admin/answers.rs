//! HTTP answers, with headers that protect them from the pages of other sites.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures::stream::BoxStream;
use hyper::{
    Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
        HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use maud::Markup;
use sha2::{Digest as _, Sha256};

use super::page::{SCRIPT, STYLE};
use crate::rendezvous::body::Body;

/// The headers of every answer. A page of another site cannot read the answer, show it in a frame, or keep a reference
/// to its window. The browser names the page's own origin to this server only, which checks it.
const HEADERS: [(HeaderName, &str); 7] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Returns the content security policy. It allows the page's own style and script, by their hashes, `data:` images, and
/// requests and forms that go to this server; nothing else.
fn policy() -> HeaderValue {
    static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
        let hash = |text| BASE64_STANDARD.encode(Sha256::digest(text));
        let (style, script) = (hash(STYLE), hash(SCRIPT));
        HeaderValue::try_from(format!(
            "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; \
             connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ))
        .ok()
    });
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    POLICY.clone().unwrap_or(nothing)
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_SECURITY_POLICY, policy());
    response
}

pub(super) fn page(status: StatusCode, html: Markup) -> Response<Body> {
    let html = Body::Text(html.into_string());
    answer(status, "text/html; charset=utf-8", html)
}

pub(super) fn text(status: StatusCode, text: &str) -> Response<Body> {
    let text = Body::Text(text.to_owned());
    answer(status, "text/plain; charset=utf-8", text)
}

/// Redirects to another page.
pub(super) fn see_other(path: &str) -> Response<Body> {
    let mut response = text(StatusCode::SEE_OTHER, "");
    if let Ok(path) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, path);
    }
    response
}

pub(super) fn events(events: BoxStream<'static, Bytes>) -> Response<Body> {
    let mut response = answer(StatusCode::OK, "text/event-stream", Body::Events(events));
    // Keeps nginx from buffering the events.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    let headers = response.headers_mut();
    headers.insert(unbuffered, HeaderValue::from_static("no"));
    response
}

/// Answers that only these methods are allowed.
pub(super) fn only(methods: &'static str) -> Response<Body> {
    let mut response = last(text(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("Only {methods}\n"),
    ));
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// Asks the client to show a token.
pub(super) fn with_challenge(mut response: Response<Body>) -> Response<Body> {
    let bearer = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    response
}

/// Asks the client to come again in a second.
pub(super) fn later(mut response: Response<Body>) -> Response<Body> {
    let second = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, second);
    response
}

/// Closes the connection after this answer. Anything else that was sent on it is not read.
pub(super) fn last(mut response: Response<Body>) -> Response<Body> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}
