//! Circuits through a relay whose only address is the one at its rendezvous.

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError,
    multiaddr::Protocol,
    ping, relay,
    swarm::{DialError, NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star::{Behaviour, Config, preset::Star};

use crate::{
    node::until,
    orders::build::{Node, NodeEvent, Order, Place, alone, or, with_relay},
    support::{self, log, within},
};

/// A relay. It has the websocket-star transport alone.
#[derive(NetworkBehaviour)]
struct Relay {
    star: Behaviour,
    relay: relay::Behaviour,
    ping: ping::Behaviour,
}

/// A relay that listens at the rendezvous, and its address there.
pub struct Served {
    addr: Multiaddr,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn at(place: &Place) -> Self {
        log();
        let star = Star::new(place.config.clone());
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|key| star.transport(key))
            .expect("star")
            .with_behaviour(|key| Relay {
                star: star.behaviour().expect("a transport"),
                relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
                ping: ping::Behaviour::default(),
            })
            .expect("a behaviour")
            .build();
        swarm.listen_on(place.base.clone()).expect("an address");
        // A relay that knows no external address of its own gives reservations that cannot be used.
        let addr = within("the relay's address", async {
            loop {
                if let SwarmEvent::ExternalAddrConfirmed { address } =
                    swarm.select_next_some().await
                {
                    return address;
                }
            }
        })
        .await;
        let task = tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self { addr, task }
    }

    pub fn circuit(&self) -> Multiaddr {
        self.addr.clone().with(Protocol::P2pCircuit)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes a reservation at the relay, and returns the address at which others reach the node there.
async fn reserved(swarm: &mut Swarm<Node>, relay: &Served) -> Multiaddr {
    let peer = *swarm.local_peer_id();
    swarm.listen_on(relay.circuit()).expect("a circuit");
    let mut accepted = false;
    let found = within("the reservation", async {
        let mut listens = None;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(NodeEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { .. },
                )) => accepted = true,
                SwarmEvent::NewListenAddr { address, .. } => listens = Some(address),
                SwarmEvent::ListenerClosed { reason, .. } => panic!("{reason:?}"),
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
            if let (true, Some(address)) = (accepted, &listens) {
                return address.clone();
            }
        }
    })
    .await;
    assert_eq!(found, relay.circuit().with(Protocol::P2p(peer)));
    found
}

/// Has the first node dial the second one at its circuit. Each must answer the other's pings over the circuit alone.
async fn meet(pair: &mut [Swarm<Node>; 2], circuit: Multiaddr) {
    let peers = [0, 1].map(|index: usize| *pair[index].local_peer_id());
    pair[0].dial(circuit).expect("a circuit");
    let mut pinged = [false; 2];
    until("pings both ways", pair, |index, event, _| {
        let other = peers[1 - index];
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, endpoint, ..
            } if peer_id == other => assert!(endpoint.is_relayed(), "{endpoint:?}"),
            SwarmEvent::Behaviour(NodeEvent::Ping(event)) if event.peer == other => {
                pinged[index] |= event.result.is_ok();
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
        (pinged == [true; 2]).then_some(())
    })
    .await;
}

fn relay_then_star(config: Config) -> Swarm<Node> {
    with_relay(config, |_, star, relay| or(relay, star))
}

/// Tests one order at one place: a node dials a circuit, and is dialled at a circuit of its own. Without a relay
/// client, no transport takes the address.
pub async fn cell(order: Order, place: &Place) {
    let relay = Served::at(place).await;
    let mut known = relay_then_star(place.config.clone());
    let at = reserved(&mut known, &relay).await;
    let mut dialer = order(place.config.clone());
    if dialer.behaviour().relay.is_enabled() {
        meet(&mut [dialer, known], at).await;
        let mut listener = order(place.config.clone());
        let at = reserved(&mut listener, &relay).await;
        let dialer = relay_then_star(place.config.clone());
        meet(&mut [dialer, listener], at).await;
    } else {
        refused(&mut dialer, at).await;
    }
}

/// Dials, and returns the error.
async fn failure(swarm: &mut Swarm<Node>, circuit: &Multiaddr) -> DialError {
    swarm.dial(circuit.clone()).expect("it fails later");
    support::node::until(swarm, "the refusal", |event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(error),
        _ => None,
    })
    .await
}

async fn refused(swarm: &mut Swarm<Node>, circuit: Multiaddr) {
    match swarm.listen_on(circuit.clone()) {
        Err(TransportError::MultiaddrNotSupported(back)) => assert_eq!(back, circuit),
        other => panic!("{other:?}"),
    }
    let error = failure(swarm, &circuit).await;
    let DialError::Transport(errors) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(errors.len(), 1, "{error}");
    // A DNS transport has a message of its own for it.
    let found = format!("{:?}", errors[0].1);
    assert!(
        found.contains("MultiaddrNotSupported") || found.contains("Unsupported resolved address"),
        "{found}"
    );
}

#[tokio::test]
async fn without_the_relays_transport_a_circuit_is_not_supported() {
    let place = Place::plain("127.0.0.1", "ip4/127.0.0.1").await;
    let relay = Served::at(&place).await;
    let circuit = relay.circuit().with(Protocol::P2p(PeerId::random()));
    let mut swarm = alone(Config::default().with_allow_local_rendezvous(true));
    let error = failure(&mut swarm, &circuit).await;
    match error {
        DialError::Transport(errors) => match &errors[..] {
            [(addr, TransportError::MultiaddrNotSupported(back))] => {
                assert_eq!((addr, back), (&circuit, &circuit));
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    place.server.shutdown().await;
}

#[tokio::test]
async fn a_circuit_is_an_external_address_until_the_link_to_the_relay_is_lost() {
    let place = Place::plain("127.0.0.1", "ip4/127.0.0.1").await;
    let relay = Served::at(&place).await;
    let mut swarm = relay_then_star(place.config.clone());
    let at = reserved(&mut swarm, &relay).await;
    assert_eq!(swarm.external_addresses().collect::<Vec<_>>(), [&at]);
    place.server.shutdown().await;
    within("the end of the circuit", async {
        loop {
            if let SwarmEvent::ExternalAddrExpired { address } = swarm.select_next_some().await {
                assert_eq!(address, at);
                return;
            }
        }
    })
    .await;
    assert_eq!(swarm.external_addresses().count(), 0);
}
