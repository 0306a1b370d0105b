//! Addresses: one type for the two ways a websocket-star address is written.
//!
//! libp2p writes `/dns4/star.example/tcp/443/wss/p2p-websocket-star/p2p/<peer>`; the rendezvous and
//! the JavaScript peers write the same with `/ipfs/<peer>` and compare the strings byte for byte.
//! A [`StarAddr`] gives both forms and the rendezvous' URL, and keeps the spelling of an address that
//! came from the wire, because a peer can be dialled under its own spelling only.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

/// The longest wire form that is accepted, in bytes. A DNS name has at most 253, a peer id about 60.
const MAX_WIRE_LEN: usize = 512;

/// Why an address is not a usable websocket-star address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The address has no `/p2p-websocket-star`: it belongs to another transport.
    #[error("not a websocket-star address")]
    NotWebsocketStar,
    /// The address does not begin with a host.
    #[error(
        "the host must be /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr, and not empty; found `{0}`"
    )]
    Host(String),
    /// The host is not followed by a TCP port.
    #[error("the host must be followed by /tcp/<port> with a port from 1; found `{0}`")]
    Port(String),
    /// The port is not followed by `/ws`, `/wss` or `/tls/ws`.
    #[error("the port must be followed by /ws, /wss or /tls/ws; found `{0}`")]
    WebSocket(String),
    /// The WebSocket part is not followed by `/p2p-websocket-star`.
    #[error("the WebSocket must be followed by /p2p-websocket-star; found `{0}`")]
    Star(String),
    /// Something other than a peer id follows `/p2p-websocket-star`.
    #[error("only /p2p/<peer id> may follow /p2p-websocket-star; found `{0}`")]
    Trailing(String),
    /// The text is no multiaddr at all.
    #[error("not a multiaddr: {0}")]
    Syntax(String),
    /// A wire form over 512 bytes.
    #[error("an address of {0} bytes; at most 512 are accepted")]
    TooLong(usize),
}

/// The host of a rendezvous.
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
    fn from_protocol(protocol: &Protocol<'_>) -> Option<Self> {
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

    /// The DNS name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Ip4(_) | Self::Ip6(_) => None,
            Self::Dns(name) | Self::Dns4(name) | Self::Dns6(name) | Self::Dnsaddr(name) => {
                Some(name)
            }
        }
    }
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

/// One rendezvous: scheme, host and port. One link leads to each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rendezvous {
    host: Host,
    port: u16,
    secure: bool,
}

impl Rendezvous {
    /// The host as it was written.
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
}

impl fmt::Display for Rendezvous {
    /// The URL without a path; a scheme's default port is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default_port) = if self.secure {
            ("wss", 443)
        } else {
            ("ws", 80)
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default_port {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// A valid websocket-star address, of a rendezvous or of a peer at a rendezvous.
///
/// ```
/// use libp2p_websocket_star::StarAddr;
///
/// let addr: libp2p_core::Multiaddr = "/dns4/star.example/tcp/443/tls/ws/p2p-websocket-star".parse()?;
/// let addr = StarAddr::try_from(&addr)?;
/// assert_eq!(addr.rendezvous().to_string(), "wss://star.example");
/// assert_eq!(addr.to_wire(), "/dns4/star.example/tcp/443/wss/p2p-websocket-star");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StarAddr {
    rendezvous: Rendezvous,
    peer: Option<PeerId>,
    /// The spelling on the wire, where it is not the one this type would give.
    spelling: Option<Arc<str>>,
}

impl StarAddr {
    /// Parses the form that rendezvous and JavaScript peers use, and keeps its spelling.
    ///
    /// # Errors
    /// [`AddressError::Syntax`] for what is no multiaddr, [`AddressError::TooLong`] over 512 bytes,
    /// otherwise the part that is wrong.
    pub fn from_wire(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_WIRE_LEN {
            return Err(AddressError::TooLong(text.len()));
        }
        let parsed =
            Multiaddr::from_str(text).map_err(|error| AddressError::Syntax(error.to_string()))?;
        let mut addr = Self::try_from(&parsed)?;
        if addr.to_wire() != text {
            addr.spelling = Some(text.into());
        }
        Ok(addr)
    }

    /// The rendezvous that this address leads through.
    pub fn rendezvous(&self) -> &Rendezvous {
        &self.rendezvous
    }

    /// The peer, if the address names one.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// The same rendezvous with `peer` behind it. A kept spelling is dropped.
    #[must_use]
    pub fn with_peer(&self, peer: PeerId) -> Self {
        Self {
            rendezvous: self.rendezvous.clone(),
            peer: Some(peer),
            spelling: None,
        }
    }

    /// Whether the peer's own spelling on the wire differs from the usual one.
    pub(crate) fn has_own_spelling(&self) -> bool {
        self.spelling.is_some()
    }

    /// The libp2p form: `/ws` or `/wss`, and `/p2p/<peer>`.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let base = self.base();
        match self.peer {
            Some(peer) => base.with(Protocol::P2p(peer)),
            None => base,
        }
    }

    /// The wire form: the kept spelling, or `/ws` or `/wss` and `/ipfs/<peer>`.
    pub fn to_wire(&self) -> String {
        match (&self.spelling, self.peer) {
            (Some(spelling), _) => spelling.to_string(),
            (None, Some(peer)) => format!("{}/ipfs/{peer}", self.base()),
            (None, None) => self.base().to_string(),
        }
    }

    fn base(&self) -> Multiaddr {
        let ws = if self.rendezvous.secure {
            Protocol::Wss("/".into())
        } else {
            Protocol::Ws("/".into())
        };
        Multiaddr::empty()
            .with(self.rendezvous.host.to_protocol())
            .with(Protocol::Tcp(self.rendezvous.port))
            .with(ws)
            .with(Protocol::P2pWebSocketStar)
    }
}

