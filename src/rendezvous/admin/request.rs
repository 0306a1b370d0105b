//! What a request for the operator's page says about itself.

use std::{fmt, future::poll_fn, net::IpAddr, pin::pin, time::Duration};

use hyper::{
    Uri,
    body::{Body, Buf as _},
    header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, ORIGIN},
};

use crate::{
    percent::percent_encoded,
    rendezvous::{
        origin::Claimant,
        request::{Query, text},
    },
};

/// The names of the cookie that holds a session's id, over TLS and without TLS. The prefix of the first one guarantees
/// that no other host of the domain has set it, and that it was set over TLS: draft-ietf-httpbis-rfc6265bis, section
/// 4.1.3.
const SECURE_COOKIE: &str = "__Host-star_admin";
const PLAIN_COOKIE: &str = "star_admin";
/// The maximum number of cookies with this name that are looked at. Another site of the same domain may have set some.
const MOST_COOKIES: usize = 4;
/// The maximum length of a form, in bytes. A token of 512 characters fits, with each of them escaped as three bytes.
const MOST_BYTES: usize = 8 * 1024;
/// The longest prefix of a peer id that is searched for, in characters, and the longest address that a list continues
/// from, in bytes.
const MOST_SEARCHED: usize = 128;
const MOST_AFTER: usize = 512;
const FORM: &str = "application/x-www-form-urlencoded";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The client that makes a request, and how the request arrives.
#[derive(Debug, Clone, Copy)]
pub(in crate::rendezvous) struct Visitor {
    pub(in crate::rendezvous) client: IpAddr,
    pub(in crate::rendezvous) claimant: Claimant,
    /// Whether nobody on the way can read the request, as far as is known.
    pub(in crate::rendezvous) is_secure: bool,
    /// Whether the request says that a proxy has passed it on, but no trusted proxy has.
    pub(in crate::rendezvous) is_of_untrusted_proxy: bool,
}

impl Visitor {
    /// Returns whether others may read the token on its way. A proxy on this machine may have got the request from
    /// anywhere.
    pub(super) fn is_overheard(&self) -> bool {
        !self.is_secure && (!self.is_local() || self.is_of_untrusted_proxy)
    }

    /// Returns whether the request comes from this machine.
    pub(super) fn is_local(&self) -> bool {
        self.client.to_canonical().is_loopback()
    }

    /// Returns the name of the cookie that holds a session's id.
    pub(super) fn cookie_name(&self) -> &'static str {
        match self.is_secure {
            true => SECURE_COOKIE,
            false => PLAIN_COOKIE,
        }
    }
}

/// Returns the session ids that a request shows.
pub(super) fn session_ids<'a>(
    headers: &'a HeaderMap,
    visitor: &Visitor,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let cookie = visitor.cookie_name();
    let values = headers.get_all(COOKIE).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(move |(name, id)| (name == cookie).then_some(id))
        .take(MOST_COOKIES)
}

/// Returns whether a request that changes something was made by a page of this server.
pub(super) fn is_own(headers: &HeaderMap, is_secure: bool) -> bool {
    // Browsers send this header only where they trust that the server is genuine. Then it decides.
    if headers.contains_key(FETCH_SITE) {
        return text(headers, &FETCH_SITE) == Some("same-origin");
    }
    let origin = text(headers, &ORIGIN).and_then(|origin| origin.split_once("://"));
    let host = text(headers, &HOST);
    origin.is_some_and(|(scheme, origin)| {
        let is_scheme = scheme == "https" || (scheme == "http" && !is_secure);
        is_scheme && host.is_some_and(|host| host.eq_ignore_ascii_case(origin))
    })
}

/// Returns whether a request was made by a page of any site. Scripts outside of browsers send neither header.
pub(super) fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(FETCH_SITE) || headers.contains_key(ORIGIN)
}

