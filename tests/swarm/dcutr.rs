//! dcutr beside this transport: it makes no second connection through the rendezvous.

use libp2p::{
    Swarm, SwarmBuilder, dcutr, identify, noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    yamux,
};
use libp2p_websocket_star::{AddressGuard, Behaviour, preset::Star};

use crate::{
    node::{IDLE, join, until},
    orders::build::Place,
    relay::Served,
    support::{ed25519, hasty, log},
};

#[derive(NetworkBehaviour)]
struct Node {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    dcutr: dcutr::Behaviour,
    relay: relay::client::Behaviour,
}

fn node() -> Swarm<Node> {
    log();
    let star = Star::new(hasty());
    SwarmBuilder::with_existing_identity(ed25519())
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("the key signs")
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .expect("the key signs")
        .with_behaviour(|key, relay| Node {
            star: star.behaviour().expect("a transport"),
            identify: AddressGuard::new(identify::Behaviour::new(identify::Config::new(
                "/test/1".to_owned(),
                key.public(),
            ))),
            dcutr: dcutr::Behaviour::new(key.public().to_peer_id()),
            relay,
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build()
}

/// Both nodes are at the rendezvous, and identify has given each of them the other's addresses there. None of these
/// is a direct address.
#[tokio::test]
async fn a_circuit_is_not_upgraded_to_a_connection_through_the_rendezvous() {
    let place = Place::plain("127.0.0.1", "ip4/127.0.0.1").await;
    let relay = Served::at(&place).await;
    let mut nodes = [node(), node()];
    for node in &mut nodes {
        join(node, &place.server).await;
    }
    let peers = [0, 1].map(|index: usize| *nodes[index].local_peer_id());
    nodes[1].listen_on(relay.circuit()).expect("a circuit");
    let circuit = until("the circuit", &mut nodes, |index, event, _| match event {
        SwarmEvent::NewListenAddr { address, .. } if index == 1 => Some(address),
        _ => None,
    })
    .await;

    nodes[0].dial(circuit).expect("a circuit");
    let (mut ended, mut identified) = ([false; 2], [false; 2]);
    until("the end of dcutr", &mut nodes, |index, event, _| {
        let other = peers[1 - index];
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, endpoint, ..
            } if peer_id == other => assert!(endpoint.is_relayed(), "{endpoint:?}"),
            SwarmEvent::NewExternalAddrCandidate { address } => panic!("candidate: {address}"),
            SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
                peer_id,
                ..
            })) => identified[index] |= peer_id == other,
            SwarmEvent::Behaviour(NodeEvent::Dcutr(event)) => {
                assert_eq!(event.remote_peer_id, other);
                let error = event.result.expect_err("nothing to upgrade to");
                let story = error.to_string();
                assert!(story.contains("stream error"), "{story}");
                ended[index] = true;
            }
            _ => {}
        }
        (ended[1] && identified == [true; 2]).then_some(())
    })
    .await;
    place.server.shutdown().await;
}
