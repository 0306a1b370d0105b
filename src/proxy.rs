//! The proxy through which a rendezvous is reached, if it is through one.

use std::{ffi::OsString, fmt, io, sync::Arc};

use http::{HeaderValue, Uri, uri::Scheme};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::{address::Rendezvous, error::LinkError};

/// What a user name and a password for SOCKS may have together, in bytes: hyper-util has room for so much, and for a short name.
const MAX_SOCKS_TOGETHER: usize = 200;
/// The variables that are asked, and what they are for.
const SECURE: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const PLAIN: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// There if a server runs this program by CGI. It sets `HTTP_PROXY` to what a client says then.
const CGI: &str = "REQUEST_METHOD";
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Why a proxy cannot be used as it is given.
///
/// What was given is not shown: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyConfigError {
    /// It is no URL of a proxy.
    #[error(
        "{from} is no URL of a proxy, such as http://proxy.example:3128, https://user:password@proxy.example or \
         socks5://proxy.example:1080"
    )]
    Url {
        /// What names it: `the proxy`, or an environment variable.
        from: &'static str,
    },
    /// The proxy speaks SOCKS 4, which has neither names nor passwords.
    #[error(
        "{from} is a proxy for SOCKS 4; only HTTP (http://, https://) and SOCKS 5 (socks5://) are spoken"
    )]
    Socks4 {
        /// What names it.
        from: &'static str,
    },
    /// SOCKS has no room for a user name or password that is empty or so long.
    #[error(
        "{from} has a user name or a password that is empty, or they have more than {MAX_SOCKS_TOGETHER} bytes together"
    )]
    Credentials {
        /// What names it.
        from: &'static str,
    },
    /// It is no Unicode.
    #[error("{from} is no Unicode text")]
    NotUnicode {
        /// The environment variable.
        from: &'static str,
    },
}

/// The proxies of a node.
#[derive(Clone, Default)]
pub(crate) struct Proxies(Option<Arc<Matcher>>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It shows no credentials.
        self.0.fmt(f)
    }
}

/// A proxy, and how to speak with it.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) uri: Uri,
    pub(crate) speaks: Speaks,
}

/// What a proxy speaks, and what is shown to it.
#[derive(Clone)]
pub(crate) enum Speaks {
    Http(Option<HeaderValue>),
    Socks5(Option<(String, String)>),
}

impl Proxies {
    /// One proxy for all.
    ///
    /// # Errors
    /// If the URL is none of a proxy that can be used.
    pub(crate) fn one(url: &str) -> Result<Self, ProxyConfigError> {
        check("the proxy", url)?;
        Ok(Self(Some(Arc::new(Matcher::builder().all(url).build()))))
    }

    /// Those that environment variables name.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub(crate) fn from_variables(
        get: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, ProxyConfigError> {
        let first = |names: &[&'static str]| {
            let mut set = names.iter().filter_map(|name| Some((*name, get(name)?)));
            let Some((from, value)) = set.find(|(_, value)| !value.is_empty()) else {
                return Ok(None);
            };
            let text = value.into_string();
            let text = text.map_err(|_| ProxyConfigError::NotUnicode { from })?;
            Ok(Some((from, text)))
        };
        let proxy = |names: &[&'static str]| {
            let Some((from, url)) = first(names)? else {
                return Ok(String::new());
            };
            check(from, &url)?;
            Ok(url)
        };
        let plain = &PLAIN[usize::from(get(CGI).is_some())..];
        let (secure, plain, all) = (proxy(&SECURE)?, proxy(plain)?, proxy(&ALL)?);
        if [&secure, &plain, &all].iter().all(|url| url.is_empty()) {
            return Ok(Self(None));
        }
        let none = first(&NONE)?.map_or_else(String::new, |(_, list)| plain_list(&list));
        let built = Matcher::builder().https(secure).http(plain).all(all);
        Ok(Self(Some(Arc::new(built.no(none).build()))))
    }

