//! Rendezvous: the server that a link connects to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use multiaddr::{Multiaddr, Protocol};

/// The host of a rendezvous. In an address, names are in lower case (ASCII) and have no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// `/ip4`
    Ip4(Ipv4Addr),
    /// `/ip6`
    Ip6(Ipv6Addr),
    /// `/dns`: resolved to IPv4 or IPv6.
    Dns(String),
    /// `/dns4`: resolved to IPv4 only.
    Dns4(String),
    /// `/dns6`: resolved to IPv6 only.
    Dns6(String),
    /// `/dnsaddr`: treated as `/dns`, as the JavaScript client does; no TXT records are looked up.
    Dnsaddr(String),
}

impl Host {
    pub(super) fn from_protocol(protocol: &Protocol<'_>) -> Option<Self> {
        let host = match protocol {
            Protocol::Ip4(ip) => Self::Ip4(*ip),
            Protocol::Ip6(ip) => Self::Ip6(*ip),
            Protocol::Dns(name) => Self::Dns(name.to_string()),
            Protocol::Dns4(name) => Self::Dns4(name.to_string()),
            Protocol::Dns6(name) => Self::Dns6(name.to_string()),
            Protocol::Dnsaddr(name) => Self::Dnsaddr(name.to_string()),
            _ => return None,
        };
        (host.name() != Some("")).then_some(host)
    }

    fn to_protocol(&self) -> Protocol<'static> {
        match self.clone() {
            Self::Ip4(ip) => Protocol::Ip4(ip),
            Self::Ip6(ip) => Protocol::Ip6(ip),
            Self::Dns(name) => Protocol::Dns(name.into()),
            Self::Dns4(name) => Protocol::Dns4(name.into()),
            Self::Dns6(name) => Protocol::Dns6(name.into()),
            Self::Dnsaddr(name) => Protocol::Dnsaddr(name.into()),
        }
    }

    /// Returns the same host, with its name normalised by [`plain`].
    fn with_plain_name(&self) -> Self {
        match self {
            Self::Ip4(_) | Self::Ip6(_) => self.clone(),
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                self.named(&plain(name))
            }
        }
    }

    /// Returns a DNS host of the same family, with this name.
    fn named(&self, name: &str) -> Self {
        let name = name.to_owned();
        match self {
            Self::Ip4(_) | Self::Dns4(_) => Self::Dns4(name),
            Self::Ip6(_) | Self::Dns6(_) => Self::Dns6(name),
            Self::Dns(_) => Self::Dns(name),
            Self::Dnsaddr(_) => Self::Dnsaddr(name),
        }
    }

    /// Returns the DNS name, if the host is a name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Ip4(_) | Self::Ip6(_) => None,
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                Some(name)
            }
        }
    }

    /// Returns the IP address, if the host is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip4(ip) => Some((*ip).into()),
            Self::Ip6(ip) => Some((*ip).into()),
            _ => None,
        }
    }
}

/// Normalises a name. DNS does not distinguish lower and upper case (RFC 4343), and a trailing dot only says that
/// nothing follows.
fn plain(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

impl fmt::Display for Host {
    /// Writes the host as in a URL, with IPv6 addresses in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4(ip) => ip.fmt(f),
            Self::Ip6(ip) => write!(f, "[{ip}]"),
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                name.fmt(f)
            }
        }
    }
}

/// One rendezvous: scheme, host, port, and the name for TLS if it differs from the host. Each rendezvous has one link.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rendezvous {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) secure: bool,
    /// The name of `/tls/sni/<name>`.
    pub(super) sni: Option<String>,
}

impl Rendezvous {
    /// Returns the host to connect to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the WebSocket runs over TLS (`wss`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the name of the server: the name of `/tls/sni/<name>`, or else the name of the host. `None` for an IP
    /// address.
    ///
    /// The server's certificate must be valid for this name, and HTTP requests name this host.
    pub fn server_name(&self) -> Option<&str> {
        self.sni.as_deref().or_else(|| self.host.name())
    }

    /// Returns the name of `/tls/sni/<name>`, if there is one.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// Returns the same rendezvous with normalised names, so that different spellings compare as equal.
    pub(super) fn with_plain_names(&self) -> Self {
        Self {
            host: self.host.with_plain_name(),
            port: self.port,
            secure: self.secure,
            sni: self.sni.as_deref().map(plain),
        }
    }

    /// Returns whether both have the same server name, port and scheme, even if they connect to different families or
    /// addresses.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.is_same_endpoint(other)
            && self.server_name().is_some()
            && self.server_name() == other.server_name()
    }

    /// Returns whether both have the same port and scheme, and either the same server name or, if neither has a name,
    /// the same address.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.is_same_endpoint(other)
            && match (self.server_name(), other.server_name()) {
                (None, None) => self.host.ip() == other.host.ip(),
                (ours, theirs) => ours == theirs,
            }
    }

    /// Returns whether the rendezvous is certainly on this machine, at a loopback address. A name is not checked,
    /// because the resolver decides where it leads.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Returns whether both have the same port and scheme, so that one may be the other under another host.
    pub(crate) fn is_same_endpoint(&self, other: &Self) -> bool {
        (self.port, self.secure) == (other.port, other.secure)
    }

    /// Returns the base of addresses at this rendezvous, in the libp2p form.
    pub(super) fn to_multiaddr(&self) -> Multiaddr {
        let base = Multiaddr::empty()
            .with(self.host.to_protocol())
            .with(Protocol::Tcp(self.port));
        let base = match &self.sni {
            Some(sni) => base
                .with(Protocol::Tls)
                .with(Protocol::Sni(sni.clone().into()))
                .with(Protocol::Ws("/".into())),
            None if self.secure => base.with(Protocol::Wss("/".into())),
            None => base.with(Protocol::Ws("/".into())),
        };
        base.with(Protocol::P2pWebSocketStar)
    }

    /// Returns the base of addresses at this rendezvous, in the wire form. The deployed peers do not know `/tls/sni`,
    /// so the name replaces the host.
    pub(super) fn to_wire(&self) -> String {
        let named = self.sni.as_deref().map(|sni| self.host.named(sni));
        let plain = Self {
            host: named.unwrap_or_else(|| self.host.clone()),
            port: self.port,
            secure: self.secure,
            sni: None,
        };
        plain.to_multiaddr().to_string()
    }
}

impl fmt::Display for Rendezvous {
    /// Writes the URL without a path, with the name of the server. The default port of the scheme is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = if self.secure {
            ("wss", 443)
        } else {
            ("ws", 80)
        };
        write!(f, "{scheme}://")?;
        match &self.sni {
            Some(name) => f.write_str(name)?,
            None => self.host.fmt(f)?,
        }
        if self.port != default_port {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}
