//! Problems that occurred in swarms of applications. Each of them has a test.

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::{Transport as _, transport::TransportEvent},
    identify,
    multiaddr::Protocol,
    noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_websocket_star::{
    Behaviour, Config, WebSocketStarTransport,
    error::{Error, JoinError},
    preset::Star,
};

use crate::{
    node::{IDLE, Identifying, IdentifyingEvent, join, star_only, until},
    support::{address, ed25519, embedded, hasty, raw::Raw, within},
};

#[tokio::test]
async fn a_node_whose_key_joins_elsewhere_is_told_and_joins_again_when_the_other_has_left() {
    let server = embedded().await;
    let key = ed25519();
    let slowly = Config::default().with_backoff(Duration::from_millis(10), Duration::from_secs(2));
    let mut older = Raw::with(&key, slowly);
    let (id, joined) = older.listen(&address(&server)).await;
    let mut newer = Raw::with(&key, hasty());
    let (newer_id, _) = newer.listen(&address(&server)).await;

    match older.event().await {
        TransportEvent::AddressExpired {
            listener_id,
            listen_addr,
        } => assert_eq!((listener_id, listen_addr), (id, joined.clone())),
        other => panic!("{other:?}"),
    }
    let error = older.listener_error().await;
    assert!(
        matches!(
            &error,
            Error::Join {
                error: JoinError::Displaced,
                ..
            }
        ),
        "{error}"
    );
    assert!(newer.transport().remove_listener(newer_id));
    assert_eq!(older.joined().await, joined);
    server.shutdown().await;
}