    /// The proxy for a rendezvous, and what it is to be asked for. `None` if it is reached without one.
    ///
    /// # Errors
    /// If no proxy can be asked for a host of that name: to go around the proxy is no way then.
    pub(crate) fn of(&self, rendezvous: &Rendezvous) -> Result<Option<(Proxy, Uri)>, LinkError> {
        let Some(matcher) = &self.0 else {
            return Ok(None);
        };
        let scheme = match rendezvous.is_secure() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        };
        let host = rendezvous.host().to_string();
        // A name that ends with a dot is the same for a proxy, but not for a list.
        let name = host.trim_end_matches('.');
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(format!("{name}:{}", rendezvous.port()))
            .path_and_query("/");
        // What comes before an @ is no part of the host to a URL.
        let uri = uri.build().ok().filter(|uri| uri.host() == Some(name));
        let uri = uri.ok_or_else(|| LinkError::Resolve {
            host: host.clone(),
            error: Arc::new(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a name that a proxy can be asked for",
            )),
        })?;
        let intercept = matcher.intercept(&uri);
        let proxy = intercept.and_then(|intercept| Proxy::of(&intercept));
        Ok(proxy.map(|proxy| (proxy, uri)))
    }
}

/// What `NO_PROXY` lists, as the matcher knows it: with commas only, and without ports, brackets, `*.` and final dots.
fn plain_list(list: &str) -> String {
    let entries = list
        .split([',', ' ', '\t'])
        .filter(|entry| !entry.is_empty());
    let plain = entries.map(|entry| {
        let host = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let is_port = port.bytes().all(|digit| digit.is_ascii_digit());
                if is_port { host } else { entry }
            }
            _ => entry,
        };
        let host = without_brackets(host);
        let host = host.strip_prefix("*.").unwrap_or(host);
        host.trim_end_matches('.')
    });
    plain.collect::<Vec<_>>().join(",")
}

/// A host without the brackets that an IPv6 address has in a URL.
fn without_brackets(host: &str) -> &str {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

/// Whether a URL has anything else than a user, a host and a port that a proxy could be meant by, or has them in a way that can be
/// read in two.
fn is_ambiguous(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    authority.contains(['/', '?', '#', '\\']) || authority.matches('@').count() > 1
}

/// Whether the URL of a proxy can be used.
fn check(from: &'static str, url: &str) -> Result<(), ProxyConfigError> {
    if is_ambiguous(url) {
        return Err(ProxyConfigError::Url { from });
    }
    let matcher = Matcher::builder().all(url).build();
    let intercept = matcher.intercept(&Uri::from_static("https://star.example/"));
    let intercept = intercept.ok_or(ProxyConfigError::Url { from })?;
    let uri = intercept.uri();
    let host = uri.host().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // A port that is none would be left out.
    if host.is_empty() || (authority != host && uri.port_u16().is_none()) {
        return Err(ProxyConfigError::Url { from });
    }
    let proxy = Proxy::of(&intercept).ok_or(ProxyConfigError::Socks4 { from })?;
    match &proxy.speaks {
        Speaks::Socks5(Some((user, password)))
            if user.is_empty()
                || password.is_empty()
                || user.len() + password.len() > MAX_SOCKS_TOGETHER =>
        {
            Err(ProxyConfigError::Credentials { from })
        }
        _ => Ok(()),
    }
}

impl Proxy {
    /// `None` if nobody here speaks what it speaks.
    fn of(intercept: &Intercept) -> Option<Self> {
        let uri = intercept.uri().clone();
        let speaks = match uri.scheme_str() {
            Some("http" | "https") => Speaks::Http(intercept.basic_auth().cloned()),
            Some("socks5" | "socks5h") => {
                let credentials = intercept.raw_auth();
                let owned =
                    credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
                Speaks::Socks5(owned)
            }
            _ => return None,
        };
        Some(Self { uri, speaks })
    }

    /// Its host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        without_brackets(self.uri.host().unwrap_or_default())
    }

    pub(crate) fn port(&self) -> u16 {
        let usual = match (&self.speaks, self.is_secure()) {
            (Speaks::Http(_), false) => 80,
            (Speaks::Http(_), true) => 443,
            (Speaks::Socks5(_), _) => 1080,
        };
        self.uri.port_u16().unwrap_or(usual)
    }

    /// Whether it is spoken with over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether a text has what is shown to it.
    pub(crate) fn is_given_away_by(&self, text: &str) -> bool {
        let Speaks::Http(Some(credentials)) = &self.speaks else {
            return false;
        };
        let shown = credentials
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '));
        shown.is_some_and(|(_, shown)| text.contains(shown))
    }

    /// Whether a user name is shown to it.
    pub(crate) fn has_credentials(&self) -> bool {
        match &self.speaks {
            Speaks::Http(credentials) => credentials.is_some(),
            Speaks::Socks5(credentials) => credentials.is_some(),
        }
    }
}

