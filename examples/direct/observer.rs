//! A rendezvous, with a libp2p node beside it that tells other nodes their public addresses.

use std::net::IpAddr;

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify, multiaddr::Protocol, noise, swarm::SwarmEvent, tcp,
    yamux,
};
use libp2p_websocket_star::rendezvous::{Config, Server};

use crate::Fallible;

pub struct Observer {
    server: Server,
    swarm: Swarm<identify::Behaviour>,
    pub rendezvous: Multiaddr,
    pub addresses: Vec<Multiaddr>,
}

impl Observer {
    /// Starts both at the given ports, where 0 means any free port.
    pub async fn start(host: IpAddr, (rendezvous, observer): (u16, u16)) -> Fallible<Self> {
        let config = Config::default().with_listen_addr((host, rendezvous).into());
        let server = Server::bind(config).await?;
        let rendezvous = server.addresses().into_iter().next();
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )?
            .with_quic()
            .with_behaviour(|key| {
                let config = identify::Config::new("/observer/1.0.0".to_owned(), key.public());
                identify::Behaviour::new(config)
            })?
            .build();
        let host = Multiaddr::from(host);
        let udp = host.clone().with(Protocol::Udp(observer));
        swarm.listen_on(udp.with(Protocol::QuicV1))?;
        swarm.listen_on(host.with(Protocol::Tcp(observer)))?;
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                addresses.push(address.with(Protocol::P2p(*swarm.local_peer_id())));
            }
        }
        Ok(Self {
            server,
            swarm,
            rendezvous: rendezvous.ok_or("the rendezvous has no address")?,
            addresses,
        })
    }

    /// Runs until the rendezvous ends. Identify reports the observed address to each peer that connects. Idle
    /// connections are then closed.
    pub async fn goes_on(self) -> Fallible<()> {
        let mut swarm = self.swarm;
        let answers = async {
            loop {
                swarm.select_next_some().await;
            }
        };
        tokio::select! {
            ended = self.server.ended() => Err(ended.into()),
            never = answers => never,
        }
    }
}
