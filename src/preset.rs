//! websocket-star with everything that a swarm needs around it, from one key: noise, yamux and the behaviour.
//!
//! ```
//! use libp2p::{Swarm, SwarmBuilder};
//! use libp2p_websocket_star::{Behaviour, Config, preset::Star};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let star = Star::new(Config::default());
//! let mut swarm: Swarm<Behaviour> = SwarmBuilder::with_new_identity()
//!     .with_tokio()
//!     .with_other_transport(|key| star.transport(key))?
//!     .with_behaviour(|_| star.behaviour())?
//!     .build();
//!
//! swarm.listen_on("/dns4/star.example/tcp/443/wss/p2p-websocket-star".parse()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! Other transports, `with_dns` and `with_relay_client` can be added in the order of the builder.

#[cfg(feature = "secio")]
mod old;

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use libp2p_core::{Transport as _, muxing::StreamMuxerBox, transport::Boxed, upgrade::Version};
use libp2p_identity::{Keypair, PeerId};
use libp2p_noise as noise;
use libp2p_yamux as yamux;

#[cfg(feature = "secio")]
#[cfg_attr(docsrs, doc(cfg(feature = "secio")))]
pub use self::old::{Identify, is_understood, transport};
use crate::{Behaviour, Config, Discovery, Metrics, WebSocketStarTransport};

/// The transport of a swarm and its behaviour. Both have the swarm's key, because it is passed only once.
#[derive(Debug)]
pub struct Star {
    config: Config,
    made: Mutex<Option<(Discovery, Metrics)>>,
}

/// The transport has not been created yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Star::transport must be called before the rest of Star")]
pub struct NoTransport;

impl Star {
    /// Creates a node with this configuration.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            made: Mutex::default(),
        }
    }

    /// Creates the transport, secured with noise and multiplexed with yamux. `keypair` is the key of the swarm.
    ///
    /// # Errors
    /// If the key cannot sign noise's static key. The error type is the one that `SwarmBuilder` requires.
    pub fn transport(
        &self,
        keypair: &Keypair,
    ) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn Error + Send + Sync>> {
        let noise = noise::Config::new(keypair)?;
        let star = WebSocketStarTransport::new(keypair, self.config.clone());
        *self.lock() = Some((star.discovery(), star.metrics()));
        let upgraded = star
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default());
        Ok(upgraded.boxed())
    }

    /// Creates the behaviour for the most recently created transport.
    ///
    /// # Errors
    /// [`NoTransport`] if no transport was created.
    pub fn behaviour(&self) -> Result<Behaviour, Box<dyn Error + Send + Sync>> {
        Ok(Behaviour::of(self.discovery()?))
    }

    /// Creates a behaviour that upgrades the connections of the most recently created transport to direct ones.
    ///
    /// # Errors
    /// [`NoTransport`] if no transport was created.
    #[cfg(feature = "direct")]
    #[cfg_attr(docsrs, doc(cfg(feature = "direct")))]
    pub fn direct(&self) -> Result<crate::direct::Behaviour, Box<dyn Error + Send + Sync>> {
        Ok(crate::direct::Behaviour::new(&self.discovery()?))
    }

    /// Returns the peers that the most recently created transport discovers, as a stream.
    ///
    /// # Errors
    /// [`NoTransport`] if no transport was created.
    pub fn discovery(&self) -> Result<Discovery, NoTransport> {
        let made = self.lock().clone();
        made.map(|(discovery, _)| discovery).ok_or(NoTransport)
    }

    /// Returns the counters of the most recently created transport.
    ///
    /// # Errors
    /// [`NoTransport`] if no transport was created.
    pub fn metrics(&self) -> Result<Metrics, NoTransport> {
        let made = self.lock().clone();
        made.map(|(_, metrics)| metrics).ok_or(NoTransport)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Discovery, Metrics)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_behaviour_comes_after_the_transport() {
        let star = Star::new(Config::default());
        let error = star.behaviour().expect_err("no transport").to_string();
        assert_eq!(
            error,
            "Star::transport must be called before the rest of Star"
        );
        star.transport(&Keypair::generate_ed25519())
            .expect("the key signs");
        assert!(star.behaviour().is_ok());
    }
}
