//! What the requests of clients say: the host, the token, the query. No IO.

use std::{borrow::Cow, sync::Arc};

use hyper::{
    Request,
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderName},
};

use super::{access::Visit, tenant};
use crate::token::Token;

/// The longest `Host` that is accepted, in bytes: a name, a dot and a port.
const MAX_HOST: usize = 260;
/// The scheme before a token in `Authorization`, in lower or upper case: RFC 6750, section 2.1.
const BEARER: &str = "bearer";

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
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    std::str::from_utf8(only(headers, name)?).ok()
}

/// Returns the token in the headers of a request.
pub(super) fn token_shown(headers: &HeaderMap) -> Option<Token> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER);
    is_bearer.then(|| token.trim_matches(' ').parse().ok())?
}

/// Returns the token in a query. It is for browsers, whose WebSockets cannot send headers.
fn token_in(query: &str) -> Option<Token> {
    let token = Query(query).get("token")?;
    std::str::from_utf8(&token).ok()?.parse().ok()
}

/// A query string, read in the same way as by JavaScript's `querystring`. If a name is there twice, the first value
/// counts.
pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Cow<'a, [u8]>> {
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
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    values.next().is_none().then_some(value.as_bytes())
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
