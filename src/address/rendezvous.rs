//! Rendezvous: where a link leads.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use multiaddr::{Multiaddr, Protocol};

/// The host of a rendezvous. Of an address, names are in small letters (ASCII), without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    /// With its name as [`plain`] has it.
    fn with_plain_name(&self) -> Self {
        match self {
            Self::Ip4(_) | Self::Ip6(_) => self.clone(),
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                self.named(&plain(name))
            }
        }
    }

    /// The same family under `name`.
    fn named(&self, name: &str) -> Self {
        let name = name.to_owned();
        match self {
            Self::Ip4(_) | Self::Dns4(_) => Self::Dns4(name),
            Self::Ip6(_) | Self::Dns6(_) => Self::Dns6(name),
            Self::Dns(_) => Self::Dns(name),
            Self::Dnsaddr(_) => Self::Dnsaddr(name),
        }
    }

    /// The DNS name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Ip4(_) | Self::Ip6(_) => None,
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                Some(name)
            }
        }
    }

    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip4(ip) => Some((*ip).into()),
            Self::Ip6(ip) => Some((*ip).into()),
            _ => None,
        }
    }
}

/// DNS does not tell apart small and capital letters (RFC 4343), and a dot at the end says only that nothing follows.
fn plain(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

impl fmt::Display for Host {
    /// As a URL writes it: IPv6 in brackets.
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

/// One rendezvous: scheme, host, port, and the name for TLS where it is not the host. One link leads to each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rendezvous {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) secure: bool,
    /// Of `/tls/sni/<name>`.
    pub(super) sni: Option<String>,
}

impl Rendezvous {
    /// The host to connect to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the WebSocket runs over TLS (`wss`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name of the server: that of `/tls/sni/<name>`, or else the host's. None for an IP address.
    ///
    /// Its certificate must be for this name, and HTTP asks for this host.
    pub fn server_name(&self) -> Option<&str> {
        self.sni.as_deref().or_else(|| self.host.name())
    }

    /// The name of `/tls/sni/<name>`, if it has one.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref()
    }

    /// With names as they are compared, however they were written.
    pub(super) fn with_plain_names(&self) -> Self {
        Self {
            host: self.host.with_plain_name(),
            port: self.port,
            secure: self.secure,
            sni: self.sni.as_deref().map(plain),
        }
    }

    /// Whether both have one name, port and scheme, whatever the families or addresses to connect to.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.is_same_endpoint(other)
            && self.server_name().is_some()
            && self.server_name() == other.server_name()
    }

    /// Whether both have one name, or neither has one and both have one address; with one port and scheme.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.is_same_endpoint(other)
            && match (self.server_name(), other.server_name()) {
                (None, None) => self.host.ip() == other.host.ip(),
                (ours, theirs) => ours == theirs,
            }
    }

    /// Whether it is on this machine for certain: at a loopback address. What a name leads to is up to the resolver.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether both have one port and scheme, so that one may be the other under another host.
    pub(crate) fn is_same_endpoint(&self, other: &Self) -> bool {
        (self.port, self.secure) == (other.port, other.secure)
    }

    /// The base of addresses at this rendezvous in the libp2p form.
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

    /// The base of addresses at this rendezvous in the wire form. The deployed peers know no
    /// `/tls/sni`: the name takes the host's place.
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
    /// The URL without a path, with the server's name; a scheme's default port is left out.
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
