//! A node that meets others at a rendezvous, and then connects to them directly.

use std::{net::IpAddr, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_websocket_star::{
    self as star, AddressGuard, Config,
    direct::{self, Event},
    preset::Star,
};
use tokio::time::timeout;

use crate::Fallible;

#[derive(NetworkBehaviour)]
pub struct Behaviours {
    star: star::Behaviour,
    direct: direct::Behaviour,
    // Without the guard, identify would take the host and the port of the rendezvous for an address of this node.
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
}

pub struct Node(Swarm<Behaviours>);

impl Node {
    /// Starts a node that listens on the given IP address with QUIC and TCP, at any free port.
    pub fn start(host: IpAddr) -> Fallible<Self> {
        let star = Star::new(Config::default());
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )?
            .with_quic()
            .with_other_transport(|key| star.transport(key))?
            .with_behaviour(|key| {
                let identify = identify::Config::new("/direct/1.0.0".to_owned(), key.public());
                Ok(Behaviours {
                    star: star.behaviour()?,
                    direct: star.direct()?,
                    identify: AddressGuard::new(identify::Behaviour::new(identify)),
                    ping: ping::Behaviour::default(),
                })
            })?
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        println!("this is {}", swarm.local_peer_id());
        let host = Multiaddr::from(host);
        swarm.listen_on(host.clone().with(Protocol::Udp(0)).with(Protocol::QuicV1))?;
        swarm.listen_on(host.with(Protocol::Tcp(0)))?;
        Ok(Self(swarm))
    }

    /// Dials the observers, and waits until each has reported the address at which it sees this node.
    ///
    /// A node without a NAT may learn nothing new: the observers see it at an address on which it listens already.
    pub async fn is_seen_by(&mut self, observers: &[Multiaddr]) -> Fallible<()> {
        let Self(swarm) = self;
        // Wait for the listeners first: a dial then comes from the port on which this node listens, and the observer
        // sees that port.
        let mut listeners = 0;
        while listeners < 2 {
            if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
                listeners += 1;
            }
        }
        for observer in observers {
            swarm.dial(observer.clone())?;
        }
        let mut told = 0;
        let all_told = async {
            while told < observers.len() {
                if let SwarmEvent::Behaviour(BehavioursEvent::Identify(
                    identify::Event::Received { info, .. },
                )) = swarm.select_next_some().await
                {
                    println!(
                        "{} is seen at {}",
                        swarm.local_peer_id(),
                        info.observed_addr
                    );
                    told += 1;
                }
            }
        };
        timeout(Duration::from_secs(10), all_told).await?;
        Ok(())
    }

    pub fn join(&mut self, rendezvous: Multiaddr) -> Fallible<()> {
        self.0.listen_on(rendezvous)?;
        Ok(())
    }

    /// Prints the events of the node until its traffic with another node goes over a direct connection only.
    pub async fn until_upgraded(&mut self) {
        let Self(swarm) = self;
        let local = *swarm.local_peer_id();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => println!("{local} is at {address}"),
                // The other node discovers this one too. Only the node with the smaller peer id dials, so that there
                // is one connection.
                SwarmEvent::Behaviour(BehavioursEvent::Star(star::Event::Discovered {
                    peer,
                    ..
                })) if local < peer => {
                    if let Err(error) = swarm.dial(peer) {
                        println!("{local} does not dial {peer}: {error}");
                    }
                }
                SwarmEvent::ConnectionEstablished {
                    peer_id, endpoint, ..
                } => {
                    println!(
                        "{local} is connected to {peer_id}: {}",
                        endpoint.get_remote_address()
                    );
                }
                SwarmEvent::Behaviour(BehavioursEvent::Direct(event)) => {
                    println!("{local}: {event:?}");
                    if let Event::Upgraded { .. } = event {
                        return;
                    }
                }
                _ => {}
            }
        }
    }
}
