//! The request that becomes a link, according to engine.io and RFC 6455 (section 4.2). No IO.

use std::{borrow::Cow, sync::Arc};

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Body,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName,
        HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};

use super::{JSON, answer};
use crate::{
    protocol::engine_io,
    rendezvous::{access::Visit, tenant},
    token::Token,
    websocket::upgrade::accept_for,
};

/// The version of the WebSocket protocol that the server speaks.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");
/// The longest `Host` that is accepted, in bytes: a name, a dot and a port.
const MAX_HOST: usize = 260;
/// The scheme before a token in `Authorization`, in lower or upper case: RFC 6750, section 2.1.
const BEARER: &str = "bearer";
/// The length of the base64 form of 16 bytes, without its padding.
const KEY_DIGITS: usize = 22;

/// A valid request for a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) version: engine_io::Version,
    /// Whether the client takes binary messages only as text.
    pub(super) base64: bool,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl Handshake {
    /// Checks a request, in engine.io's order.
    pub(super) fn of<B: Body>(request: &Request<B>) -> Result<Self, HandshakeError> {
        let query = Query(request.uri().query().unwrap_or_default());
        if query.get("transport").as_deref() != Some(b"websocket") {
            return Err(HandshakeError::Transport);
        }
        if query.get("sid").is_some_and(|sid| !sid.is_empty()) {
            return Err(HandshakeError::Session);
        }
        if request.method() != Method::GET {
            return Err(HandshakeError::Method);
        }
        let version = match query.get("EIO").as_deref() {
            // Clients of the first versions do not say their version.
            None | Some(b"") => Some(engine_io::Version::V3),
            Some(eio) => std::str::from_utf8(eio)
                .ok()
                .and_then(engine_io::Version::of_parameter),
        };
        let version = version.ok_or(HandshakeError::Version)?;
        let headers = request.headers();
        let is_upgrade = request.version() == Version::HTTP_11
            && has_token(headers, &CONNECTION, "upgrade")
            && has_token(headers, &UPGRADE, "websocket");
        if !is_upgrade {
            return Err(HandshakeError::Request);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION) != Some(WEBSOCKET_VERSION.as_bytes()) {
            return Err(HandshakeError::WebSocketVersion);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
        let accept = key.and_then(|key| HeaderValue::try_from(accept_for(key)).ok());
        let accept = accept.ok_or(HandshakeError::Request)?;
        // It would not be clear whether a body is part of the request or the first frame.
        if !request.body().is_end_stream() {
            return Err(HandshakeError::Body);
        }
        Ok(Self {
            version,
            base64: query.get("b64").is_some_and(|b64| !b64.is_empty()),
            accept,
            protocol: first_protocol(headers),
        })
    }

    /// Returns the answer that begins the link.
    pub(super) fn response(self) -> Response<String> {
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Returns the host that a request asks for, as it is written there. A host in the request line has precedence: RFC
/// 9112, section 3.2.2.
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => text(request.headers(), &HOST)?,
    };
    (!host.is_empty() && host.len() <= MAX_HOST).then_some(host)
}

/// Returns whether a request asks for an invalid host, or for several. A request that asks for no host is not bad.
pub(super) fn has_bad_host<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let count = headers.get_all(HOST).iter().count();
    match host(request) {
        Some(host) => count > 1 || tenant::asked_for(host).is_none(),
        None => count > 0 && text(headers, &HOST) != Some(""),
    }
}

/// Returns what a request to a tenant says about the client. A value that is invalid, or that is there twice, counts as
/// missing.
pub(super) fn visit<B>(request: &Request<B>, tenant: Option<&Arc<str>>) -> Visit {
    Visit {
        host: host(request).map(str::to_owned),
        tenant: tenant.cloned(),
        token: token_shown(request.headers()).or_else(|| token_in(request.uri().query()?)),
    }
}

/// Returns the text of a header that must be there exactly once.
pub(in crate::rendezvous) fn text<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Option<&'a str> {
    std::str::from_utf8(only(headers, name)?).ok()
}

/// Returns the token in the headers of a request.
pub(in crate::rendezvous) fn token_shown(headers: &HeaderMap) -> Option<Token> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER);
    is_bearer.then(|| token.trim_matches(' ').parse().ok())?
}

/// Returns the token in a query. It is for browsers, whose WebSockets cannot send headers.
fn token_in(query: &str) -> Option<Token> {
    let token = Query(query).get("token")?;
    std::str::from_utf8(&token).ok()?.parse().ok()
}

/// Why a request starts no session. `Display` gives engine.io's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("Transport unknown")]
    Transport,
    #[error("Session ID unknown")]
    Session,
    #[error("Bad handshake method")]
    Method,
    #[error("Bad request")]
    Request,
    /// The request has a body. Nothing more is read from its connection.
    #[error("Bad request")]
    Body,
    /// The request is for another version of the WebSocket protocol.
    #[error("Bad request")]
    WebSocketVersion,
    /// The version of engine.io is not supported. Later versions of engine.io have this error; version 3 does not check.
    #[error("Unsupported protocol version")]
    Version,
}

impl HandshakeError {
    /// Returns engine.io's number of the error.
    fn code(self) -> u8 {
        match self {
            Self::Transport => 0,
            Self::Session => 1,
            Self::Method => 2,
            Self::Request | Self::Body | Self::WebSocketVersion => 3,
            Self::Version => 5,
        }
    }

    pub(super) fn response(self) -> Response<String> {
        let json = serde_json::json!({ "code": self.code(), "message": self.to_string() });
        let mut response = answer(StatusCode::BAD_REQUEST, JSON, json.to_string());
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        match self {
            Self::Body => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::WebSocketVersion => {
                headers.insert(SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION);
            }
            _ => {}
        }
        response
    }
}

