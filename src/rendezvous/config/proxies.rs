//! The proxies in front of the server.

use std::net::IpAddr;

use super::Config;
use crate::rendezvous::proxy::{Network, TrustedProxies};

#[derive(Debug, Clone, Default)]
pub(super) struct ProxySettings {
    trusted: TrustedProxies,
    #[cfg(feature = "rendezvous")]
    protocol: bool,
}

impl Config {
    /// The reverse proxies that are believed about who asks through them. A link that one of them hands
    /// over counts for [`Limits::with_max_links_per_ip`](super::Limits::with_max_links_per_ip) as one of the last address in
    /// its `X-Forwarded-For` that is not trusted too; without the header, or where that is malformed, as one
    /// of the last proxy that is known of. Nobody else's header is looked at, and nobody's `Forwarded` (RFC 7239): most
    /// proxies pass on what a client writes there.
    ///
    /// Trust only addresses from which nobody but a proxy can connect, and only proxies that add to the
    /// header, or set it.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies.trusted = proxies.into_iter().collect();
        self
    }

    /// Whether every connection that a [trusted proxy](Self::with_trusted_proxies) makes begins with a header of the
    /// [PROXY protocol](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt), version 1 or 2, before TLS. Off by
    /// default: a proxy has to be told to send it. It is for proxies that pass on bytes, and cannot say anything in HTTP.
    ///
    /// The connection then counts as one that the client has made itself, and its `X-Forwarded-For` is not looked at. Only
    /// if the header names another trusted proxy, that one's `X-Forwarded-For` is. A header that names nobody (`LOCAL`,
    /// `UNKNOWN` and `UNSPEC`, as of a proxy that looks whether the server lives, and Unix sockets) leaves the
    /// connection to the proxy itself, and no `X-Forwarded-For` of it is looked at either.
    ///
    /// A connection of a trusted proxy without a good header is [refused](crate::rendezvous::Refused::ProxyHeader). So is one
    /// whose header is longer than 107 bytes in version 1 or 536 in version 2, or takes longer than
    /// [the time for a handshake](super::Limits::with_handshake_timeout). From everybody else a header is no HTTP
    /// and no TLS, and is refused as such.
    ///
    /// Where the application accepts connections, it is the application that reads the header, and says from whom each is.
    /// That is believed, and no `X-Forwarded-For` is looked at.
    #[cfg(feature = "rendezvous")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rendezvous")))]
    #[must_use]
    pub fn with_proxy_protocol(mut self, is_spoken: bool) -> Self {
        self.proxies.protocol = is_spoken;
        self
    }

    pub(crate) fn trusted_proxies(&self) -> &TrustedProxies {
        &self.proxies.trusted
    }

    /// Whether the requests of a connection say for whom they are. With the PROXY protocol, it is for one client, whom whoever
    /// has accepted it knows.
    pub(crate) fn is_proxy_of_requests(&self, remote: IpAddr) -> bool {
        #[cfg(feature = "rendezvous")]
        if self.proxies.protocol {
            return false;
        }
        self.proxies.trusted.contain(remote)
    }

    #[cfg(feature = "rendezvous")]
    pub(crate) fn proxy_protocol(&self) -> bool {
        self.proxies.protocol
    }
}
