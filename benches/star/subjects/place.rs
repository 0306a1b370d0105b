//! The address of a server.

use std::{convert::Infallible, fmt, net::SocketAddr, str::FromStr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_websocket_star::Config;

use crate::Result;

/// The address of a server, and its certificate if it uses TLS. As an argument of a child, this is written as the
/// address, a space and the certificate in hex. The address is empty if peers need no server.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub address: String,
    pub certificate: Option<Vec<u8>>,
}

impl Place {
    /// Creates a place without TLS.
    pub fn plain(address: String) -> Self {
        Self {
            address,
            certificate: None,
        }
    }

    pub fn is_nowhere(&self) -> bool {
        self.address.is_empty()
    }

    /// Returns the same server, reached at another endpoint.
    pub fn moved(&self, endpoint: SocketAddr) -> Result<Self> {
        if self.is_nowhere() {
            return Ok(self.clone());
        }
        Ok(Self {
            address: moved(&self.address, endpoint)?,
            certificate: self.certificate.clone(),
        })
    }

    /// Returns the configuration of a peer that joins at this server.
    pub fn config(&self) -> Result<Config> {
        let config = Config::default().with_allow_local_rendezvous(true);
        Ok(match &self.certificate {
            Some(certificate) => config.with_root_certificate(certificate)?,
            None => config,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        match &self.certificate {
            Some(certificate) => write!(f, " {}", hex::encode(certificate)),
            None => Ok(()),
        }
    }
}

/// Parses a place. Invalid hex counts as no certificate; the peers then report that they do not trust the server.
impl FromStr for Place {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (address, certificate) = text.split_once(' ').unwrap_or((text, ""));
        let certificate = hex::decode(certificate).ok();
        Ok(Self {
            address: address.to_owned(),
            certificate: certificate.filter(|bytes| !bytes.is_empty()),
        })
    }
}

/// Returns the endpoint that a connection to an address goes to: the IPv4 address and TCP port that a multiaddress
/// begins with, or a socket address itself.
pub fn endpoint(address: &str) -> Result<SocketAddr> {
    if let Ok(endpoint) = address.parse() {
        return Ok(endpoint);
    }
    let parsed: Multiaddr = address.parse()?;
    let mut parts = parsed.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => Ok((ip, port).into()),
        _ => Err(format!("no endpoint in {address}").into()),
    }
}

/// Returns the same address with another endpoint.
pub fn moved(address: &str, endpoint: SocketAddr) -> Result<String> {
    if address.parse::<SocketAddr>().is_ok() {
        return Ok(endpoint.to_string());
    }
    let parsed: Multiaddr = address.parse()?;
    let start = Multiaddr::from(endpoint.ip()).with(Protocol::Tcp(endpoint.port()));
    let moved: Multiaddr = start.iter().chain(parsed.iter().skip(2)).collect();
    Ok(moved.to_string())
}
