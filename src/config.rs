//! The transport's configuration.

use std::{fmt, time::Duration};

use multiaddr::Multiaddr;

#[cfg(not(target_arch = "wasm32"))]
use crate::certificate::Roots;
#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
use crate::proxy::Proxies;
use crate::{
    StarAddr,
    error::Error,
    time,
    token::{Token, Tokens},
};

/// The maximum number of data bytes in one item that the deployed rendezvous relays. It drops the link of a peer that
/// sends a message of 1,000,000 bytes, including the leading 0x04.
pub const MAX_ITEM: usize = 999_998;

/// The shortest stall timeout, back-off and interval. With none, a task would spin.
const SHORTEST: Duration = Duration::from_millis(10);

/// The configuration of a [`WebSocketStarTransport`](crate::WebSocketStarTransport).
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which means never. A timeout of
/// zero expires at once.
///
/// ```
/// use std::time::Duration;
/// use libp2p_websocket_star::{Config, Limits};
///
/// let config = Config::default()
///     .with_dial_timeout(Duration::from_secs(10))
///     .with_limits(Limits::default().with_connections(100));
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) join_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) hold_up_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) announce_interval: Duration,
    pub(crate) allow_join_with_disabled_challenge: bool,
    pub(crate) allow_local_rendezvous: bool,
    pub(crate) tokens: Tokens,
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) roots: Roots,
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    pub(crate) proxies: Proxies,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
            hold_up_timeout: Duration::from_secs(5),
            backoff: (Duration::from_millis(500), Duration::from_secs(60)),
            announce_interval: Duration::from_secs(10),
            allow_join_with_disabled_challenge: false,
            allow_local_rendezvous: false,
            tokens: Tokens::default(),
            #[cfg(not(target_arch = "wasm32"))]
            roots: Roots::default(),
            #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
            proxies: Proxies::default(),
        }
    }
}

