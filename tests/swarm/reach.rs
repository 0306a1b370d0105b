//! The peers that a node reaches, and the hosts to which it connects for that. Peers choose the content of their
//! addresses, so these may be hostile.

use std::{
    num::NonZeroU8,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::{
        Transport as _,
        transport::{TransportError, TransportEvent},
    },
    identify,
    swarm::{
        DialError as SwarmDialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_websocket_star::{
    Config, Error, Event, Limits,
    error::{DialError, LinkError},
    preset::Star,
    rendezvous::{self, Server},
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    node::{IDLE, Identifying, IdentifyingEvent, join, until},
    support::{ed25519, embedded, raw::Raw, scripted::Scripted, within},
};

/// A host to which no node may be led.
struct Victim(TcpListener);

impl Victim {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        Self(listener.expect("a free port"))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("bound").port()
    }

    /// Returns the start of an address that names this host as a rendezvous.
    fn base(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/ws/p2p-websocket-star", self.port())
    }

    /// Checks that nothing has connected so far: the next accepted connection must be the one that this function
    /// makes.
    async fn was_left_alone(&self) {
        let ours = TcpStream::connect(("127.0.0.1", self.port())).await;
        let ours = ours.expect("it listens").local_addr().expect("connected");
        let (_, first) = within("a connection", self.0.accept()).await.expect("one");
        assert_eq!(first, ours, "somebody has connected");
    }
}

/// Returns a node with the default configuration, as an application has it.
fn identifying() -> Swarm<Identifying> {
    let star = Star::new(Config::default());
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("a key that signs")
        .with_behaviour(|key| Identifying::new(key, &star))
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build()
}

#[tokio::test]
async fn a_private_rendezvous_that_identify_tells_of_is_not_connected_to() {
    let (server, victim) = (embedded().await, Victim::start().await);
    let mut swarms = [identifying(), identifying()];
    join(&mut swarms[0], &server).await;
    join(&mut swarms[1], &server).await;
    let peer = *swarms[1].local_peer_id();
    let private: Multiaddr = format!("{}/p2p/{peer}", victim.base())
        .parse()
        .expect("a multiaddr");
    swarms[1].add_external_address(private.clone());

    let addresses = until("identify", &mut swarms, |index, event, swarms| {
        match event {
            SwarmEvent::Behaviour(IdentifyingEvent::Star(Event::Discovered { peer, .. }))
                if index == 0 =>
            {
                swarms[0].dial(peer).expect("it was announced");
            }
            SwarmEvent::Behaviour(IdentifyingEvent::Identify(identify::Event::Received {
                info,
                ..
            })) if index == 0 => return Some(info.listen_addrs),
            _ => {}
        }
        None
    })
    .await;
    assert!(addresses.contains(&private), "{addresses:?}");

    let again = DialOpts::peer_id(peer)
        .condition(PeerCondition::Always)
        .addresses(vec![private]);
    swarms[0].dial(again.build()).expect("an address");
    let error = until("the failure", &mut swarms, |_, event, _| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(error.to_string()),
        SwarmEvent::ConnectionEstablished {
            endpoint, peer_id, ..
        } if endpoint.is_dialer() && peer_id == peer => panic!("{endpoint:?}"),
        _ => None,
    })
    .await;
    assert!(
        error.contains("127.0.0.1, which is not a public"),
        "{error}"
    );
    victim.was_left_alone().await;
    server.shutdown().await;
}

