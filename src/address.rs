//! Addresses: one type for the two ways a websocket-star address is written.
//!
//! libp2p writes `/dns4/star.example/tcp/443/wss/p2p-websocket-star/p2p/<peer>`; the rendezvous and
//! the JavaScript peers write the same with `/ipfs/<peer>` and compare the strings byte for byte.
//! A [`StarAddr`] gives both forms and the rendezvous' URL, and keeps the spelling of an address that
//! came from the wire, because a peer can be dialled under its own spelling only.

mod name;
mod rendezvous;

use std::{str::FromStr, sync::Arc};

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

pub(crate) use self::name::is_name;
pub use self::rendezvous::{Host, Rendezvous};
use crate::words::Words;

/// The longest wire form that is accepted, in bytes. A DNS name has at most 253, a peer id about 60.
const MAX_WIRE_LEN: usize = 512;

/// Why an address is not a usable websocket-star address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The address has no `/p2p-websocket-star`, or leads on from there, as a circuit through a relay at a
    /// rendezvous does: it belongs to another transport.
    #[error("not a websocket-star address")]
    NotWebsocketStar,
    /// The address does not begin with a host.
    #[error(
        "the host must be /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr, and not empty; found `{}`",
        Words(.0)
    )]
    Host(String),
    /// The name of the host, or the one after `/tls/sni`, is none: a name has labels of 1 to 63 bytes with dots
    /// between them, 253 bytes in all, of letters and digits of any script, `-` and `_`; a dot may end it.
    #[error("`{}` is no name of a host", Words(.0))]
    Name(String),
    /// The host is not followed by a TCP port.
    #[error(
        "the host must be followed by /tcp/<port>, /tcp/443 for most that speak wss; found `{}`",
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
    /// The text is no multiaddr at all.
    #[error("not a multiaddr: {}", Words(.0))]
    Syntax(String),
    /// A wire form over 512 bytes.
    #[error("an address of {0} bytes; at most 512 are accepted")]
    TooLong(usize),
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

    /// The same peer at `rendezvous`. A kept spelling is dropped.
    #[must_use]
    pub(crate) fn with_rendezvous(&self, rendezvous: &Rendezvous) -> Self {
        Self {
            rendezvous: rendezvous.clone(),
            peer: self.peer,
            spelling: None,
        }
    }

    /// The libp2p form: `/ws`, `/wss` or `/tls/sni/<name>/ws`, and `/p2p/<peer>`.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let base = self.rendezvous.to_multiaddr();
        match self.peer {
            Some(peer) => base.with(Protocol::P2p(peer)),
            None => base,
        }
    }

    /// The wire form: the kept spelling, or `/ws` or `/wss` and `/ipfs/<peer>`.
    ///
    /// The name of `/tls/sni/<name>/ws` takes the place of the host there.
    pub fn to_wire(&self) -> String {
        let base = || self.rendezvous.to_wire();
        match (&self.spelling, self.peer) {
            (Some(spelling), _) => spelling.to_string(),
            (None, Some(peer)) => format!("{}/ipfs/{peer}", base()),
            (None, None) => base(),
        }
    }
}

/// Reads what a person has typed or pasted: as [`from_wire`](StarAddr::from_wire), but slashes at the
/// end, as addresses of JavaScript nodes have them, are forgiven, and no spelling is kept.
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
            Some(Protocol::Ws(path)) if path == "/" => {}
            Some(Protocol::Wss(path)) if path == "/" && !secure => secure = true,
            part => return Err(AddressError::WebSocket(found(part))),
        }
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

/// Whether an address ends at a peer or a rendezvous of ours, rather than leading through it or not there
/// at all.
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

/// Whether every name of a host in an address is one.
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
