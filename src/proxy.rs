//! The choice of the proxy through which a rendezvous is reached, if any.

use std::{ffi::OsString, fmt, io, sync::Arc};

use http::{HeaderValue, Uri, uri::Scheme};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::{address::Rendezvous, error::LinkError};

/// The maximum length of a SOCKS user name and password together, in bytes: hyper-util has room for these and a short
/// host name.
const MAX_SOCKS_TOGETHER: usize = 200;
/// The environment variables that are read, by purpose.
const SECURE: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const PLAIN: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// This variable is set if a server runs this program by CGI. In that case `HTTP_PROXY` comes from a client's request
/// header.
const CGI: &str = "REQUEST_METHOD";
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Why a proxy cannot be used as given.
///
/// The given text is not shown, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyConfigError {
    /// The text is not the URL of a proxy.
    #[error(
        "{from} is not a valid proxy URL, such as http://proxy.example:3128, https://user:password@proxy.example or \
         socks5://proxy.example:1080"
    )]
    Url {
        /// The source of the text: `the proxy`, or an environment variable.
        from: &'static str,
    },
    /// The proxy is for SOCKS 4, which supports neither names nor passwords.
    #[error(
        "{from} is a proxy for SOCKS 4; only HTTP (http://, https://) and SOCKS 5 (socks5://) are supported"
    )]
    Socks4 {
        /// The source of the text.
        from: &'static str,
    },
    /// The user name or the password is empty, or they are too long for SOCKS.
    #[error(
        "{from} has an empty user name or password, or they have more than {MAX_SOCKS_TOGETHER} bytes together"
    )]
    Credentials {
        /// The source of the text.
        from: &'static str,
    },
    /// The text is not Unicode.
    #[error("{from} is not Unicode text")]
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
        // The matcher's output contains no credentials.
        self.0.fmt(f)
    }
}

/// A proxy, and the protocol to use with it.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) uri: Uri,
    pub(crate) speaks: Speaks,
}

/// The protocol of a proxy, with the credentials to send.
#[derive(Clone)]
pub(crate) enum Speaks {
    Http(Option<HeaderValue>),
    Socks5(Option<(String, String)>),
}

impl Proxies {
    /// Creates a single proxy for all rendezvous.
    ///
    /// # Errors
    /// If the text is not the URL of a supported proxy.
    pub(crate) fn one(url: &str) -> Result<Self, ProxyConfigError> {
        check("the proxy", url)?;
        Ok(Self(Some(Arc::new(Matcher::builder().all(url).build()))))
    }

    /// Creates the proxies that the environment variables name.
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

    /// Returns the proxy for a rendezvous and the URL to request from it. `None` if the rendezvous is reached without a
    /// proxy.
    ///
    /// # Errors
    /// If no proxy can be asked for a host of this name. The rendezvous is then not reached without the proxy either.
    pub(crate) fn of(&self, rendezvous: &Rendezvous) -> Result<Option<(Proxy, Uri)>, LinkError> {
        let Some(matcher) = &self.0 else {
            return Ok(None);
        };
        let scheme = match rendezvous.is_secure() {
            true => Scheme::HTTPS,
            false => Scheme::HTTP,
        };
        let host = rendezvous.host().to_string();
        // For a proxy, a name with a trailing dot is the same name, but not for a `NO_PROXY` list.
        let name = host.trim_end_matches('.');
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(format!("{name}:{}", rendezvous.port()))
            .path_and_query("/");
        // In a URL, the part before an `@` does not belong to the host.
        let uri = uri.build().ok().filter(|uri| uri.host() == Some(name));
        let uri = uri.ok_or_else(|| LinkError::Resolve {
            host: host.clone(),
            error: Arc::new(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a proxy cannot be asked for this name",
            )),
        })?;
        let intercept = matcher.intercept(&uri);
        let proxy = intercept.and_then(|intercept| Proxy::of(&intercept));
        Ok(proxy.map(|proxy| (proxy, uri)))
    }
}

/// Converts a `NO_PROXY` list to the form that the matcher supports: separated by commas, and without ports, brackets,
/// `*.` and trailing dots.
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

/// Returns a host without the brackets that an IPv6 address has in a URL.
fn without_brackets(host: &str) -> &str {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host)
}

/// Returns whether a URL contains more than a user, a host and a port, or can be parsed in two ways.
fn is_ambiguous(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    authority.contains(['/', '?', '#', '\\']) || authority.matches('@').count() > 1
}

/// Checks whether the URL of a proxy can be used.
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
    // The parser would silently drop an invalid port.
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
    /// Returns `None` if the proxy's protocol is not supported.
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

    /// Returns the proxy's host, without the brackets of an IPv6 address.
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

    /// Returns whether the connection to the proxy uses TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Returns whether `text` contains the HTTP credentials that are sent to the proxy.
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

    /// Returns whether credentials are sent to the proxy.
    pub(crate) fn has_credentials(&self) -> bool {
        match &self.speaks {
            Speaks::Http(credentials) => credentials.is_some(),
            Speaks::Socks5(credentials) => credentials.is_some(),
        }
    }
}

/// Writes the proxy's URL, without credentials.
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
        // Without a proxy, host names are not checked.
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
            // Not all of these are valid addresses.
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
