//! The addresses of rendezvous and peers, as people write them.

use std::{net::IpAddr, str::FromStr};

use http::Uri;
use libp2p_identity::{ParseError, PeerId};
use libp2p_websocket_star::{StarAddr, error::AddressError};
use multiaddr::{Multiaddr, Protocol};

use crate::output::words;

/// The environment variable with the rendezvous to use if none is given.
const VARIABLE: &str = "STAR_RENDEZVOUS";

/// The reason why a rendezvous or a peer cannot be read from what was given.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(
        "{0}; use an address such as /dns4/star.example/tcp/443/wss/p2p-websocket-star, or wss://star.example"
    )]
    Address(#[from] AddressError),
    #[error(
        "the URL must be of the form wss://star.example or ws://127.0.0.1:9090, without a path"
    )]
    Url,
    #[error("no rendezvous is given: name one, or set {VARIABLE}")]
    NoRendezvous,
    #[error("{VARIABLE}: {0}")]
    Variable(#[source] Box<PlaceError>),
    #[error("{VARIABLE} is not valid Unicode")]
    NotUnicode,
    #[error(
        "no peer is given: name the rendezvous and the peer id, or an address that contains both"
    )]
    NoPeer,
    #[error("{:?} is not a valid peer id: {error}", .text.chars().take(100).collect::<String>())]
    PeerId { text: String, error: ParseError },
    #[error("the peer id in the address is not the one that is given after it")]
    TwoPeers,
    #[error("too many arguments: {0}")]
    Extra(String),
    #[error("the address must be that of a rendezvous, not of a peer: leave out /p2p/{0}")]
    Peer(PeerId),
}

/// A rendezvous, or a peer at one.
#[derive(Debug, Clone)]
pub struct Place(pub StarAddr);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let text = text.trim();
        if text.contains("://") {
            return from_url(text).map(Self);
        }
        Ok(Self(text.parse()?))
    }
}

/// Converts the URL of a rendezvous to its address.
fn from_url(text: &str) -> Result<StarAddr, PlaceError> {
    let uri: Uri = text.parse().map_err(|_| PlaceError::Url)?;
    let (secure, usual) = match uri.scheme_str() {
        Some("wss" | "https") => (true, 443),
        Some("ws" | "http") => (false, 80),
        _ => return Err(PlaceError::Url),
    };
    let host = uri.host().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let has_port = authority != host;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if !is_bare || authority.contains('@') || (has_port && uri.port_u16().is_none()) {
        return Err(PlaceError::Url);
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    let host = bare
        .parse::<IpAddr>()
        .map_or_else(|_| Protocol::Dns(bare.into()), Protocol::from);
    let socket = match secure {
        true => Protocol::Wss("/".into()),
        false => Protocol::Ws("/".into()),
    };
    let address = Multiaddr::from(host)
        .with(Protocol::Tcp(uri.port_u16().unwrap_or(usual)))
        .with(socket)
        .with(Protocol::P2pWebSocketStar);
    Ok(StarAddr::try_from(&address)?)
}

/// Returns the rendezvous that was given, or the one that the environment names.
///
/// # Errors
/// If there is none, it is not valid, or it is the address of a peer.
pub fn rendezvous(given: Option<Place>) -> Result<StarAddr, PlaceError> {
    let place = match given {
        Some(Place(place)) => place,
        None => from_environment()?,
    };
    match place.peer() {
        Some(peer) => Err(PlaceError::Peer(peer)),
        None => Ok(place),
    }
}

/// Returns the text that was given, or that of the environment variable, for [`rendezvous`] to parse.
///
/// # Errors
/// If there is none, or the variable is not Unicode.
pub fn rendezvous_text(given: Option<String>) -> Result<String, PlaceError> {
    match given {
        Some(text) => Ok(text),
        None => variable(),
    }
}

/// Returns the peer that was given, and its address at a rendezvous.
///
/// # Errors
/// If the rendezvous or the peer is missing or not valid.
pub fn peer(given: &[String]) -> Result<(StarAddr, PeerId), PlaceError> {
    let (place, peer) = match given {
        [] => return Err(PlaceError::NoPeer),
        [one] if one.contains('/') => (one.parse::<Place>()?.0, None),
        [one] => (from_environment()?, Some(peer_id(one)?)),
        [place, peer] => (place.parse::<Place>()?.0, Some(peer_id(peer)?)),
        [_, _, extra, ..] => return Err(PlaceError::Extra(words(extra))),
    };
    let peer = match (place.peer(), peer) {
        (Some(named), Some(peer)) if named != peer => return Err(PlaceError::TwoPeers),
        (named, peer) => peer.or(named).ok_or(PlaceError::NoPeer)?,
    };
    Ok((place.with_peer(peer), peer))
}

fn peer_id(text: &str) -> Result<PeerId, PlaceError> {
    text.parse().map_err(|error| PlaceError::PeerId {
        text: text.to_owned(),
        error,
    })
}

fn variable() -> Result<String, PlaceError> {
    let value = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let value = value.ok_or(PlaceError::NoRendezvous)?;
    value.into_string().map_err(|_| PlaceError::NotUnicode)
}

fn from_environment() -> Result<StarAddr, PlaceError> {
    let wrong = |error| PlaceError::Variable(Box::new(error));
    Ok(variable()?.parse::<Place>().map_err(wrong)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let place: Place = text.parse().ok()?;
        Some(place.0.to_multiaddr().to_string())
    }

    #[test]
    fn urls_and_addresses_are_read() {
        for (text, expected) in [
            ("wss://star.example", "/dns/star.example/tcp/443/wss"),
            ("https://star.example/", "/dns/star.example/tcp/443/wss"),
            ("ws://star.example", "/dns/star.example/tcp/80/ws"),
            ("http://127.0.0.1:9090", "/ip4/127.0.0.1/tcp/9090/ws"),
            ("ws://[::1]:9090/", "/ip6/::1/tcp/9090/ws"),
            (
                " /dns4/star.example/tcp/443/wss/p2p-websocket-star/ ",
                "/dns4/star.example/tcp/443/wss",
            ),
        ] {
            let expected = format!("{expected}/p2p-websocket-star");
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "star.example",
            "ftp://star.example",
            "wss://",
            "wss://a@star.example",
            "wss://star.example/x",
            "wss://star.example?x=1",
            "wss://star.example:99999",
            "wss://star.example:",
            "/dns4/star.example/tcp/443/wss",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_peer_is_named_once_or_twice_the_same() {
        let (one, other) = (PeerId::random(), PeerId::random());
        let star = "ws://127.0.0.1:9090".to_owned();
        let full = format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/p2p/{one}");
        let (address, found) = peer(&[star.clone(), one.to_string()]).expect("both");
        assert_eq!(
            (address.to_multiaddr().to_string(), found),
            (full.clone(), one)
        );
        assert_eq!(peer(std::slice::from_ref(&full)).expect("both").1, one);
        assert!(matches!(
            peer(&[full, other.to_string()]),
            Err(PlaceError::TwoPeers)
        ));
        assert!(matches!(
            peer(std::slice::from_ref(&star)),
            Err(PlaceError::NoPeer)
        ));
        assert!(matches!(
            peer(&[star, "x".to_owned()]),
            Err(PlaceError::PeerId { .. })
        ));
        assert!(matches!(peer(&[]), Err(PlaceError::NoPeer)));
    }
}
