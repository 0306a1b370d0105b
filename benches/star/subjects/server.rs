//! The server between the peers, in this process.

use std::{fmt, str::FromStr, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    core::{Transport as _, upgrade},
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{Swarm, SwarmEvent},
    tcp, yamux,
};
use libp2p_websocket_star::rendezvous::{self, TlsConfig};

use super::{Task, place::Place};
use crate::Result;

#[derive(Debug, Clone, Copy)]
pub enum ServerKind {
    /// The rendezvous of this crate.
    Rendezvous,
    /// The same with TLS and a self-signed certificate.
    SecureRendezvous,
    /// A circuit relay v2.
    Relay,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rendezvous => "rendezvous",
            Self::SecureRendezvous => "secure-rendezvous",
            Self::Relay => "relay",
        })
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rendezvous" => Ok(Self::Rendezvous),
            "secure-rendezvous" => Ok(Self::SecureRendezvous),
            "relay" => Ok(Self::Relay),
            _ => Err(format!("no server {text}")),
        }
    }
}

/// A running server.
pub struct Server {
    pub place: Place,
    _running: Running,
}

enum Running {
    Rendezvous { _server: rendezvous::Server },
    Relay { _task: Task },
}

impl Server {
    pub async fn start(kind: ServerKind) -> Result<Self> {
        match kind {
            ServerKind::Rendezvous => start_rendezvous(rendezvous::Config::default(), None).await,
            ServerKind::SecureRendezvous => {
                let (tls, certificate) = self_signed()?;
                let config = rendezvous::Config::default().with_tls(tls);
                start_rendezvous(config, Some(certificate)).await
            }
            ServerKind::Relay => start_relay().await,
        }
    }
}

/// Returns a self-signed certificate for the loopback address with its key, and the certificate that clients have to
/// trust.
fn self_signed() -> Result<(TlsConfig, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = TlsConfig::from_pem(chain.as_bytes(), key.as_bytes())?;
    Ok((tls, made.cert.der().to_vec()))
}

async fn start_rendezvous(
    config: rendezvous::Config,
    certificate: Option<Vec<u8>>,
) -> Result<Server> {
    let config = config.with_listen_addr(([127, 0, 0, 1], 0).into());
    let server = rendezvous::Server::bind(config).await?;
    let addresses = server.addresses();
    let address = addresses.first().ok_or("the rendezvous has no address")?;
    Ok(Server {
        place: Place {
            address: address.to_string(),
            certificate,
        },
        _running: Running::Rendezvous { _server: server },
    })
}

async fn start_relay() -> Result<Server> {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(&key)?)
        .multiplex(yamux::Config::default())
        .boxed();
    let behaviour = relay::Behaviour::new(peer, unlimited());
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(super::swarm::FOR_EVER);
    let mut swarm = Swarm::new(transport, behaviour, peer, config);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => break address,
            SwarmEvent::ListenerClosed { reason, .. } => reason?,
            _ => {}
        }
    };
    swarm.add_external_address(address.clone());
    let task = Task::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Ok(Server {
        place: Place::plain(address.with(Protocol::P2p(peer)).to_string()),
        _running: Running::Relay { _task: task },
    })
}

/// Returns a relay configuration without tight limits, as on a dedicated relay: the defaults end a circuit after 128
/// KiB.
fn unlimited() -> relay::Config {
    relay::Config {
        max_reservations_per_peer: 1024,
        reservation_duration: Duration::from_secs(24 * 3600),
        reservation_rate_limiters: Vec::new(),
        max_circuits: 1024,
        max_circuits_per_peer: 1024,
        max_circuit_duration: Duration::from_secs(24 * 3600),
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    }
}
