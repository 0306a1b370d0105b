//! A node at one rendezvous: it finds peers, answers pings, and accepts streams.

use std::{error::Error, time::Duration};

use futures::StreamExt as _;
use libp2p_core::{
    Transport as _,
    transport::{TransportError, timeout::TransportTimeout},
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_ping as ping;
use libp2p_swarm::{
    ConnectionError, DialError, NetworkBehaviour, Swarm, SwarmEvent,
    dial_opts::{DialOpts, PeerCondition},
};
use libp2p_websocket_star::{
    self as star, Config, Metrics, StarAddr,
    error::{DialError as StarDialError, JoinError, LinkError},
    preset::Star,
};
use multiaddr::Multiaddr;

use crate::{
    failure::{Failure, StartError},
    output::words,
};

/// How long a connection without a stream is kept.
const IDLE: Duration = Duration::from_secs(10);
/// The time limit for securing and multiplexing a connection, because the other end may say nothing.
const UPGRADE: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub struct Behaviour {
    pub discovery: star::Behaviour,
    pub ping: ping::Behaviour,
    pub streams: libp2p_stream::Behaviour,
}

pub type Event = SwarmEvent<BehaviourEvent>;

/// A node.
pub struct Node {
    pub swarm: Swarm<Behaviour>,
    metrics: Metrics,
}

/// The intervals and time limits of a node.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// How long a connection without a stream is kept.
    pub idle: Duration,
    /// The time limit for securing and multiplexing a connection.
    pub upgrade: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(20),
            idle: IDLE,
            upgrade: UPGRADE,
        }
    }
}

impl Habits {
    /// Returns the defaults, with this time limit for securing and multiplexing a connection.
    pub fn within(upgrade: Duration) -> Self {
        Self {
            upgrade,
            ..Self::default()
        }
    }
}

impl Node {
    /// Creates a node that does nothing yet.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn new(key: &Keypair, config: Config, habits: Habits) -> Result<Self, StartError> {
        let star = Star::new(config);
        let transport = TransportTimeout::new(star.transport(key)?, habits.upgrade).boxed();
        let pings = ping::Config::new()
            .with_interval(habits.ping_interval)
            .with_timeout(habits.ping_timeout);
        let behaviour = Behaviour {
            discovery: star.behaviour()?,
            ping: ping::Behaviour::new(pings),
            streams: libp2p_stream::Behaviour::new(),
        };
        let config = libp2p_swarm::Config::with_tokio_executor();
        let config = config.with_idle_connection_timeout(habits.idle);
        let peer = key.public().to_peer_id();
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, peer, config),
            metrics: star.metrics()?,
        })
    }

    pub fn peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    pub async fn next(&mut self) -> Event {
        self.swarm.select_next_some().await
    }

    /// Joins the rendezvous, and returns the address of this node there.
    ///
    /// # Errors
    /// If the first attempt fails; the error has the transport's message.
    pub async fn join(&mut self, star: &StarAddr) -> Result<Multiaddr, JoinFailure> {
        let listening = self.swarm.listen_on(without_peer(star));
        listening.map_err(|error| JoinFailure(Box::new(error)))?;
        loop {
            match self.next().await {
                SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
                SwarmEvent::ListenerError { error, .. }
                | SwarmEvent::ListenerClosed {
                    reason: Err(error), ..
                } => return Err(JoinFailure(Box::new(error))),
                _ => {}
            }
        }
    }

    /// Starts to dial a peer, unless it is connected or being dialled.
    ///
    /// # Errors
    /// If the peer cannot be dialled at all.
    pub fn dial(&mut self, peer: PeerId, address: &StarAddr) -> Result<(), Failure> {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(vec![address.to_multiaddr()])
            .build();
        match self.swarm.dial(opts) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => Ok(()),
            Err(error) => Err(Failure::Unreachable(dial_error(&error))),
        }
    }

    /// Dials a peer and waits until it is connected.
    ///
    /// # Errors
    /// If the peer cannot be reached.
    pub async fn connect(&mut self, peer: PeerId, address: &StarAddr) -> Result<(), Failure> {
        self.dial(peer, address)?;
        while !self.swarm.is_connected(&peer) {
            if let SwarmEvent::OutgoingConnectionError {
                peer_id: Some(failed),
                error,
                ..
            } = self.next().await
                && failed == peer
            {
                return Err(Failure::Unreachable(dial_error(&error)));
            }
        }
        Ok(())
    }

    /// Returns how long the rendezvous took to answer the last heartbeat, if there was one. Heartbeats are about 25 s
    /// apart.
    pub fn heartbeat(&self) -> Option<Duration> {
        let snapshot = self.metrics.snapshot();
        snapshot.links.iter().find_map(|link| link.round_trip)
    }
}

/// Returns the address without the peer, which is the address of the rendezvous.
fn without_peer(address: &StarAddr) -> Multiaddr {
    let mut address = address.to_multiaddr();
    if let Some(multiaddr::Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

/// The reason why a rendezvous could not be joined.
#[derive(Debug)]
pub struct JoinFailure(Box<dyn Error + Send + Sync>);

impl JoinFailure {
    pub fn cause(&self) -> Option<Cause<'_>> {
        Cause::of(&*self.0)
    }

    pub fn told(&self) -> String {
        told(&*self.0)
    }
}

impl From<JoinFailure> for Failure {
    fn from(failure: JoinFailure) -> Self {
        Self::Rendezvous(failure.told())
    }
}

/// The error of the transport that caused a failure.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    Link(&'a LinkError),
    Join(&'a JoinError),
    Dial(&'a StarDialError),
}

impl<'a> Cause<'a> {
    /// Finds the cause in an error of libp2p. Some of these errors return as their source only the source of the error
    /// that they contain.
    pub fn of(error: &'a (dyn Error + 'static)) -> Option<Self> {
        let mut error = Some(error);
        while let Some(this) = error {
            let link = this.downcast_ref().map(Self::Link);
            let join = || this.downcast_ref().map(Self::Join);
            let dial = || this.downcast_ref().map(Self::Dial);
            if let Some(found) = link.or_else(join).or_else(dial) {
                return Some(found);
            }
            // The source of an I/O error is the source of the error inside it, so the inner error is taken instead.
            let inner = this.downcast_ref::<std::io::Error>();
            error = match inner.and_then(|io| io.get_ref()) {
                Some(inner) => Some(inner),
                None => this.source(),
            };
        }
        None
    }

    /// Finds the cause of a failed dial.
    pub fn of_dial(error: &'a DialError) -> Option<Self> {
        let DialError::Transport(failed) = error else {
            return None;
        };
        failed.iter().find_map(|(_, error)| match error {
            TransportError::Other(error) => Self::of(error),
            TransportError::MultiaddrNotSupported(_) => None,
        })
    }
}

/// Returns the message of a libp2p error in one line. The transport's own errors include their causes.
pub fn told(error: &(dyn Error + 'static)) -> String {
    words(&error.to_string())
}

/// Returns the reason why a dial failed, without the address, which libp2p would repeat: there was only one.
pub fn dial_error(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer answers at its address: {obtained}")
        }
        DialError::Transport(failed) => match failed.first() {
            Some((_, TransportError::Other(error))) => told(error),
            _ => told(error),
        },
        _ => told(error),
    }
}

/// Returns the reason why a connection ended, if it is known.
pub fn of_end(cause: Option<&ConnectionError>) -> String {
    match cause {
        Some(ConnectionError::IO(error)) => words(&error.to_string()),
        Some(ConnectionError::KeepAliveTimeout) => "the connection was not used".to_owned(),
        None => "the connection was closed".to_owned(),
    }
}