/// A query string, read in the same way as by JavaScript's `querystring`. If a name is there twice, the first value
/// counts.
pub(in crate::rendezvous) struct Query<'a>(pub(in crate::rendezvous) &'a str);

impl<'a> Query<'a> {
    pub(in crate::rendezvous) fn get(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut pairs = self.0.split('&').map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(key), value)
        });
        let (_, value) = pairs.find(|(key, _)| **key == *name.as_bytes())?;
        Some(unescape(value))
    }
}

/// Decodes `%xx` and `+`. A percent sign without two digits behind it stands for itself.
fn unescape(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let decoded = match (byte, behind.split_at_checked(2)) {
            (b'+', _) => b' ',
            (b'%', Some((digits, after))) => match hex::decode(digits).as_deref() {
                Ok(&[decoded]) => {
                    rest = after;
                    decoded
                }
                _ => byte,
            },
            _ => byte,
        };
        bytes.push(decoded);
    }
    Cow::Owned(bytes)
}

/// Returns the value of a header that must be there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
}

/// Returns whether a key is the base64 form of 16 bytes. Like npm's server, this ignores the unused bits of the last
/// digit.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.split_at_checked(KEY_DIGITS)
        .is_some_and(|(digits, padding)| digits.iter().all(is_digit) && padding == b"==")
}

/// Returns the elements of a header that is a list separated by commas; the header may be there several times.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|element| element.trim_matches([' ', '\t']))
}

/// Returns whether a list contains `token`, in upper or lower case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token))
}

/// Returns the subprotocol for the answer. engine.io has none of its own, but some clients give up unless the server
/// accepts one that they offer.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offered = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
    let protocol = offered.find(|protocol| is_token(protocol))?;
    HeaderValue::from_str(protocol).ok()
}

/// Returns whether a text is a token: RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_is_read_as_javascript_reads_it() {
        for (query, value) in [
            ("a=b", Some(&b"b"[..])),
            ("x=y&a=b", Some(b"b")),
            ("a=b&a=c", Some(b"b")),
            ("%61=%62", Some(b"b")),
            ("a=%6a%4B", Some(b"jK")),
            ("a=b+c", Some(b"b c")),
            ("a=b%2Bc%26d%3De", Some(b"b+c&d=e")),
            ("a=b=c", Some(b"b=c")),
            ("a=%", Some(b"%")),
            ("a=%6", Some(b"%6")),
            ("a=%zz%+1", Some(b"%zz% 1")),
            ("a=%ff", Some(b"\xff")),
            ("a", Some(b"")),
            ("a=", Some(b"")),
            ("", None),
            ("A=b", None),
            ("b=a", None),
            ("&&=&", None),
        ] {
            assert_eq!(Query(query).get("a").as_deref(), value, "{query}");
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes_of_base64() {
        for key in [
            "dGhlIHNhbXBsZSBub25jZQ==",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAA+/==",
        ] {
            assert!(is_key(key.as_bytes()), "{key}");
        }
        for key in [
            "",
            "abc",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAAAA==A",
            "AAAAAAAAAAAAAAAAAAAA-_==",
            "AAAAAAAAAAAAAAAAAAAA A==",
        ] {
            assert!(!is_key(key.as_bytes()), "{key}");
        }
    }

    fn visited(uri: &str, headers: &[(&str, &str)]) -> Visit {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        visit(&request.body(()).expect("a request"), None)
    }

    fn shown(uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        let token = visited(uri, headers).token;
        token.map(|token| token.reveal().to_owned())
    }

    #[test]
    fn a_token_comes_as_a_header_or_in_the_query() {
        let secret = Some("sec+ret/=".to_owned());
        for value in ["Bearer sec+ret/=", "bearer  sec+ret/= ", "BEARER sec+ret/="] {
            assert_eq!(shown("/", &[("authorization", value)]), secret, "{value}");
        }
        let query = "/socket.io/?EIO=3&token=sec%2Bret%2F%3D";
        assert_eq!(shown(query, &[]), secret);
        let other = [("authorization", "Bearer other")];
        assert_eq!(shown(query, &other), Some("other".to_owned()));
        let long = format!("Bearer {}", "a".repeat(513));
        for value in [
            "Bearer",
            "Bearer ",
            "Basic abc",
            "secret",
            "Bearer a b",
            &long,
        ] {
            assert_eq!(shown("/", &[("authorization", value)]), None, "{value}");
        }
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(shown("/", &twice), None);
        for uri in ["/", "/?token", "/?token=", "/?token=%ff", "/?token=a%20b"] {
            assert_eq!(shown(uri, &[]), None, "{uri}");
        }
    }

    #[test]
    fn the_host_that_was_asked_for_is_as_it_was_written() {
        let host = |value: &str| visited("/", &[("host", value)]).host;
        assert_eq!(
            host("Star.example:443").as_deref(),
            Some("Star.example:443")
        );
        assert_eq!(host(""), None);
        assert_eq!(host(&"a".repeat(MAX_HOST + 1)), None);
        assert_eq!(visited("/", &[]).host, None);
        let both = visited("http://star.example:80/", &[("host", "other.example")]);
        assert_eq!(both.host.as_deref(), Some("star.example:80"));
    }

    proptest! {
        #[test]
        fn any_query_is_read(query in "[ab=&%+0-9]{0,20}") {
            if let Some(value) = Query(&query).get("a") {
                prop_assert!(value.len() <= query.len());
            }
        }
    }
}