/// Returns whether a request that changes nothing may be answered. A page of another site gets no answer. But a browser
/// may open the front page by a link on another site, because it shows the page only to the person in front of it.
pub(super) fn may_see(headers: &HeaderMap, is_front: bool) -> bool {
    let is_opened = is_front && text(headers, &FETCH_MODE) == Some("navigate");
    match headers.contains_key(FETCH_SITE) {
        false => true,
        true => is_opened || matches!(text(headers, &FETCH_SITE), Some("same-origin" | "none")),
    }
}

/// The text of a form. It may contain the token.
pub(super) struct Form(String);

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(…)")
    }
}

/// Why a form could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("A form must be application/x-www-form-urlencoded\n")]
    Type,
    #[error("A form may have 8 KiB at most\n")]
    TooLong,
    #[error("The form did not arrive in time\n")]
    TooSlow,
    #[error("The form cannot be read\n")]
    Broken,
}

impl Form {
    /// Reads a form, within this time.
    pub(super) async fn read<B: Body>(
        headers: &HeaderMap,
        body: B,
        patience: Duration,
    ) -> Result<Self, FormError> {
        let kind = text(headers, &CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(FORM) {
            return Err(FormError::Type);
        }
        let all = tokio::time::timeout(patience, read_all(body)).await;
        let all = all.map_err(|_| FormError::TooSlow)??;
        String::from_utf8(all)
            .map(Self)
            .map_err(|_| FormError::Broken)
    }

    /// Returns the value of a field; empty if the form has no such field.
    pub(super) fn get(&self, name: &str) -> String {
        field(&self.0, name)
    }
}

async fn read_all<B: Body>(body: B) -> Result<Vec<u8>, FormError> {
    if body.size_hint().lower() > MOST_BYTES as u64 {
        return Err(FormError::TooLong);
    }
    let mut body = pin!(body);
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| FormError::Broken)?;
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        if all.len() + data.remaining() > MOST_BYTES {
            return Err(FormError::TooLong);
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            all.extend_from_slice(chunk);
            data.advance(chunk.len());
        }
    }
    Ok(all)
}

fn field(query: &str, name: &str) -> String {
    let value = Query(query).get(name).unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

/// Which peers a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// The prefix of the peer ids.
    pub(super) id: String,
    /// The list begins after this address in this tenant, and goes on with the tenants that follow.
    pub(super) after: String,
    pub(super) tenant: String,
}

impl Search {
    pub(super) fn of_uri(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self::new(|name| field(query, name))
    }

    /// Returns the search of the page that a form was on.
    pub(super) fn of_form(form: &Form) -> Self {
        Self::new(|name| form.get(name))
    }

    fn new(field: impl Fn(&str) -> String) -> Self {
        let short = |name| field(name).trim().chars().take(MOST_SEARCHED).collect();
        let after = field("after");
        let after = if after.len() > MOST_AFTER {
            String::new()
        } else {
            after
        };
        Self {
            id: short("id"),
            tenant: short("tenant"),
            after,
        }
    }

