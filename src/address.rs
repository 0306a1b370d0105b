//! Addresses: one type for the two forms in which a websocket-star address is written.
//!
//! libp2p writes `/dns4/star.example/tcp/443/wss/p2p-websocket-star/p2p/<peer>`. The rendezvous and the JavaScript
//! peers write the same address with `/ipfs/<peer>` and compare the strings byte for byte. A [`StarAddr`] gives both
//! forms and the URL of the rendezvous. It also keeps the spelling of an address that came from the wire, because a
//! peer can only be dialled under its own spelling.

mod name;
mod rendezvous;

use std::{fmt, str::FromStr, sync::Arc};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

pub(crate) use self::name::is_name;
pub use self::rendezvous::{Host, Rendezvous};
use crate::words::Words;

/// The longest accepted wire form, in bytes. A DNS name has at most 253 bytes and a peer id about 60.
pub(crate) const MAX_WIRE_LEN: usize = 512;

/// Why an address is not a usable websocket-star address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The address belongs to another transport: it has no `/p2p-websocket-star`, or it continues beyond the
    /// rendezvous, as a circuit through a relay at a rendezvous does.
    #[error("not a websocket-star address")]
    NotWebsocketStar,
    /// The address does not begin with a host.
    #[error(
        "the host must be /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr, and not empty; found `{}`",
        Words(.0)
    )]
    Host(String),
    /// The name of the host, or the name after `/tls/sni`, is not valid. A valid name has at most 253 bytes and
    /// consists of labels of 1 to 63 bytes, separated by dots; it may end in a dot. Labels consist of letters and
    /// digits of any script, `-` and `_`.
    #[error("`{}` is not a valid host name", Words(.0))]
    Name(String),
    /// The host is not followed by a TCP port.
    #[error(
        "the host must be followed by /tcp/<port> (usually /tcp/443 for wss); found `{}`",
        Words(.0)
    )]
    Port(String),
    /// The port is not followed by `/ws`, `/wss`, `/tls/ws` or `/tls/sni/<name>/ws`.
    #[error("the port must be followed by /ws, /wss, /tls/ws or /tls/sni/<name>/ws; found `{}`", Words(.0))]
    WebSocket(String),
    /// The WebSocket part is not followed by `/p2p-websocket-star`.
    #[error("the WebSocket must be followed by /p2p-websocket-star; found `{}`", Words(.0))]
    Star(String),
    /// Something other than a peer id follows `/p2p-websocket-star`.
    #[error("only /p2p/<peer id> may follow /p2p-websocket-star; found `{}`", Words(.0))]
    Trailing(String),
    /// The text is not a multiaddr.
    #[error("not a multiaddr: {}", Words(.0))]
    Syntax(String),
    /// The wire form is longer than 512 bytes.
    #[error("an address of {0} bytes; at most 512 are accepted")]
    TooLong(usize),
}

/// A valid websocket-star address: of a rendezvous, or of a peer at a rendezvous.
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
    /// The spelling on the wire, if it differs from the one that this type would produce.
    spelling: Option<Arc<str>>,
}

impl StarAddr {
    /// Parses the form that rendezvous and JavaScript peers use, and keeps its spelling.
    ///
    /// # Errors
    /// [`AddressError::Syntax`] if the text is not a multiaddr, [`AddressError::TooLong`] if it is longer than 512
    /// bytes, and otherwise the error for the part that is wrong.
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

    /// Returns the rendezvous through which this address leads.
    pub fn rendezvous(&self) -> &Rendezvous {
        &self.rendezvous
    }

    /// Returns the peer, if the address names one.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }

    /// Returns the address of `peer` at the same rendezvous. A kept spelling is dropped.
    #[must_use]
    pub fn with_peer(&self, peer: PeerId) -> Self {
        Self {
            rendezvous: self.rendezvous.clone(),
            peer: Some(peer),
            spelling: None,
        }
    }

    /// Returns the address of the same peer at `rendezvous`. A kept spelling is dropped.
    #[must_use]
    pub(crate) fn with_rendezvous(&self, rendezvous: &Rendezvous) -> Self {
        Self {
            rendezvous: rendezvous.clone(),
            peer: self.peer,
            spelling: None,
        }
    }

    /// Returns the libp2p form, with `/ws`, `/wss` or `/tls/sni/<name>/ws`, and with `/p2p/<peer>`.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let base = self.rendezvous.to_multiaddr();
        match self.peer {
            Some(peer) => base.with(Protocol::P2p(peer)),
            None => base,
        }
    }

    /// Returns the wire form: the kept spelling, or else the form with `/ws` or `/wss`, and with `/ipfs/<peer>`.
    ///
    /// For `/tls/sni/<name>/ws`, the name replaces the host.
    pub fn to_wire(&self) -> String {
        let base = || self.rendezvous.to_wire();
        match (&self.spelling, self.peer) {
            (Some(spelling), _) => spelling.to_string(),
            (None, Some(peer)) => format!("{}/ipfs/{peer}", base()),
            (None, None) => base(),
        }
    }
}

