use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Swarm, SwarmBuilder,
    core::{Transport, transport::MemoryTransport, upgrade::Version},
    identity::Keypair,
    noise,
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts, dummy},
    yamux,
};

use super::*;
use crate::discovery::{Announcer, Place, channel};

const INTERVAL: Duration = Duration::from_secs(10);
/// Far more than needed. Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn swarm<B: NetworkBehaviour>(behaviour: impl FnOnce(PeerId) -> B) -> Swarm<B> {
    let transport = |key: &Keypair| {
        MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(key).expect("signs"))
            .multiplex(yamux::Config::default())
            .boxed()
    };
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(transport)
        .expect("infallible")
        .with_behaviour(|key| behaviour(key.public().to_peer_id()))
        .expect("infallible")
        .build()
}

fn discovering_swarm() -> (Announcer, Swarm<Behaviour>) {
    let mut side = None;
    let swarm = swarm(|local| {
        let (announcer, discovery) = channel(local, INTERVAL, 64);
        side = Some(announcer);
        Behaviour::of(discovery)
    });
    (side.expect("a behaviour was asked for"), swarm)
}

async fn listening_swarm() -> (Swarm<dummy::Behaviour>, Multiaddr) {
    let mut swarm = swarm(|_| dummy::Behaviour);
    let any = "/memory/0".parse().expect("a multiaddr");
    swarm.listen_on(any).expect("memory is supported");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return (swarm, address);
        }
    }
}

/// Announces each address at a rendezvous of its own.
fn announce(announcer: &Announcer, peer: PeerId, address: Multiaddr) {
    let host: String = address.to_string().replace('/', "");
    let star = format!("/dns4/{host}/tcp/80/ws/p2p-websocket-star");
    let star: StarAddr = star.parse().expect("valid");
    let place = Place {
        rendezvous: star.rendezvous(),
        listening: true,
    };
    announcer.announce(place, peer, address);
}

fn behaviour(capacity: usize) -> (Announcer, Behaviour) {
    let (announcer, discovery) = channel(PeerId::random(), INTERVAL, capacity);
    (announcer, Behaviour::of(discovery))
}

fn address(port: u64) -> Multiaddr {
    format!("/memory/{port}").parse().expect("a multiaddr")
}

fn poll(behaviour: &mut Behaviour) -> Poll<ToSwarm<Event, THandlerInEvent<Behaviour>>> {
    behaviour.poll(&mut Context::from_waker(Waker::noop()))
}

fn addresses_to_dial(behaviour: &mut Behaviour, peer: Option<PeerId>) -> Vec<Multiaddr> {
    let id = ConnectionId::new_unchecked(0);
    behaviour
        .handle_pending_outbound_connection(id, peer, &[], Endpoint::Dialer)
        .expect("nothing is denied")
}

#[tokio::test]
async fn a_discovered_peer_is_dialled_by_its_peer_id_alone() {
    let (announcer, mut dialer) = discovering_swarm();
    let (mut listener, address) = listening_swarm().await;
    let peer = *listener.local_peer_id();
    tokio::spawn(async move { while listener.next().await.is_some() {} });

    let unknown = dialer.dial(peer);
    assert!(matches!(unknown, Err(DialError::NoAddresses)));

    announce(&announcer, peer, address.clone());
    let event = dialer.select_next_some().await;
    assert!(
        matches!(&event, SwarmEvent::Behaviour(Event::Discovered { peer: p, address: a })
            if *p == peer && *a == address)
    );
    let event = dialer.select_next_some().await;
    assert!(
        matches!(&event, SwarmEvent::NewExternalAddrOfPeer { peer_id, address: a }
            if *peer_id == peer && *a == address)
    );

    dialer
        .dial(DialOpts::peer_id(peer).build())
        .expect("an address is known");
    let connected = async {
        loop {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } =
                dialer.select_next_some().await
            {
                return peer_id;
            }
        }
    };
    let connected = tokio::time::timeout(PATIENCE, connected).await;
    assert_eq!(connected.expect("connected"), peer);
}

#[tokio::test(start_paused = true)]
async fn an_expired_address_is_not_dialled_any_more() {
    let (announcer, mut swarm) = discovering_swarm();
    let peer = PeerId::random();
    announce(&announcer, peer, address(1));
    loop {
        if let SwarmEvent::Behaviour(Event::Expired { .. }) = swarm.select_next_some().await {
            break;
        }
    }
    assert_eq!(swarm.behaviour().discovered().len(), 0);
    assert!(matches!(swarm.dial(peer), Err(DialError::NoAddresses)));
}

#[tokio::test]
async fn a_peer_is_dialled_at_all_its_addresses_and_at_no_other_peers() {
    let (announcer, mut behaviour) = behaviour(64);
    let [a, b] = [PeerId::random(), PeerId::random()];
    for (peer, port) in [(a, 1), (b, 2), (a, 3), (b, 4), (a, 5)] {
        announce(&announcer, peer, address(port));
    }
    while poll(&mut behaviour).is_ready() {}
    assert_eq!(
        addresses_to_dial(&mut behaviour, Some(a)),
        [address(1), address(3), address(5)]
    );
    assert_eq!(
        addresses_to_dial(&mut behaviour, Some(b)),
        [address(2), address(4)]
    );
    assert!(addresses_to_dial(&mut behaviour, Some(PeerId::random())).is_empty());
    assert!(addresses_to_dial(&mut behaviour, None).is_empty());
    let discovered: BTreeSet<_> = behaviour.discovered().collect();
    assert_eq!(discovered.len(), 5);
    assert!(discovered.contains(&(&b, &address(4))));
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_flood_of_peers_lets_the_swarm_turn_to_its_connections() {
    let (announcer, mut behaviour) = behaviour(1_000);
    for port in 0..1_000 {
        announce(&announcer, PeerId::random(), address(port));
    }
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let (mut yields, mut in_a_row) = (0, 0);
    while behaviour.discovered().len() < 1_000 {
        match behaviour.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(_) => in_a_row += 1,
            Poll::Pending => {
                (yields, in_a_row) = (yields + 1, 0);
                assert_eq!(wakes.0.load(Ordering::Relaxed), yields, "it asks for more");
            }
        }
        // Each address is reported twice: to the user and to the other behaviours.
        assert!(in_a_row <= 2 * BURST);
    }
    assert_eq!(yields, 1_000 / BURST);
}

#[tokio::test]
async fn when_the_transport_is_gone_what_is_known_stays() {
    let (announcer, mut behaviour) = behaviour(64);
    let peer = PeerId::random();
    announce(&announcer, peer, address(1));
    drop(announcer);
    while poll(&mut behaviour).is_ready() {}
    assert!(poll(&mut behaviour).is_pending());
    assert_eq!(addresses_to_dial(&mut behaviour, Some(peer)), [address(1)]);
}
