//! The behaviours of a node, in the page and native.

use std::time::Duration;

use libp2p::{StreamProtocol, identify, identity::Keypair, ping, swarm::NetworkBehaviour};
use libp2p_stream as stream;
use libp2p_websocket_star::{AddressGuard, Behaviour};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/star-bench/1");
/// The time for which an idle connection is kept between measurements: longer than any run.
pub const IDLE: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
pub struct Behaviours {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    pub streams: stream::Behaviour,
}

impl Behaviours {
    pub fn new(key: &Keypair, star: Behaviour) -> Self {
        let identify = identify::Config::new("/star-bench/1".to_owned(), key.public());
        Self {
            star,
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::default(),
            streams: stream::Behaviour::new(),
        }
    }
}