impl Config {
    /// Sets the bounds on memory.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the time that opening a link may take in all: name resolution, TCP, TLS, the WebSocket upgrade and the
    /// first two packets. Default 10 s, in which TCP retries a lost packet three times.
    ///
    /// A host with several addresses is connected to as in RFC 8305: the next address is tried after 250 ms, or as soon
    /// as one fails, up to 16 addresses for one link. Addresses that failed are tried last the next time.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = time::timeout(timeout);
        self
    }

    /// Sets the time that the rendezvous may take for each of the two answers of a join. Default 10 s. The deployed
    /// servers do not answer many of the requests that they reject.
    #[must_use]
    pub fn with_join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = time::timeout(timeout);
        self
    }

    /// Sets the time that a dial may take once the link is open, including a join. Default 20 s: a swarm gives up an
    /// upgrade after 10 s, and a listener behind a busy link needs time.
    #[must_use]
    pub fn with_dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = time::timeout(timeout);
        self
    }

    /// Sets two timeouts, after which a connection is reset: how long it may hold up a link without other connections
    /// by not being read, and how long the other peer may take to accept a stream on which data is to be sent. Default
    /// 60 s, at least 10 ms.
    ///
    /// A reader stalls if it does not make room for the next item, of up to 1,000,000 bytes, in this time. A link can
    /// only be held up through peers that do not support [credits](crate::protocol::credit).
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = time::interval(timeout, SHORTEST);
        self
    }

    /// Sets how long a connection may hold up the other connections of its link by not being read, before it is reset.
    /// Default 5 s, at least 10 ms.
    ///
    /// A link can only be held up through peers that do not support [credits](crate::protocol::credit), such as
    /// JavaScript nodes: they keep sending when the data is not read. Hold-ups add up, so that a permanently slow
    /// reader is reset too. A hold-up is forgotten after ten times its length, and one of less than 100 ms does not
    /// count.
    #[must_use]
    pub fn with_hold_up_timeout(mut self, timeout: Duration) -> Self {
        self.hold_up_timeout = time::interval(timeout, SHORTEST);
        self
    }

    /// Sets the first and the longest wait between two attempts to open a link. The wait doubles in between, and each
    /// wait is shortened at random by up to half. Default 0.5 s to 60 s, at least 10 ms.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, longest: Duration) -> Self {
        let first = time::interval(first, SHORTEST);
        self.backoff = (first, time::interval(longest, first));
        self
    }

    /// Sets the shortest interval at which a rendezvous announces each peer. Default 10 s, as on the npm server. Values
    /// outside 20 ms to 8 h are set to the nearest bound.
    ///
    /// A peer expires when its rendezvous has not announced it for three rounds. The length of a round is measured from
    /// the announcements; it is this interval or longer. Before it is known, a peer expires after the rendezvous has
    /// announced nothing for three times 120 intervals. In any case it expires after a day without an announcement, and
    /// when a dial does not find it.
    #[must_use]
    pub fn with_announce_interval(mut self, interval: Duration) -> Self {
        self.announce_interval = time::interval(interval, SHORTEST);
        self
    }

    /// Sets whether to join a rendezvous that requires no proof of this node's key. Default off, because any peer can
    /// take this node's address there and receive the dials for this node.
    #[must_use]
    pub fn with_allow_join_with_disabled_challenge(mut self, allow: bool) -> Self {
        self.allow_join_with_disabled_challenge = allow;
        self
    }

    /// Sets whether to dial through rendezvous at addresses that are not public and at which this node does not listen.
    /// These are loopback, private, link-local, shared, documentation, multicast and reserved addresses of IPv4 and
    /// IPv6. Default off: addresses to dial come from strangers too, through identify or Kademlia, and an address of a
    /// host inside the local network would make this node send requests there. A name is judged by the addresses that
    /// it resolves to. A browser does not show these, so there only addresses and `localhost` are refused.
    ///
    /// Rendezvous at which a listener was started can be at any address without this setting. Turn it on in a network
    /// of your own, and in tests, for nodes that dial without listening.
    #[must_use]
    pub fn with_allow_local_rendezvous(mut self, allow: bool) -> Self {
        self.allow_local_rendezvous = allow;
        self
    }

    /// Sets a token for this rendezvous, which may admit only clients that have one. A token is up to 512 visible ASCII
    /// characters. May be called for several rendezvous; a later token for the same rendezvous replaces the earlier
    /// one. Default none.
    ///
    /// The token is sent to this host and port only, whatever addresses the node dials: over `wss` to a server whose
    /// certificate proves this name or address, and over `ws` only to a loopback address. Natively it is sent in a
    /// header of the request. In a browser it is part of the URL, because a page cannot set headers for a WebSocket:
    /// the server, and any proxy in front of it, should not log this URL. The token does not appear in `Debug`, errors
    /// or logs.
    ///
    /// # Errors
    /// * [`Error::Address`] if the address is not the address of a rendezvous.
    /// * [`Error::Token`] if the token is not valid, or would be sent to another machine without encryption.
    ///
    /// ```
    /// use libp2p_websocket_star::Config;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let star = "/dns4/star.example/tcp/443/wss/p2p-websocket-star".parse()?;
    /// let config = Config::default().with_token(star, "a-long-secret")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_token(
        mut self,
        rendezvous: Multiaddr,
        token: impl AsRef<str>,
    ) -> Result<Self, Error> {
        let rendezvous = StarAddr::try_from(&rendezvous)?;
        let token: Token = token.as_ref().parse()?;
        self.tokens.insert(rendezvous.rendezvous(), token)?;
        Ok(self)
    }

    /// Trusts additional root certificates for `wss`, beside those of the web: one in DER form, or one or several in
    /// PEM form. Default none. Not available in a browser, which has its own roots.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the data contains no certificate, or one that cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_root_certificate(mut self, der_or_pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        self.roots.add(der_or_pem.as_ref())?;
        Ok(self)
    }

    /// Sets whether the root certificates of the web are trusted for `wss`. Default yes. Without them, only those of
    /// [`with_root_certificate`](Self::with_root_certificate) are trusted, so that no public authority can vouch for
    /// another server. Not available in a browser.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn with_web_roots(mut self, trusted: bool) -> Self {
        self.roots.set_web(trusted);
        self
    }

    /// Connects to all rendezvous through a proxy. Default none.
    ///
    /// * `http://proxy.example:3128`: HTTP CONNECT, for `ws` as well as for `wss`. Many proxies allow CONNECT to port
    ///   443 only.
    /// * `https://proxy.example`: the same over TLS. The certificate is verified like that of a rendezvous.
    /// * `socks5://proxy.example:1080`, or with `socks5h` instead of `socks5`: SOCKS 5.
    ///
    /// A user name and a password go before the host: `http://user:password@proxy.example:3128`. There, characters
    /// other than letters, digits and `-._~` are percent-encoded. Over `http` and `socks5`, anyone between this node
    /// and the proxy can read them. They do not appear in `Debug`, errors or logs.
    ///
    /// The proxy resolves the names of rendezvous; this node resolves only the name of the proxy. This node then does not
    /// know the addresses of the rendezvous. So it accepts names that
    /// [`with_allow_local_rendezvous`](Self::with_allow_local_rendezvous) would refuse because of their addresses. The
    /// proxy itself must block the hosts that are not to be reached through it. `/dns4` and `/dns6` do not choose the
    /// address family.
    ///
    /// A proxy that inspects TLS replaces the certificates of rendezvous by its own. Trust its root with
    /// [`with_root_certificate`](Self::with_root_certificate).
    ///
    /// libp2p's DNS transport resolves the names in dialled addresses itself. Leave out `SwarmBuilder::with_dns` if
    /// this node must not resolve names.
    ///
    /// # Errors
    /// [`Error::Proxy`] if the text is not the URL of such a proxy.
    ///
    /// ```
    /// use libp2p_websocket_star::Config;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::default().with_proxy("http://proxy.example:3128")?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    pub fn with_proxy(mut self, url: impl AsRef<str>) -> Result<Self, Error> {
        self.proxies = Proxies::one(url.as_ref())?;
        Ok(self)
    }

    /// Connects to rendezvous through the proxies in the present environment variables: `HTTPS_PROXY` for `wss`,
    /// `HTTP_PROXY` for `ws`, and `ALL_PROXY` where these are not set.
    ///
    /// `NO_PROXY` lists the hosts that are reached without a proxy: names (with all their subdomains), addresses,
    /// networks such as `10.0.0.0/8`, or `*`. The variables may also be in lower case. An empty variable counts as not
    /// set. The values have the form that [`with_proxy`](Self::with_proxy) accepts. If only `HTTPS_PROXY` is set, `ws`
    /// uses no proxy. In a program that a server runs by CGI, `HTTP_PROXY` is ignored, because the client controls it.
    ///
    /// # Errors
    /// [`Error::Proxy`] if one of the variables cannot be used. An invalid proxy is not skipped, because the node would
    /// then bypass the proxy.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    pub fn with_proxy_from_env(mut self) -> Result<Self, Error> {
        self.proxies = Proxies::from_variables(std::env::var_os)?;
        Ok(self)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Config");
        debug
            .field("limits", &self.limits)
            .field("connect_timeout", &self.connect_timeout)
            .field("join_timeout", &self.join_timeout)
            .field("dial_timeout", &self.dial_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("hold_up_timeout", &self.hold_up_timeout)
            .field("backoff", &self.backoff)
            .field("announce_interval", &self.announce_interval)
            .field(
                "allow_join_with_disabled_challenge",
                &self.allow_join_with_disabled_challenge,
            )
            .field("allow_local_rendezvous", &self.allow_local_rendezvous)
            .field("tokens", &self.tokens.len());
        #[cfg(not(target_arch = "wasm32"))]
        debug.field("roots", &self.roots);
        #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
        debug.field("proxies", &self.proxies);
        debug.finish()
    }
}

