//! The request that becomes a link, according to engine.io and RFC 6455 (section 4.2). No IO.

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Body,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, HeaderMap, HeaderName, HeaderValue,
        SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};

use super::answer::{JSON, answer};
use crate::{
    protocol::engine_io,
    rendezvous::request::{Query, only},
    websocket::upgrade::accept_for,
};

/// The version of the WebSocket protocol that the server speaks.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");
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
    use super::*;

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
}