impl TryFrom<&Multiaddr> for StarAddr {
    type Error = AddressError;

    fn try_from(addr: &Multiaddr) -> Result<Self, AddressError> {
        if !addr
            .iter()
            .any(|part| matches!(part, Protocol::P2pWebSocketStar))
        {
            return Err(AddressError::NotWebsocketStar);
        }
        let mut parts = addr.iter();
        let mut next = || parts.next();

        let part = next();
        let host = part
            .as_ref()
            .and_then(Host::from_protocol)
            .ok_or_else(|| AddressError::Host(found(part)))?;
        let port = match next() {
            Some(Protocol::Tcp(port)) if port != 0 => port,
            part => return Err(AddressError::Port(found(part))),
        };
        let secure = match next() {
            Some(Protocol::Ws(path)) if path == "/" => false,
            Some(Protocol::Wss(path)) if path == "/" => true,
            Some(Protocol::Tls) => match next() {
                Some(Protocol::Ws(path)) if path == "/" => true,
                part => return Err(AddressError::WebSocket(found(part))),
            },
            part => return Err(AddressError::WebSocket(found(part))),
        };
        match next() {
            Some(Protocol::P2pWebSocketStar) => {}
            part => return Err(AddressError::Star(found(part))),
        }
        let peer = match next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            part => return Err(AddressError::Trailing(found(part))),
        };
        if let part @ Some(_) = next() {
            return Err(AddressError::Trailing(found(part)));
        }

        Ok(Self {
            rendezvous: Rendezvous { host, port, secure },
            peer,
            spelling: None,
        })
    }
}