/// Parses an address that a person typed or pasted. It works like [`from_wire`](StarAddr::from_wire), but accepts
/// trailing slashes, which addresses of JavaScript nodes have, and keeps no spelling.
///
/// ```
/// use libp2p_websocket_star::StarAddr;
///
/// let star: StarAddr = "/dns4/star.example/tcp/443/wss/p2p-websocket-star/".parse()?;
/// let to_listen_on = star.to_multiaddr();
/// # Ok::<(), libp2p_websocket_star::error::AddressError>(())
/// ```
impl FromStr for StarAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut addr = Self::from_wire(text.trim().trim_end_matches('/'))?;
        addr.spelling = None;
        Ok(addr)
    }
}

/// Shows the address as [`to_multiaddr`](StarAddr::to_multiaddr) returns it.
impl fmt::Display for StarAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_multiaddr().fmt(f)
    }
}

impl From<StarAddr> for Multiaddr {
    fn from(addr: StarAddr) -> Self {
        addr.to_multiaddr()
    }
}

impl TryFrom<Multiaddr> for StarAddr {
    type Error = AddressError;

    fn try_from(addr: Multiaddr) -> Result<Self, AddressError> {
        Self::try_from(&addr)
    }
}

impl TryFrom<&Multiaddr> for StarAddr {
    type Error = AddressError;

    fn try_from(addr: &Multiaddr) -> Result<Self, AddressError> {
        if !is_ours(addr) {
            return Err(AddressError::NotWebsocketStar);
        }
        let mut parts = addr.iter();
        let mut next = || parts.next();

        let part = next();
        let host = part
            .as_ref()
            .and_then(Host::from_protocol)
            .ok_or_else(|| AddressError::Host(found(part)))?;
        if let Some(name) = host.name() {
            check_name(name)?;
        }
        let port = match next() {
            Some(Protocol::Tcp(port)) if port != 0 => port,
            part => return Err(AddressError::Port(found(part))),
        };
        let (secure, sni) = websocket(&mut next)?;
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

        let written = Self {
            rendezvous: Rendezvous {
                host,
                port,
                secure,
                sni,
            },
            peer,
            spelling: None,
        };
        let rendezvous = written.rendezvous.with_plain_names();
        let is_plain = rendezvous == written.rendezvous;
        Ok(Self {
            rendezvous,
            peer,
            spelling: (!is_plain).then(|| written.to_wire().into()),
        })
    }
}

/// Reads the parts of the WebSocket, with TLS or without. Returns whether it has TLS, and the name for SNI if there is one.
fn websocket<'a>(
    mut next: impl FnMut() -> Option<Protocol<'a>>,
) -> Result<(bool, Option<String>), AddressError> {
    let (mut secure, mut sni) = (false, None);
    let mut part = next();
    if let Some(Protocol::Tls) = part {
        secure = true;
        part = next();
        if let Some(Protocol::Sni(name)) = &part {
            check_name(name)?;
            sni = Some(name.to_string());
            part = next();
        }
    }
    match part {
        Some(Protocol::Ws(path)) if path == "/" => Ok((secure, sni)),
        Some(Protocol::Wss(path)) if path == "/" && !secure => Ok((true, sni)),
        part => Err(AddressError::WebSocket(found(part))),
    }
}

/// Returns whether an address ends at a rendezvous of this transport or at a peer there. An address that continues
/// beyond that, or that reaches the rendezvous through a relay, belongs to another transport.
fn is_ours(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    let before = parts
        .by_ref()
        .take_while(|part| !matches!(part, Protocol::P2pWebSocketStar));
    let through_a_relay = before.into_iter().any(|part| part == Protocol::P2pCircuit);
    addr.iter()
        .any(|part| matches!(part, Protocol::P2pWebSocketStar))
        && !through_a_relay
        && parts.all(|part| matches!(part, Protocol::P2p(_)))
}

/// Returns whether every host name in an address is valid.
#[cfg(feature = "rendezvous-server")]
pub(crate) fn names_are_names(addr: &Multiaddr) -> bool {
    addr.iter().all(|part| match part {
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name)
        | Protocol::Sni(name) => is_name(&name),
        _ => true,
    })
}

fn check_name(name: &str) -> Result<(), AddressError> {
    match is_name(name) {
        true => Ok(()),
        false => Err(AddressError::Name(name.to_owned())),
    }
}

fn found(part: Option<Protocol<'_>>) -> String {
    part.map_or_else(|| "the end".to_owned(), |part| part.to_string())
}

#[cfg(test)]
mod tests;