/// The bytes that a page processes in one turn, in which the browser neither sends nor receives.
#[cfg(target_arch = "wasm32")]
const SEND_BYTES: usize = 128 * 1024;
#[cfg(not(target_arch = "wasm32"))]
const SEND_BYTES: usize = 512 * 1024;

/// Bounds on the memory and links that peers and servers can make this node use.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(crate) receive_bytes: usize,
    pub(crate) window_bytes: usize,
    pub(crate) send_bytes: usize,
    pub(crate) item_bytes: usize,
    pub(crate) message_bytes: usize,
    pub(crate) connections: usize,
    pub(crate) known_peers: usize,
    pub(crate) dial_links: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_bytes: 1024 * 1024,
            window_bytes: 8 * 1024 * 1024,
            send_bytes: SEND_BYTES,
            item_bytes: 128 * 1024,
            message_bytes: 4 * 1024 * 1024,
            connections: 1024,
            known_peers: 16_384,
            dial_links: 8,
        }
    }
}

impl Limits {
    /// Sets the bytes that a connection holds for its reader if the other peer does not support
    /// [credits](crate::protocol::credit). Default 1 MiB. Each item costs its length plus 128 bytes. When the bytes are
    /// used up, the link is not read until the reader catches up. This also delays the other connections of the link,
    /// and one more message is held in the meantime.
    #[must_use]
    pub fn with_receive_bytes(mut self, bytes: usize) -> Self {
        self.receive_bytes = bytes;
        self
    }

