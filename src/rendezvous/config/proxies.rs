//! The settings of the proxies in front of the server.

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
    /// Sets the reverse proxies that are trusted to say which client asks through them. A link that one of them hands
    /// over counts for [`Limits::with_max_links_per_ip`](super::Limits::with_max_links_per_ip) as a link of the last
    /// address in its `X-Forwarded-For` that is not trusted too. Without the header, or where it is malformed, the link
    /// counts for the last proxy that is known. The header of any other peer is ignored. `Forwarded` (RFC 7239) is
    /// ignored altogether, because most proxies pass on what a client writes there.
    ///
    /// Trust only addresses from which nothing but a proxy can connect, and only proxies that append to the header, or
    /// set it.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: impl IntoIterator<Item = Network>) -> Self {
        self.proxies.trusted = proxies.into_iter().collect();
        self
    }

    /// Sets whether every connection of a [trusted proxy](Self::with_trusted_proxies) begins with a header of the
    /// [PROXY protocol](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt), version 1 or 2, before TLS. Off
    /// by default, because a proxy has to be configured to send it. It is for proxies that pass on bytes, and cannot
    /// say anything in HTTP.
    ///
    /// The connection then counts as if the client had made it, and its `X-Forwarded-For` is ignored. Only if the
    /// header names another trusted proxy, the `X-Forwarded-For` of that proxy is read. A header that names no client
    /// (`LOCAL`, `UNKNOWN` and `UNSPEC`, as in the health checks of a proxy, and Unix sockets) leaves the connection to
    /// the proxy itself, and its `X-Forwarded-For` is ignored, too.
    ///
    /// A connection of a trusted proxy without a valid header is [refused](crate::rendezvous::Refused::ProxyHeader). So
    /// is a connection whose header is longer than 107 bytes in version 1 or 536 bytes in version 2, or takes longer
    /// than [the time for a handshake](super::Limits::with_handshake_timeout). From any other peer, a header is neither
    /// HTTP nor TLS, and is refused as such.
    ///
    /// Where the application accepts connections, the application reads the header and says which client each
    /// connection comes from. That is trusted, and `X-Forwarded-For` is ignored.
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

    /// Returns whether the requests of a connection name their clients. With the PROXY protocol they do not: the whole
    /// connection is for one client, which is known when the connection is accepted.
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
