//! Swarms with the transport, and functions that drive one swarm or several.

use std::{error::Error, time::Duration};

use futures::{StreamExt as _, stream};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star::{AddressGuard, Behaviour, preset::Star, rendezvous::Server};

use crate::support::{address, ed25519, hasty, within};

/// The idle timeout. It is so long that no connection ends because a test is slow.
pub const IDLE: Duration = Duration::from_secs(600);

/// This transport's behaviour and identify, as an application has them.
#[derive(NetworkBehaviour)]
pub struct Identifying {
    pub star: Behaviour,
    pub identify: AddressGuard<identify::Behaviour>,
}

impl Identifying {
    pub fn new(key: &Keypair, star: &Star) -> Self {
        let identify = identify::Config::new("/test".to_owned(), key.public());
        Self {
            star: star.behaviour().expect("a transport"),
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
        }
    }
}

/// Returns a swarm with this transport alone.
pub fn star_only<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair, Behaviour) -> B,
) -> Swarm<B> {
    let star = Star::new(hasty());
    SwarmBuilder::with_existing_identity(ed25519())
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("a key that signs")
        .with_behaviour(|key| -> Result<B, Box<dyn Error + Send + Sync>> {
            Ok(behaviour(key, star.behaviour()?))
        })
        .expect("a transport was made")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build()
}

/// Listens at the rendezvous, and returns the joined address.
pub async fn join<B: NetworkBehaviour>(swarm: &mut Swarm<B>, server: &Server) -> Multiaddr {
    join_at(swarm, &address(server)).await
}

/// Listens at the rendezvous with this address, and returns the joined address.
pub async fn join_at<B: NetworkBehaviour>(swarm: &mut Swarm<B>, rendezvous: &str) -> Multiaddr {
    let at = rendezvous.parse().expect("an address");
    let id = swarm.listen_on(at).expect("an address of this transport");
    within("the join", async {
        loop {
            if let SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } = swarm.select_next_some().await
                && listener_id == id
            {
                return address;
            }
        }
    })
    .await
}

/// Returns the next event of any of the swarms, with the index of the swarm.
pub async fn next<B: NetworkBehaviour>(swarms: &mut [Swarm<B>]) -> (usize, SwarmEvent<B::ToSwarm>) {
    let numbered = swarms.iter_mut().enumerate();
    let events = numbered.map(|(index, swarm)| swarm.map(move |event| (index, event)));
    stream::select_all(events)
        .next()
        .await
        .expect("swarms do not end")
}

/// Drives the swarms until `seen` returns something for an event of one of them.
pub async fn until<B: NetworkBehaviour, T>(
    what: &str,
    swarms: &mut [Swarm<B>],
    mut seen: impl FnMut(usize, SwarmEvent<B::ToSwarm>, &mut [Swarm<B>]) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            let (index, event) = next(swarms).await;
            if let Some(found) = seen(index, event, swarms) {
                return found;
            }
        }
    })
    .await
}
