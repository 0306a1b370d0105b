//! The transport's configuration.

use std::{fmt, time::Duration};

#[cfg(not(target_arch = "wasm32"))]
use tokio_rustls::rustls::pki_types::CertificateDer;

use multiaddr::Multiaddr;

#[cfg(not(target_arch = "wasm32"))]
use crate::certificate;
#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
use crate::proxy::Proxies;
use crate::{
    StarAddr,
    error::Error,
    protocol::session::KeyEncoding,
    time,
    token::{Token, Tokens},
};

/// The data of the largest item that the deployed rendezvous hands on: it drops the link of a peer
/// that sends a message of 1,000,000 bytes, the leading 0x04 counted.
pub const MAX_ITEM: usize = 999_998;

/// The shortest stall timeout, back-off and interval: with none, a task would spin.
const SHORTEST: Duration = Duration::from_millis(10);

/// How a [`WebSocketStarTransport`](crate::WebSocketStarTransport) behaves.
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which is never. A timeout of zero
/// is over at once.
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
    pub(crate) key_encoding: KeyEncoding,
    pub(crate) tokens: Tokens,
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) root_certificates: Vec<CertificateDer<'static>>,
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
            key_encoding: KeyEncoding::Hex,
            tokens: Tokens::default(),
            #[cfg(not(target_arch = "wasm32"))]
            root_certificates: Vec::new(),
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

    /// How long opening a link may take: name resolution, TCP, TLS, the WebSocket upgrade and the
    /// first two packets together. Default 10 s, as TCP gives a lost packet three tries in that time.
    ///
    /// A host with several addresses is connected to by RFC 8305: the next one is tried after 250 ms, or as soon as one
    /// fails; up to 16 for one link. Those that failed go last the next time.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = time::timeout(timeout);
        self
    }

    /// How long the rendezvous may take for each of the two answers of a join. Default 10 s; the
    /// deployed servers give no answer at all to much of what they do not like.
    #[must_use]
    pub fn with_join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = time::timeout(timeout);
        self
    }

    /// How long a dial may take once the link is open, a join included. Default 20 s: a swarm gives
    /// up an upgrade after 10 s, and a listener that is behind a busy link needs its time.
    #[must_use]
    pub fn with_dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = time::timeout(timeout);
        self
    }

    /// How long a connection may hold up a link that has no other connection by not being read, and how long the other
    /// peer may take to accept what is to be sent, before the connection is reset. Default 60 s, at least 10 ms.
    ///
    /// A reader stalls that does not make room for the next item, of up to 1,000,000 bytes, in that time. Only peers that
    /// know no [credits](crate::protocol::credit) can have a link held up.
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = time::interval(timeout, SHORTEST);
        self
    }

    /// How long a connection may hold up the other connections of its link by not being read, before it is reset. Default
    /// 5 s, at least 10 ms.
    ///
    /// Only peers that know no [credits](crate::protocol::credit), such as JavaScript nodes, can have a link held up: they
    /// send on when nobody reads. What adds up counts, so that a reader that is slow for ever is reset too. A hold-up is
    /// forgotten after ten times its length, and one of less than 100 ms does not count.
    #[must_use]
    pub fn with_hold_up_timeout(mut self, timeout: Duration) -> Self {
        self.hold_up_timeout = time::interval(timeout, SHORTEST);
        self
    }

    /// The first and the longest wait between two attempts to open a link; it doubles in between,
    /// and each wait is cut short at random by up to half. Default 0.5 s to 60 s, at least 10 ms.
    #[must_use]
    pub fn with_backoff(mut self, first: Duration, longest: Duration) -> Self {
        let first = time::interval(first, SHORTEST);
        self.backoff = (first, time::interval(longest, first));
        self
    }

    /// How often a rendezvous announces each peer at the most. Default 10 s, the npm server's; from 20 ms to 8 h, and
    /// brought there if not.
    ///
    /// A peer expires that is not announced for three rounds of its rendezvous. How long a round takes, the rendezvous
    /// shows: this interval or longer. As long as it has not, three times 120 intervals of silence count; a day without an
    /// announcement counts in any case, and so does a dial that does not find the peer.
    #[must_use]
    pub fn with_announce_interval(mut self, interval: Duration) -> Self {
        self.announce_interval = time::interval(interval, SHORTEST);
        self
    }

    /// Whether to join a rendezvous that asks for no proof of our key. Default off: there, any peer
    /// can take our address and receive the dials that are meant for us.
    #[must_use]
    pub fn with_allow_join_with_disabled_challenge(mut self, allow: bool) -> Self {
        self.allow_join_with_disabled_challenge = allow;
        self
    }

    /// Whether to dial through rendezvous at addresses that are not public, where this node does not listen: loopback,
    /// private, link-local, shared, documentation, multicast and reserved ones, as IPv4 or IPv6. Default off: addresses to
    /// dial come from strangers too, through identify or Kademlia, and one that names a host inside our network would have us
    /// send requests there. Names are judged by the addresses that they have;
    /// in a browser, which does not tell them, only addresses and `localhost` are refused.
    ///
    /// A rendezvous at which a listener was started is used wherever it is, without this. Turn it on in a network of
    /// your own, and in tests, for nodes that dial without listening.
    #[must_use]
    pub fn with_allow_local_rendezvous(mut self, allow: bool) -> Self {
        self.allow_local_rendezvous = allow;
        self
    }

    /// How the public key is written in a join. Default [`KeyEncoding::Hex`], the only one that
    /// published servers accept.
    #[must_use]
    pub fn with_key_encoding(mut self, encoding: KeyEncoding) -> Self {
        self.key_encoding = encoding;
        self
    }

    /// Shows a token to this rendezvous, which may let in only those who know one: up to 512 visible ASCII characters. May be
    /// called for several rendezvous; of two tokens for one of them the later is shown. Default none.
    ///
    /// It goes to this host at this port, and to nobody else, whatever addresses the node dials: over `wss` to the server
    /// that proves this name or address with its certificate, and over `ws` to a loopback address only. Natively it goes
    /// as a header of the request. In a browser it goes in the URL, because a page cannot set headers for a WebSocket:
    /// the server, and a proxy before it, had better not log that. Neither `Debug` nor an error nor the log shows it.
    ///
    /// # Errors
    /// * [`Error::Address`] if the address is not one of a rendezvous.
    /// * [`Error::Token`] if the token cannot be one, or would go to another machine without encryption.
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

    /// Trusts root certificates for `wss` in addition to the web's: one in DER form, or one or several
    /// in PEM form. Default none. Not in a browser, which has roots of its own.
    ///
    /// # Errors
    /// [`Error::Certificate`] if there is none in it, or one that cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_root_certificate(mut self, der_or_pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let certificates = certificate::read(der_or_pem.as_ref())?;
        self.root_certificates.extend(certificates);
        Ok(self)
    }

    /// Reaches all rendezvous through a proxy. Default none.
    ///
    /// * `http://proxy.example:3128`: HTTP CONNECT, for `ws` as well as for `wss`. Many proxies let that through to port 443 only.
    /// * `https://proxy.example`: the same over TLS. The certificate is verified as that of a rendezvous is.
    /// * `socks5://proxy.example:1080`, or `socks5h` in place of `socks5`: SOCKS 5.
    ///
    /// A user name and a password go before the host: `http://user:password@proxy.example:3128`. Characters other than
    /// letters, digits and `-._~` are percent-encoded there. Over `http` and `socks5` everybody on the way to the proxy can
    /// read them. Neither `Debug` nor an error nor the log shows them.
    ///
    /// The proxy looks up the names of rendezvous; here, only its own is. What they mean is not known then, so that a name
    /// passes that [`with_allow_local_rendezvous`](Self::with_allow_local_rendezvous) would refuse by its address: the proxy
    /// has to know what is not to be reached through it. `/dns4` and `/dns6` do not choose the family.
    ///
    /// A proxy that inspects TLS puts its own certificates in place of those of rendezvous: trust its root by
    /// [`with_root_certificate`](Self::with_root_certificate).
    ///
    /// libp2p's DNS transport looks up the names in addresses to dial by itself: leave out `SwarmBuilder::with_dns` where
    /// nothing is to be looked up.
    ///
    /// # Errors
    /// [`Error::Proxy`] if that is no URL of such a proxy.
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

    /// Reaches rendezvous through the proxies that environment variables name now: `HTTPS_PROXY` for `wss`, `HTTP_PROXY` for `ws`,
    /// `ALL_PROXY` for what has none of these; `NO_PROXY` lists who is reached without one, by names with all that ends so,
    /// addresses, networks such as `10.0.0.0/8`, or `*`. Each may be in small letters instead; one that is empty counts as not
    /// there. The values are those of [`with_proxy`](Self::with_proxy). Where only `HTTPS_PROXY` is set, `ws` goes without one. In
    /// a program that a server runs by CGI, `HTTP_PROXY` is what a client says, and is not heeded.
    ///
    /// # Errors
    /// [`Error::Proxy`] if one of them cannot be used. It is not passed over, or a node would go around the proxy.
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
            .field("key_encoding", &self.key_encoding)
            .field("tokens", &self.tokens.len());
        #[cfg(not(target_arch = "wasm32"))]
        debug.field("root_certificates", &self.root_certificates.len());
        #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
        debug.field("proxies", &self.proxies);
        debug.finish()
    }
}

