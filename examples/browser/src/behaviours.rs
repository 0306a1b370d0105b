//! The protocols of the node in the page: the chat of `examples/chat.rs`, files, identify and ping.

use std::{error::Error, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, connection_limits, gossipsub, identify,
    identity::Keypair,
    ping,
    swarm::{
        NetworkBehaviour,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream as stream;
use libp2p_websocket_star::{AddressGuard, Behaviour};

/// The protocol that transfers one file over one stream. See `transfer`.
pub const FILES: StreamProtocol = StreamProtocol::new("/star-example/file/1");
/// The topic of `examples/chat.rs`.
pub const TOPIC: &str = "chat";

const ROUND_TRIPS: Duration = Duration::from_secs(5);
/// The most connections of a page, and the most with one peer.
const CONNECTIONS: (u32, u32) = (256, 4);

#[derive(NetworkBehaviour)]
pub struct Behaviours {
    // This behaviour comes first, so that it refuses a connection before the others see it.
    limits: connection_limits::Behaviour,
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    pub gossipsub: gossipsub::Behaviour,
    pub streams: stream::Behaviour,
}

impl Behaviours {
    /// # Errors
    /// If gossipsub rejects its settings.
    pub fn new(key: &Keypair, star: Behaviour) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let identify = identify::Config::new("/star-example".to_owned(), key.public());
        let mut gossipsub = gossipsub::Behaviour::new(
            gossipsub::MessageAuthenticity::Signed(key.clone()),
            gossipsub::ConfigBuilder::default()
                .heartbeat_interval(Duration::from_secs(1))
                .build()?,
        )?;
        gossipsub.subscribe(&topic())?;
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(CONNECTIONS.0))
            .with_max_established_per_peer(Some(CONNECTIONS.1));
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            star,
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(ROUND_TRIPS)),
            gossipsub,
            streams: stream::Behaviour::new(),
        })
    }
}

pub fn topic() -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(TOPIC)
}

/// Returns options that dial a peer unless it is connected or being dialled.
pub fn once(peer: PeerId) -> DialOpts {
    DialOpts::peer_id(peer)
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .build()
}