    /// Returns the path of the page that shows these peers.
    pub(super) fn path(&self) -> String {
        let fields = [
            ("id", &self.id),
            ("tenant", &self.tenant),
            ("after", &self.after),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<_> = fields
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        match query.is_empty() {
            true => "/admin".to_owned(),
            false => format!("/admin?{}", query.join("&")),
        }
    }
}

/// Escapes a value for a query, where slashes have no meaning and stay as they are.
fn escaped(value: &str) -> String {
    let parts: Vec<_> = value.split('/').map(percent_encoded).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::rendezvous::origin::Weights;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        });
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn only_a_page_of_the_server_itself_may_change_something() {
        for (pairs, is_secure, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], true, true),
            // A page that sends no referrer has this origin.
            (
                &[("sec-fetch-site", "same-origin"), ("origin", "null")],
                true,
                true,
            ),
            (
                &[("sec-fetch-site", "same-site"), ("origin", "http://a:1")],
                false,
                false,
            ),
            (&[("sec-fetch-site", "cross-site")], false, false),
            (&[("sec-fetch-site", "none")], false, false),
            (&[("origin", "http://a:1")], false, true),
            (&[("origin", "https://a:1")], false, true),
            (&[("origin", "https://A:1")], true, true),
            (&[("origin", "http://a:1")], true, false),
            (&[("origin", "http://a:2")], false, false),
            (&[("origin", "http://a")], false, false),
            (&[("origin", "http://a:1.evil.example")], false, false),
            (&[("origin", "null")], false, false),
            (&[("origin", "a:1")], false, false),
            (
                &[("origin", "http://a:1"), ("origin", "http://a:1")],
                false,
                false,
            ),
            (&[], false, false),
        ] {
            let mut headers = headers(pairs);
            headers.insert(HOST, HeaderValue::from_static("a:1"));
            assert_eq!(is_own(&headers, is_secure), expected, "{headers:?}");
        }
        assert!(!is_own(&headers(&[("origin", "http://a:1")]), false));
    }

    #[test]
    fn a_page_of_another_site_sees_nothing_and_may_have_it_opened() {
        for (site, mode, of_front, of_rest) in [
            ("same-origin", "cors", true, true),
            ("none", "navigate", true, true),
            ("cross-site", "navigate", true, false),
            ("same-site", "navigate", true, false),
            ("same-site", "cors", false, false),
            ("cross-site", "no-cors", false, false),
        ] {
            let headers = headers(&[("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
            let seen = (may_see(&headers, true), may_see(&headers, false));
            assert_eq!(seen, (of_front, of_rest), "{site} {mode}");
        }
        assert!(may_see(&headers(&[]), false));
    }

    #[test]
    fn a_few_cookies_are_looked_at() {
        let many = "star_admin=x; ".repeat(1000);
        let headers = headers(&[
            (
                "cookie",
                "a=b; star_admin=1;star_admin=2; xstar_admin=3; __Host-star_admin=3; star_admin",
            ),
            ("cookie", &many),
        ]);
        let mut visitor = visitor("192.0.2.1");
        let ids: Vec<_> = session_ids(&headers, &visitor).collect();
        assert_eq!(ids, ["1", "2", "x", "x"]);
        visitor.is_secure = true;
        let ids: Vec<_> = session_ids(&headers, &visitor).collect();
        assert_eq!(ids, ["3"]);
    }

    fn visitor(client: &str) -> Visitor {
        let client: IpAddr = client.parse().expect("an address");
        Visitor {
            client,
            claimant: Weights::default().claimant(client),
            is_secure: false,
            is_of_untrusted_proxy: false,
        }
    }

    #[test]
    fn only_who_is_known_to_be_on_this_machine_is_not_overheard_without_tls() {
        for (client, is_secure, is_of_untrusted_proxy, expected) in [
            ("127.0.0.1", false, false, false),
            ("::ffff:127.0.0.1", false, false, false),
            ("::1", false, false, false),
            ("::1", false, true, true),
            ("127.0.0.1", false, true, true),
            ("192.0.2.1", false, false, true),
            ("192.0.2.1", true, false, false),
        ] {
            let visitor = Visitor {
                is_secure,
                is_of_untrusted_proxy,
                ..visitor(client)
            };
            assert_eq!(visitor.is_overheard(), expected, "{visitor:?}");
        }
    }

    #[test]
    fn a_search_leads_back_to_what_was_shown() {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        assert_eq!(Search::default().path(), "/admin");
        let search = Search {
            id: "12D3".to_owned(),
            after: "/dns4/é&\"x".to_owned(),
            tenant: "blue".to_owned(),
        };
        assert_eq!(
            search.path(),
            "/admin?id=12D3&tenant=blue&after=/dns4/%C3%A9%26%22x"
        );
        assert_eq!(Search::of_uri(&uri(&search.path())), search);
        let long = format!("/admin?id={0}&after={0}", "a".repeat(10_000));
        let search = Search::of_uri(&uri(&long));
        assert_eq!((search.id.len(), search.after.len()), (128, 0));
    }
}