    /// Sets the maximum number of bytes that a peer that supports [credits](crate::protocol::credit) may be ahead of a
    /// connection's reader. Default 8 MiB, enough for 200 Mbit/s at a round trip of 200 ms. At least 16 KiB.
    ///
    /// A connection grants as much as its rate and its round trip need, and at most 16 KiB while it is idle. In
    /// addition to these 16 KiB, the connections of a link share 16 MiB, and those of a process 64 MiB.
    #[must_use]
    pub fn with_window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets the bytes that a connection accepts from its writer ahead of the socket. Default 512 KiB: four full items,
    /// enough to keep the socket busy while the writer's task is woken. In a browser 128 KiB, because the browser sends
    /// nothing while the writer's task runs.
    #[must_use]
    pub fn with_send_bytes(mut self, bytes: usize) -> Self {
        self.send_bytes = bytes.max(1);
        self
    }

    /// Sets the data bytes in one item. Default 128 KiB; larger items do not increase the throughput. Values outside 1
    /// to [`MAX_ITEM`] are set to the nearest bound.
    #[must_use]
    pub fn with_item_bytes(mut self, bytes: usize) -> Self {
        self.item_bytes = bytes.clamp(1, MAX_ITEM);
        self
    }

    /// Sets the maximum number of bytes in one WebSocket message from the rendezvous. A longer message closes the link.
    /// Default 4 MiB: items are shorter than 1,000,000 bytes, but the list of peers in the answer to a join takes about
    /// 110 bytes for each peer. A browser assembles the whole message before its length can be checked.
    #[must_use]
    pub fn with_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// Sets the maximum number of connections and pending dials at one rendezvous. Default 1024. Further dials from
    /// other peers are refused; this node's own dials fail with `DialError::TooMany`.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the maximum number of links to rendezvous at which this node does not listen, including links that dials
    /// wait for. Default 8. With 0, dials only go through rendezvous with a listener. Further dials fail at once with
    /// [`Error::TooManyRendezvous`], so that a swarm tries the peer's next address.
    ///
    /// Addresses to dial come from strangers too, and each may name another host. Therefore at most one link to a new
    /// rendezvous is opened each second, and dials wait for that. A rendezvous is not new if it is among the most
    /// recently opened ones, of which as many as this limit are remembered. The dialled peers take turns.
    ///
    /// When the limit is reached, a link may be closed for a new one: the link that has been without a connection for
    /// the longest time, if that is at least 5 s; otherwise one of several links with connections that lead to the same
    /// host, which is an IPv4 address or an IPv6 /64. Dials that waited for the closed link fail with the same error,
    /// and its connections are reset.
    ///
    /// A link is closed as soon as no dial and no connection needs it.
    #[must_use]
    pub fn with_dial_links(mut self, links: usize) -> Self {
        self.dial_links = links;
        self
    }

    /// Sets the maximum number of peer addresses that discovery remembers at one rendezvous. Default 16,384. When it is
    /// reached, known peers stay known as long as they are announced, and others wait for room.
    ///
    /// Each rendezvous at which this node does not listen has a sixteenth of this number, and all of them together have
    /// a quarter, because strangers may have chosen them. A peer with eight remembered addresses gets no further ones
    /// there. When the quarter is full, the rendezvous with the most addresses gives way to those with fewer.
    #[must_use]
    pub fn with_known_peers(mut self, peers: usize) -> Self {
        self.known_peers = peers;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_repeated_without_a_pause() {
        let config = Config::default()
            .with_announce_interval(Duration::ZERO)
            .with_stall_timeout(Duration::ZERO)
            .with_hold_up_timeout(Duration::ZERO)
            .with_backoff(Duration::ZERO, Duration::ZERO);
        assert_eq!(config.announce_interval, SHORTEST);
        assert_eq!(config.stall_timeout, SHORTEST);
        assert_eq!(config.hold_up_timeout, SHORTEST);
        assert_eq!(config.backoff, (SHORTEST, SHORTEST));
    }

    #[test]
    fn a_token_is_for_a_rendezvous_and_is_shown_in_no_error() {
        let set = |address: &str, token: &str| {
            let address = address.parse().expect("a multiaddr");
            Config::default().with_token(address, token)
        };
        let star = "/dns4/star.example/tcp/443/wss/p2p-websocket-star";
        let config = set(star, "secret").expect("wss");
        assert!(!format!("{config:?}").contains("secret"));
        for (address, token) in [
            ("/dns4/star.example/tcp/80/ws/p2p-websocket-star", "secret"),
            ("/dns4/localhost/tcp/80/ws/p2p-websocket-star", "secret"),
            ("/dns4/star.example/tcp/443/wss", "secret"),
            (star, "two secrets"),
            (star, ""),
        ] {
            let error = set(address, token).expect_err("not to be sent");
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("secrets") && !shown.contains("\"secret"),
                "{shown}"
            );
        }
    }
}
