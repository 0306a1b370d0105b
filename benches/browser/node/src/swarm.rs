//! The node with noise and yamux.

use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId, SwarmBuilder, identity::Keypair, swarm::SwarmEvent};
use libp2p_stream as stream;
use libp2p_websocket_star::{Config, preset::Star};
use wasm_bindgen_futures::spawn_local;

use crate::{
    Result,
    behaviours::{Behaviours, IDLE, PROTOCOL},
    error,
    measure::Stream,
};

pub struct Swarm {
    peer: PeerId,
    streams: stream::Control,
}

impl Swarm {
    pub async fn start(rendezvous: Multiaddr, to: Multiaddr) -> Result<Self> {
        let mut swarm = swarm()?;
        swarm.listen_on(rendezvous).map_err(error)?;
        let peer = loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { .. } => swarm.dial(to.clone())?,
                SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                SwarmEvent::ListenerError { error, .. } => return Err(error.into()),
                SwarmEvent::ListenerClosed { .. } => return Err(error("the listener closed")),
                _ => {}
            }
        };
        let streams = swarm.behaviour().streams.new_control();
        spawn_local(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Self { peer, streams })
    }

    pub async fn open(&self) -> Result<Stream> {
        let opened = self.streams.clone().open_stream(self.peer, PROTOCOL).await;
        Ok(Box::new(opened?))
    }
}

fn swarm() -> Result<libp2p::Swarm<Behaviours>> {
    let star = Star::new(Config::default().with_allow_local_rendezvous(true));
    let builder = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_wasm_bindgen()
        .with_other_transport(|key| star.transport(key))
        .map_err(error)?
        .with_behaviour(|key| Ok(Behaviours::new(key, star.behaviour()?)))
        .map_err(error)?;
    Ok(builder
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build())
}