#[tokio::test]
async fn a_joined_address_is_an_external_one_for_as_long_as_it_is_joined() {
    let server = embedded().await;
    let mut swarm = [star_only(|_, star| star)];
    let joined = join(&mut swarm[0], &server).await;
    until("the confirmation", &mut swarm, |_, event, _| match event {
        SwarmEvent::ExternalAddrConfirmed { address } => {
            assert_eq!(address, joined);
            Some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(swarm[0].external_addresses().collect::<Vec<_>>(), [&joined]);
    server.shutdown().await;
    until("the expiry", &mut swarm, |_, event, _| match event {
        SwarmEvent::ExternalAddrExpired { address } => {
            assert_eq!(address, joined);
            Some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(swarm[0].external_addresses().count(), 0);
}

#[tokio::test]
async fn no_address_is_confirmed_where_that_is_turned_off() {
    let server = embedded().await;
    let mut swarm = [star_only(|_, star| star.with_external_addresses(false))];
    let joined = join(&mut swarm[0], &server).await;
    // The loss of the address is reported after all events of its join.
    server.shutdown().await;
    until("the loss", &mut swarm, |_, event, _| match event {
        SwarmEvent::ExternalAddrConfirmed { address } => panic!("{address}"),
        SwarmEvent::ExpiredListenAddr { address, .. } => {
            assert_eq!(address, joined);
            Some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(swarm[0].external_addresses().count(), 0);
}

#[tokio::test]
async fn forms_of_one_address_that_lose_are_not_reported_as_failed() {
    let server = embedded().await;
    let mut swarms = [star_only(|_, star| star), star_only(|_, star| star)];
    let full = join(&mut swarms[1], &server).await;
    let peer = *swarms[1].local_peer_id();
    let mut bare = full.clone();
    bare.pop();
    let host = |name: &str| -> Multiaddr {
        let parts = bare.iter().skip(1);
        name.parse::<Multiaddr>()
            .expect("a host")
            .into_iter()
            .chain(parts)
            .collect()
    };
    let forms = vec![
        bare.clone(),
        full,
        host("/dns4/localhost"),
        host("/dns/localhost"),
    ];
    for _ in 0..2 {
        let opts = DialOpts::peer_id(peer)
            .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
            .addresses(forms.clone());
        swarms[0].dial(opts.build()).expect("addresses");
        let failed = until(
            "the connection",
            &mut swarms,
            |index, event, _| match event {
                SwarmEvent::ConnectionEstablished {
                    concurrent_dial_errors,
                    ..
                } if index == 0 => Some(concurrent_dial_errors.unwrap_or_default()),
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => None,
            },
        )
        .await;
        assert!(
            failed.is_empty(),
            "other behaviours forget such addresses: {failed:?}"
        );
    }
    server.shutdown().await;
}

#[tokio::test]
async fn the_bare_and_the_full_address_of_a_peer_are_one_dial() {
    let server = embedded().await;
    let mut swarms = [star_only(|_, star| star), star_only(|_, star| star)];
    let full = join(&mut swarms[1], &server).await;
    let peer = *swarms[1].local_peer_id();
    let mut bare = full.clone();
    bare.pop();
    let opts = DialOpts::peer_id(peer).addresses(vec![bare, full]).build();
    swarms[0].dial(opts).expect("addresses");
    let mut ends = [false; 2];
    until("both ends", &mut swarms, |index, event, _| {
        match event {
            SwarmEvent::ConnectionEstablished { .. } => ends[index] = true,
            SwarmEvent::IncomingConnectionError { error, .. } => panic!("{error}"),
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
        ends.iter().all(|end| *end).then_some(())
    })
    .await;
    let counters = server.snapshot().counters;
    assert_eq!((counters.dials, counters.dials_failed), (1, 0));
    server.shutdown().await;
}

/// The dialer has no listener and no behaviour that would give it the spelling. It learns the spelling when it joins.
#[tokio::test]
async fn a_peer_that_joined_under_another_host_is_reached_through_its_rendezvous() {
    let server = embedded().await;
    let port = server.local_addr().port();
    let at = |host: &str| format!("/{host}/tcp/{port}/ws/p2p-websocket-star");
    let mut listener = Raw::with(&ed25519(), hasty());
    let (_, joined) = listener.listen(&at("dns4/localhost")).await;
    let peer = joined.iter().last().expect("a peer");
    let dialer = Raw::with(&ed25519(), hasty());
    let to = format!("{}{peer}", at("ip4/127.0.0.1"));
    let (dialled, accepted) = futures::future::join(dialer.dial(&to), listener.accept()).await;
    assert_eq!(server.snapshot().links, 2);
    drop((dialled, accepted));
    server.shutdown().await;
}

#[test]
fn a_transport_with_another_key_than_the_swarm_is_refused() {
    let key = ed25519();
    let transport = WebSocketStarTransport::new(&key, Config::default());
    let (own, swarm) = (key.public().to_peer_id(), PeerId::random());
    let error = Behaviour::new(swarm, transport.discovery()).expect_err("another key");
    assert_eq!(
        error.to_string(),
        format!(
            "the transport joins as {own}, but the swarm is {swarm}: create both with the same key"
        )
    );
    assert!(Behaviour::new(own, transport.discovery()).is_ok());
}

async fn identifying() -> Swarm<Identifying> {
    let star = Star::new(hasty());
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("tcp")
        .with_other_transport(|key| star.transport(key))
        .expect("star")
        .with_behaviour(|key| Identifying::new(key, &star))
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr");
    swarm.listen_on(any).expect("tcp");
    within("the port", async {
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::NewListenAddr { .. }
        ) {}
    })
    .await;
    swarm
}

/// Runs until both nodes have received the other's information `times` times. Returns the candidates.
async fn identified(swarms: &mut [Swarm<Identifying>], times: usize) -> Vec<Multiaddr> {
    let (mut received, mut candidates) = ([0; 2], Vec::new());
    until("identify", swarms, |index, event, _| {
        match event {
            SwarmEvent::Behaviour(IdentifyingEvent::Identify(identify::Event::Received {
                ..
            })) => received[index] += 1,
            SwarmEvent::NewExternalAddrCandidate { address } => candidates.push(address),
            _ => {}
        }
        received.iter().all(|n| *n >= times).then_some(())
    })
    .await;
    candidates
}

#[tokio::test]
async fn what_is_observed_through_a_rendezvous_is_no_candidate_and_over_tcp_it_is() {
    let server = embedded().await;
    // One node listens at the rendezvous, and the other one only dials.
    let mut swarms = [identifying().await, identifying().await];
    let peers = [*swarms[0].local_peer_id(), *swarms[1].local_peer_id()];
    let addr = join(&mut swarms[1], &server).await;
    swarms[0].dial(addr.clone()).expect("an address");
    let (mut back, mut local) = (None, None);
    until(
        "the connection",
        &mut swarms,
        |index, event, _| match event {
            SwarmEvent::IncomingConnection {
                send_back_addr,
                local_addr,
                ..
            } => {
                (back, local) = (Some(send_back_addr), Some(local_addr));
                None
            }
            SwarmEvent::ConnectionEstablished { .. } if index == 1 => Some(()),
            _ => None,
        },
    )
    .await;
    assert_eq!(back, Some(Multiaddr::empty().with(Protocol::P2p(peers[0]))));
    assert_eq!(local, Some(addr));
    let mut candidates = identified(&mut swarms, 1).await;
    // All events of the first exchange come before those of the second one.
    for (n, other) in [(0, peers[1]), (1, peers[0])] {
        swarms[n].behaviour_mut().identify.get_mut().push([other]);
    }
    candidates.extend(identified(&mut swarms, 1).await);
    assert_eq!(candidates, Vec::<Multiaddr>::new());

    // The guard passes on candidates that come from TCP connections.
    let tcp = swarms[1].listeners().find(|addr| addr.iter().count() == 2);
    let opts = DialOpts::peer_id(peers[1])
        .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
        .addresses(vec![tcp.expect("a port").clone()])
        .build();
    swarms[0].dial(opts).expect("an address");
    until("a candidate", &mut swarms, |_, event, _| match event {
        SwarmEvent::NewExternalAddrCandidate { address } => {
            let star = address
                .iter()
                .any(|part| part == Protocol::P2pWebSocketStar);
            {
                assert!(!star, "{address}");
                Some(())
            }
        }
        _ => None,
    })
    .await;
    server.shutdown().await;
}