fn found(part: Option<Protocol<'_>>) -> String {
    part.map_or_else(|| "the end".to_owned(), |part| part.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t";

    fn parse(text: &str) -> Result<StarAddr, AddressError> {
        StarAddr::try_from(&text.parse::<Multiaddr>().expect("a multiaddr"))
    }

    #[test]
    fn every_base_gives_its_url_and_both_forms() {
        for (text, url, wire) in [
            ("/ip4/10.0.0.1/tcp/9090/ws", "ws://10.0.0.1:9090", None),
            ("/ip4/10.0.0.1/tcp/80/ws", "ws://10.0.0.1", None),
            ("/ip4/10.0.0.1/tcp/443/ws", "ws://10.0.0.1:443", None),
            ("/ip6/::1/tcp/443/wss", "wss://[::1]", None),
            ("/ip6/fe80::1/tcp/80/wss", "wss://[fe80::1]:80", None),
            ("/dns/star.example/tcp/443/wss", "wss://star.example", None),
            ("/dns4/star.example/tcp/80/ws", "ws://star.example", None),
            ("/dns6/star.example/tcp/81/ws", "ws://star.example:81", None),
            (
                "/dnsaddr/star.example/tcp/81/ws",
                "ws://star.example:81",
                None,
            ),
            (
                "/dns4/star.example/tcp/443/tls/ws",
                "wss://star.example",
                Some("/dns4/star.example/tcp/443/wss"),
            ),
        ] {
            for peer in ["", PEER] {
                let (p2p, ipfs) = match peer {
                    "" => (String::new(), String::new()),
                    peer => (format!("/p2p/{peer}"), format!("/ipfs/{peer}")),
                };
                let addr = parse(&format!("{text}/p2p-websocket-star{p2p}")).expect(text);
                let base = format!("{}/p2p-websocket-star", wire.unwrap_or(text));
                assert_eq!(addr.rendezvous().to_string(), url);
                assert_eq!(addr.to_multiaddr().to_string(), format!("{base}{p2p}"));
                assert_eq!(addr.to_wire(), format!("{base}{ipfs}"));
                assert_eq!(StarAddr::from_wire(&addr.to_wire()), Ok(addr));
            }
        }
    }

    #[test]
    fn the_ipfs_form_is_understood_as_the_p2p_form() {
        let base = "/ip4/10.0.0.1/tcp/9090/ws/p2p-websocket-star";
        assert_eq!(
            parse(&format!("{base}/ipfs/{PEER}")),
            parse(&format!("{base}/p2p/{PEER}"))
        );
    }

    #[test]
    fn a_peers_own_spelling_is_kept_for_the_wire_only() {
        for spelling in [
            format!("/ip4/127.0.0.1/tcp/08080/ws/p2p-websocket-star/ipfs/{PEER}"),
            format!("/ip6/0:0:0:0:0:0:0:1/tcp/80/ws/p2p-websocket-star/ipfs/{PEER}"),
        ] {
            let addr = StarAddr::from_wire(&spelling).expect("valid");
            assert!(addr.has_own_spelling());
            assert_eq!(addr.to_wire(), spelling);
            assert_ne!(addr.to_multiaddr().to_string(), spelling);
            assert_eq!(
                parse(&addr.to_multiaddr().to_string()).map(|a| a.spelling),
                Ok(None)
            );
        }
    }

    #[test]
    fn other_transports_addresses_are_not_ours() {
        for text in ["/ip4/1.2.3.4/tcp/1/ws", "/ip4/1.2.3.4/udp/1/quic-v1", ""] {
            assert_eq!(parse(text), Err(AddressError::NotWebsocketStar), "{text}");
        }
    }

    #[test]
    fn a_malformed_address_names_the_part_that_is_wrong() {
        type Kind = fn(String) -> AddressError;
        let cases: [(&str, Kind, &str); 12] = [
            (
                "/p2p-websocket-star",
                AddressError::Host,
                "/p2p-websocket-star",
            ),
            ("/tcp/1/ws/p2p-websocket-star", AddressError::Host, "/tcp/1"),
            ("/unix/a/p2p-websocket-star", AddressError::Host, "/unix/a"),
            (
                "/ip4/1.2.3.4/p2p-websocket-star",
                AddressError::Port,
                "/p2p-websocket-star",
            ),
            (
                "/ip4/1.2.3.4/tcp/0/ws/p2p-websocket-star",
                AddressError::Port,
                "/tcp/0",
            ),
            (
                "/ip4/1.2.3.4/udp/1/ws/p2p-websocket-star",
                AddressError::Port,
                "/udp/1",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/p2p-websocket-star",
                AddressError::WebSocket,
                "/p2p-websocket-star",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/tls/wss/p2p-websocket-star",
                AddressError::WebSocket,
                "/wss",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/x-parity-ws/%2Fpath/p2p-websocket-star",
                AddressError::WebSocket,
                "/x-parity-ws/%2Fpath",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/ws/p2p-circuit/p2p-websocket-star",
                AddressError::Star,
                "/p2p-circuit",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/p2p-circuit",
                AddressError::Trailing,
                "/p2p-circuit",
            ),
            (
                "/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/p2p/QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t/p2p-circuit",
                AddressError::Trailing,
                "/p2p-circuit",
            ),
        ];
        for (text, kind, part) in cases {
            assert_eq!(parse(text), Err(kind(part.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_wire_address_is_bounded() {
        let long = format!("/dns4/{}/tcp/1/ws/p2p-websocket-star", "a".repeat(600));
        assert_eq!(
            StarAddr::from_wire(&long),
            Err(AddressError::TooLong(long.len()))
        );
        assert!(matches!(
            StarAddr::from_wire("no"),
            Err(AddressError::Syntax(_))
        ));
    }
}