/// What a page does in one go: the browser neither sends nor receives meanwhile.
#[cfg(target_arch = "wasm32")]
const SEND_BYTES: usize = 128 * 1024;
#[cfg(not(target_arch = "wasm32"))]
const SEND_BYTES: usize = 512 * 1024;

/// The bounds on what peers and servers can make us hold.
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
    /// Bytes that a connection holds for its reader, if the other peer knows no [credits](crate::protocol::credit). Default
    /// 1 MiB. Each item costs its length and 128 bytes. When they are used up the link is not read until the reader catches
    /// up, which holds back the link's other connections too; one more message is held meanwhile.
    #[must_use]
    pub fn with_receive_bytes(mut self, bytes: usize) -> Self {
        self.receive_bytes = bytes;
        self
    }

    /// Bytes that a peer which knows [credits](crate::protocol::credit) may be ahead of a connection's reader at most.
    /// Default 8 MiB: 200 Mbit/s over a round trip of 200 ms. At least 16 KiB.
    ///
    /// A connection grants as much as its rate and its round trip need, and no more than 16 KiB while it is idle. Beside these
    /// 16 KiB, the connections of a link share 16 MiB, and those of a process 64 MiB.
    #[must_use]
    pub fn with_window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Bytes that a connection takes from its writer ahead of the socket. Default 512 KiB: four full
    /// items, enough to keep the socket busy while the writer's task is woken. In a browser 128 KiB: it sends nothing while
    /// the writer's task goes on.
    #[must_use]
    pub fn with_send_bytes(mut self, bytes: usize) -> Self {
        self.send_bytes = bytes.max(1);
        self
    }

    /// Bytes of data in one item. Default 128 KiB, where throughput stops to rise; at least 1 and at
    /// most [`MAX_ITEM`], and brought there if not.
    #[must_use]
    pub fn with_item_bytes(mut self, bytes: usize) -> Self {
        self.item_bytes = bytes.clamp(1, MAX_ITEM);
        self
    }

    /// Bytes of one WebSocket message from the rendezvous; a longer one costs the link. Default
    /// 4 MiB: items are under 1,000,000 bytes, but the list of peers in the answer to a join takes
    /// about 110 bytes a peer. A browser has put a message together before this can be asked.
    #[must_use]
    pub fn with_message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// Connections and pending dials at one rendezvous. Default 1024. Further dials from other peers
    /// are refused, our own fail with `DialError::TooMany`.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Links that may be open to rendezvous at which this node does not listen, those that dials wait for included.
    /// Default 8; with 0, only rendezvous with a listener are dialled through. Further dials fail at once with
    /// [`Error::TooManyRendezvous`], so that a swarm goes on to the peer's next address.
    ///
    /// Addresses to dial come from strangers too, and each may name another host. Therefore a dial also waits until the
    /// last rendezvous that was new is a second ago; those that were opened lately, as many as this, are not new. The peers
    /// that are dialled take turns.
    ///
    /// When all are taken, a link gives way to a new one: the one that has been without a connection for the longest time, if that
    /// was 5 s; or else one of several with connections that lead to one host, an IPv4 address or an IPv6 /64. Dials that waited for
    /// it fail with the same error, and connections over it are reset.
    ///
    /// A link is closed as soon as no dial and no connection needs it.
    #[must_use]
    pub fn with_dial_links(mut self, links: usize) -> Self {
        self.dial_links = links;
        self
    }

    /// Addresses of peers that discovery remembers at one rendezvous. Default 16,384. Where there are more, who is
    /// known stays known while it is announced, and the others wait for room.
    ///
    /// Rendezvous at which this node does not listen have a sixteenth of it each, and a quarter in all, because strangers
    /// may have chosen them; of one peer, no more than eight addresses are remembered there. When the quarter is full, the
    /// rendezvous with the most addresses gives way to those with fewer.
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