/// This also holds for names, which are judged by the addresses they resolve to.
#[tokio::test]
async fn a_rendezvous_that_is_not_public_is_dialled_through_only_where_we_listen() {
    let victim = Victim::start().await;
    let node = Raw::with(&ed25519(), Config::default());
    let (port, peer) = (victim.port(), PeerId::random());
    for host in [
        "ip4/127.0.0.1",
        "ip6/::ffff:127.0.0.1",
        "ip6/::1",
        "dns4/localhost",
        "dns/localhost",
        "ip4/169.254.169.254",
    ] {
        for scheme in ["ws", "wss"] {
            let to = format!("/{host}/tcp/{port}/{scheme}/p2p-websocket-star/p2p/{peer}");
            match node.try_dial(&to).await {
                Err(Error::Link {
                    error: LinkError::NotPublic(_),
                    ..
                }) => {}
                other => panic!("{to}: {other:?}"),
            }
        }
    }
    victim.was_left_alone().await;

    let server = embedded().await;
    let mut node = node;
    let at = crate::support::address(&server);
    node.listen(&at).await;
    match node.try_dial(&format!("{at}/p2p/{peer}")).await {
        Err(Error::Dial {
            error: DialError::PeerNotFound,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_joined_under_a_foreign_host_is_reached_where_it_was_announced() {
    let (star, victim) = (Scripted::start().await, Victim::start().await);
    let mut node = Raw::with(&ed25519(), Config::default());
    let mut discovery = node.discovery();
    let foreign = [
        victim.base(),
        "/ip4/169.254.169.254/tcp/80/ws/p2p-websocket-star".to_owned(),
        // The port has a leading zero, so multiaddr prints it differently.
        "/dns4/inside.test/tcp/080/ws/p2p-websocket-star".to_owned(),
    ]
    .map(|base| (base, PeerId::random()));
    let spellings = foreign
        .iter()
        .map(|(base, peer)| format!("{base}/ipfs/{peer}"));
    let spellings: Vec<_> = spellings.collect();

    node.listen_on(&star.addr()).expect("a good address");
    let mut link = star.link().await;
    link.join(&spellings).await;
    assert!(matches!(
        node.event().await,
        TransportEvent::NewAddress { .. }
    ));
    for ((base, peer), spelling) in foreign.iter().zip(&spellings) {
        let event = within("the discovery", discovery.next()).await;
        let here = format!("{}/p2p/{peer}", star.addr());
        match event {
            Some(Event::Discovered { peer: p, address }) => {
                assert_eq!((p, address.to_string()), (*peer, here.clone()));
            }
            other => panic!("{other:?}"),
        }
        // Dial the address as it was discovered, and as the peer itself would report it by identify.
        for to in [here, format!("{base}/p2p/{peer}")] {
            let dial = tokio::spawn(node.start_dial(&to));
            // First the dial uses this rendezvous' own host, under which most peers join.
            let call = link.expect("ss-dial").await;
            assert_eq!(call.arg(1), format!("{}/ipfs/{peer}", star.addr()));
            link.answer(&call, json!(["Peer not found"])).await;
            let call = link.expect("ss-dial").await;
            assert_eq!(call.arg(1), spelling);
            link.answer(&call, json!(["busy"])).await;
            match within("the answer", dial).await.expect("no panic") {
                Err(Error::Dial {
                    error: DialError::Refused(reason),
                    ..
                }) => assert_eq!(reason, "busy"),
                other => panic!("{other:?}"),
            }
        }
    }
    victim.was_left_alone().await;
}

#[tokio::test]
async fn a_peer_that_is_not_found_when_it_is_dialled_expires_at_once_and_no_other_does() {
    let server = embedded().await;
    let at = crate::support::address(&server);
    let [mut node, mut gone, mut stays] =
        [(); 3].map(|()| Raw::with(&ed25519(), Config::default()));
    let (_, stays_at) = stays.listen(&at).await;
    let (id, gone_at) = gone.listen(&at).await;
    let mut discovery = node.discovery();
    node.listen(&at).await;
    let mut known = Vec::new();
    for _ in 0..2 {
        match within("a discovery", discovery.next()).await {
            Some(Event::Discovered { address, .. }) => known.push(address),
            other => panic!("{other:?}"),
        }
    }
    assert!(known.contains(&stays_at) && known.contains(&gone_at));

    assert!(gone.transport().remove_listener(id));
    within("the peer to leave", async {
        while server.snapshot().peers.len() > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    match node.try_dial(&gone_at.to_string()).await {
        Err(Error::Dial {
            error: DialError::PeerNotFound,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    match discovery.next().now_or_never().flatten() {
        Some(Event::Expired { address, .. }) => assert_eq!(address, gone_at),
        other => panic!("{other:?}"),
    }
    assert!(discovery.next().now_or_never().is_none());
    server.shutdown().await;
}

#[tokio::test]
async fn who_leaves_a_server_expires_and_who_stays_does_not() {
    let interval = Duration::from_millis(100);
    let config = rendezvous::Config::default().with_announce_interval(interval);
    let server = Server::bind(config).await.expect("a free port");
    let at = crate::support::address(&server);
    let config = Config::default().with_announce_interval(interval);
    let mut node = Raw::with(&ed25519(), config);
    let mut others = [(); 4].map(|()| Raw::with(&ed25519(), Config::default()));
    let mut discovery = node.discovery();
    node.listen(&at).await;
    let mut ids = Vec::new();
    for other in &mut others {
        ids.push(other.listen(&at).await);
        match within("a discovery", discovery.next()).await {
            Some(Event::Discovered { address, .. }) => assert_eq!(address, ids[ids.len() - 1].1),
            other => panic!("{other:?}"),
        }
    }
    for (other, (id, address)) in others.iter().zip(ids).take(3) {
        assert!(other.transport().remove_listener(id));
        match within("the expiry", discovery.next()).await {
            Some(Event::Expired { address: gone, .. }) => assert_eq!(gone, address),
            other => panic!("{other:?}"),
        }
    }
    assert!(discovery.next().now_or_never().is_none());
    server.shutdown().await;
}

/// Each address means a different rendezvous, because its name for TLS differs.
#[tokio::test]
async fn three_hundred_addresses_of_one_key_open_eight_links_one_a_second() {
    const ADDRESSES: usize = 300;
    let victim = Victim::start().await;
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_connect_timeout(Duration::from_secs(20));
    let star = Star::new(config);
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("a key that signs")
        .with_behaviour(|_| star.behaviour())
        .expect("a transport")
        .with_swarm_config(|config| config.with_dial_concurrency_factor(NonZeroU8::MAX))
        .with_connection_timeout(Duration::from_secs(60))
        .build();
    let peer = PeerId::random();
    let addresses = (0..ADDRESSES).map(|n| {
        let (port, sni) = (victim.port(), format!("tls/sni/n{n}.test"));
        let text = format!("/ip4/127.0.0.1/tcp/{port}/{sni}/ws/p2p-websocket-star/p2p/{peer}");
        text.parse().expect("a multiaddr")
    });
    let opts = DialOpts::peer_id(peer).addresses(addresses.collect());
    swarm.dial(opts.build()).expect("addresses");

    let mut links = Vec::new();
    within("eight links", async {
        while links.len() < 8 {
            tokio::select! {
                accepted = victim.0.accept() => {
                    links.push((accepted.expect("a connection"), Instant::now()));
                }
                event = swarm.select_next_some() => {
                    assert!(matches!(event, SwarmEvent::Dialing { .. }), "{event:?}");
                }
            }
        }
    })
    .await;
    for pair in links.windows(2) {
        let pause = pair[1].1 - pair[0].1;
        assert!(pause >= Duration::from_millis(500), "{pause:?}");
    }
    let all = links[7].1 - links[0].1;
    assert!(all >= Duration::from_millis(6500), "{all:?}");

    drop(links);
    let errors = within("the failure", async {
        loop {
            if let SwarmEvent::OutgoingConnectionError {
                error: SwarmDialError::Transport(errors),
                ..
            } = swarm.select_next_some().await
            {
                return errors;
            }
        }
    })
    .await;
    let at_once = errors.iter().filter(|(_, error)| match error {
        TransportError::Other(error) => error
            .to_string()
            .contains("at which this node does not listen"),
        TransportError::MultiaddrNotSupported(_) => false,
    });
    assert_eq!((errors.len(), at_once.count()), (ADDRESSES, ADDRESSES - 8));
    victim.was_left_alone().await;
}

/// Checks that a third rendezvous is reached by a node that only dials and may have two links. With
/// `with_connections`, each of the other two links has a connection.
async fn another_is_reached_beside(with_connections: bool) {
    let limits = Limits::default().with_dial_links(2);
    let config = Config::default().with_allow_local_rendezvous(true);
    let node = Raw::with(&ed25519(), config.with_limits(limits));
    let mut held = Vec::new();
    for _ in 0..2 {
        let star = Scripted::start().await;
        let dial = tokio::spawn(node.start_dial(&star.somebody()));
        let mut link = star.link().await;
        if with_connections {
            link.join(&[]).await;
            let call = link.expect("ss-dial").await;
            link.answer(&call, json!([])).await;
        }
        held.push((star, link, dial));
    }
    let (server, mut other) = (embedded().await, Raw::with(&ed25519(), Config::default()));
    let (_, at) = other.listen(&crate::support::address(&server)).await;
    let (began, to) = (Instant::now(), at.to_string());
    let connection = within("a connection", async {
        loop {
            match node.try_dial(&to).await {
                Ok(connection) => return connection,
                Err(Error::TooManyRendezvous { most: 2 }) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(9), "{began:?}");
    drop(connection);
    server.shutdown().await;
}

#[tokio::test]
async fn two_rendezvous_that_never_answer_a_join_do_not_shut_another_one_out() {
    another_is_reached_beside(false).await;
}

#[tokio::test]
async fn connections_over_two_rendezvous_of_one_host_do_not_shut_another_one_out() {
    another_is_reached_beside(true).await;
}