/// Its URL, without credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}", self.uri.host().unwrap_or_default())?;
        write!(f, ":{}", self.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StarAddr;

    fn star(address: &str) -> Rendezvous {
        let address = StarAddr::from_wire(&format!("/{address}/p2p-websocket-star"));
        address.expect("an address").rendezvous().clone()
    }

    fn from(variables: &[(&str, &str)]) -> Result<Proxies, ProxyConfigError> {
        Proxies::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        })
    }

    fn shown(proxies: &Proxies, address: &str) -> Option<String> {
        let proxy = proxies.of(&star(address)).expect("a name");
        proxy.map(|(proxy, _)| proxy.to_string())
    }

    #[test]
    fn a_proxy_has_the_usual_port_of_what_it_speaks() {
        for (url, expected) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy.example", "http://proxy.example:80"),
            ("https://proxy.example/", "https://proxy.example:443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks5h://[2001:db8::1]:9", "socks5h://[2001:db8::1]:9"),
            ("http://a:b@proxy.example", "http://proxy.example:80"),
        ] {
            let proxies = Proxies::one(url).expect(url);
            for address in ["dns4/star.example/tcp/443/wss", "ip4/127.0.0.1/tcp/1/ws"] {
                assert_eq!(shown(&proxies, address).as_deref(), Some(expected), "{url}");
            }
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_its_password_is_not_shown() {
        let long = "s".repeat(256);
        let from = "the proxy";
        for (url, expected) in [
            (String::new(), ProxyConfigError::Url { from }),
            ("http://".to_owned(), ProxyConfigError::Url { from }),
            (
                "ftp://u:secret@proxy.example".to_owned(),
                ProxyConfigError::Url { from },
            ),
            (
                "http://u:sec ret@proxy.example".to_owned(),
                ProxyConfigError::Url { from },
            ),
            (
                "http://proxy.example:99999".to_owned(),
                ProxyConfigError::Url { from },
            ),
            (
                "socks4://proxy.example".to_owned(),
                ProxyConfigError::Socks4 { from },
            ),
            (
                "socks4a://proxy.example".to_owned(),
                ProxyConfigError::Socks4 { from },
            ),
            (
                format!("socks5://u:{long}@proxy.example"),
                ProxyConfigError::Credentials { from },
            ),
            (
                format!("socks5://{long}:p@proxy.example"),
                ProxyConfigError::Credentials { from },
            ),
            (
                "socks5://:secret@proxy.example".to_owned(),
                ProxyConfigError::Credentials { from },
            ),
            (
                "socks5://user@proxy.example".to_owned(),
                ProxyConfigError::Credentials { from },
            ),
        ] {
            let error = Proxies::one(&url).expect_err(&url);
            assert_eq!(error, expected, "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let proxies = Proxies::one("http://user:secret@proxy.example").expect("a proxy");
        assert!(!format!("{proxies:?}").contains("secret"));
    }

    #[test]
    fn a_url_that_can_be_read_in_two_ways_is_refused() {
        for url in [
            "http://user:p@ss@proxy.example:3128",
            "http://CORP/alice:secret@proxy.example:3128",
            "http://user:12/34@proxy.example:3128",
            "http://proxy.example:3128/path",
            "http://proxy.example?x",
            "http://proxy.example#x",
            "http://proxy.example:",
        ] {
            let error = Proxies::one(url).expect_err(url);
            assert_eq!(error, ProxyConfigError::Url { from: "the proxy" }, "{url}");
        }
    }

    #[test]
    fn variables_name_a_proxy_for_each_scheme_and_who_needs_none() {
        let proxies = from(&[
            ("HTTPS_PROXY", "http://secure.example:1"),
            ("https_proxy", "http://not-this.example:1"),
            ("ALL_PROXY", ""),
            ("all_proxy", "socks5://all.example:2"),
            (
                "NO_PROXY",
                "star.test, .inner.test ,10.0.0.0/8,2001:db8::/32 192.0.2.7,port.test:443,*.under.test,dot.test.,[2001:dc8::1]",
            ),
        ]);
        let proxies = proxies.expect("proxies");
        let (secure, all) = (
            Some("http://secure.example:1"),
            Some("socks5://all.example:2"),
        );
        for (address, expected) in [
            ("dns4/star.example/tcp/443/wss", secure),
            ("dns4/star.example/tcp/80/ws", all),
            ("dns4/notstar.test/tcp/443/wss", secure),
            ("dns4/star.test/tcp/443/wss", None),
            ("dns4/STAR.test/tcp/443/wss", None),
            ("dns4/star.test./tcp/443/wss", None),
            ("dns/a.star.test/tcp/443/wss", None),
            ("dns6/a.inner.test/tcp/80/ws", None),
            ("dns4/port.test/tcp/443/wss", None),
            ("dns4/a.under.test/tcp/443/wss", None),
            ("dns4/dot.test/tcp/443/wss", None),
            ("ip6/2001:dc8::1/tcp/443/wss", None),
            ("ip4/10.1.2.3/tcp/443/wss", None),
            ("ip4/11.1.2.3/tcp/443/wss", secure),
            ("ip4/192.0.2.7/tcp/80/ws", None),
            ("ip6/2001:db8::1/tcp/80/ws", None),
            ("ip6/2001:db9::1/tcp/80/ws", all),
        ] {
            assert_eq!(shown(&proxies, address).as_deref(), expected, "{address}");
        }
        let everybody = from(&[("ALL_PROXY", "http://proxy.example"), ("no_proxy", "*")]);
        let address = "dns4/star.example/tcp/443/wss";
        assert_eq!(shown(&everybody.expect("proxies"), address), None);
        assert_eq!(shown(&from(&[]).expect("none"), address), None);
        // Nothing is asked of names then.
        let unicode = "dns4/bücher.example/tcp/443/wss";
        assert_eq!(
            shown(&from(&[("NO_PROXY", "a")]).expect("none"), unicode),
            None
        );
        let plain = "dns4/star.example/tcp/80/ws";
        let capitals = [("HTTP_PROXY", "http://proxy.example:1")];
        let by_cgi = [capitals[0], ("REQUEST_METHOD", "GET")];
        let expected = Some("http://proxy.example:1");
        assert_eq!(
            shown(&from(&capitals).expect("a proxy"), plain).as_deref(),
            expected
        );
        assert_eq!(shown(&from(&by_cgi).expect("none"), plain), None);
    }

    #[test]
    fn a_name_that_no_proxy_can_be_asked_for_is_an_error_and_no_way_around_it() {
        let proxies = Proxies::one("http://proxy.example").expect("a proxy");
        for name in ["a b.example", "a@b.example", "ä.example", "a%2fb"] {
            let address = format!("/dns4/{}/tcp/443/wss/p2p-websocket-star", name);
            // Not all of them are addresses.
            let Ok(address) = StarAddr::from_wire(&address) else {
                continue;
            };
            let rendezvous = address.rendezvous();
            let shown = rendezvous.host().to_string();
            match proxies.of(rendezvous) {
                Ok(Some((_, uri))) => assert_eq!(uri.host(), Some(&*shown)),
                Ok(None) => panic!("{name} goes around the proxy"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_an_error_and_no_way_around_the_proxy() {
        let error = from(&[("https_proxy", "socks6://proxy.example")]).expect_err("no proxy");
        assert_eq!(
            error,
            ProxyConfigError::Url {
                from: "https_proxy"
            }
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt as _;
        let error = Proxies::from_variables(|name| {
            (name == "ALL_PROXY").then(|| OsString::from_vec(vec![0xff]))
        });
        let error = error.expect_err("no text");
        assert_eq!(error, ProxyConfigError::NotUnicode { from: "ALL_PROXY" });
    }
}
