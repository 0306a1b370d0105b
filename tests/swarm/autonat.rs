//! autonat beside this transport: which addresses it asks others to test, and how it handles the answers.

use std::{error::Error, time::Duration};

use libp2p::{
    Swarm, SwarmBuilder,
    autonat::{
        v1::{self, NatStatus, OutboundProbeError, OutboundProbeEvent, ResponseError},
        v2,
    },
    identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_websocket_star::{AddressGuard, Behaviour, preset::Star};

use crate::{
    node::{IDLE, join, until},
    support::{ed25519, embedded, hasty, log},
};

#[derive(NetworkBehaviour)]
struct Node {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    first: v1::Behaviour,
    client: v2::client::Behaviour,
    server: v2::server::Behaviour,
}

/// Returns a node that also has a TCP listener. libp2p would combine the port of that listener with an observed host
/// into candidates.
///
/// Only a node with `asks` uses version 1 to ask. Otherwise each node would dial the other's TCP listener.
fn node(asks: bool) -> Swarm<Node> {
    log();
    let star = Star::new(hasty());
    let mut swarm = SwarmBuilder::with_existing_identity(ed25519())
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("the key signs")
        .with_other_transport(|key| star.transport(key))
        .expect("the key signs")
        .with_behaviour(|key| -> Result<_, Box<dyn Error + Send + Sync>> {
            let identify = identify::Config::new("/test/1".to_owned(), key.public());
            let soon = v1::Config {
                boot_delay: if asks { Duration::ZERO } else { IDLE },
                retry_interval: Duration::from_millis(100),
                throttle_server_period: Duration::ZERO,
                only_global_ips: false,
                ..v1::Config::default()
            };
            Ok(Node {
                star: star.behaviour()?,
                identify: AddressGuard::new(identify::Behaviour::new(identify)),
                first: v1::Behaviour::new(key.public().to_peer_id(), soon),
                client: v2::client::Behaviour::default(),
                server: v2::server::Behaviour::default(),
            })
        })
        .expect("a transport was made")
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    let tcp = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    swarm.listen_on(tcp).expect("a free port");
    swarm
}

/// Version 1 asks peers to test its addresses. A peer that was dialled through a rendezvous does not see an IP
/// address of the node that asks, so it does not dial back. Version 2 has no candidate to ask about.
async fn nothing_is_tested_or_confirmed(listens: bool) {
    let server = embedded().await;
    let (mut asked, mut asker) = (node(false), node(true));
    let at = join(&mut asked, &server).await;
    let mut own = Vec::new();
    if listens {
        own.push(join(&mut asker, &server).await);
    }
    asker.dial(at).expect("an address");
    let (mut identified, mut refused) = (false, 0);
    until(
        "the refusals",
        &mut [asked, asker],
        |index, event, nodes| {
            match event {
                SwarmEvent::NewExternalAddrCandidate { address } => panic!("candidate: {address}"),
                SwarmEvent::Behaviour(NodeEvent::Client(test)) => panic!("{test:?}"),
                SwarmEvent::Behaviour(NodeEvent::Server(test)) => panic!("{test:?}"),
                SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
                    ..
                })) => {
                    identified |= index == 1;
                }
                SwarmEvent::Behaviour(NodeEvent::First(v1::Event::OutboundProbe(
                    OutboundProbeEvent::Error {
                        peer: Some(_),
                        error,
                        ..
                    },
                ))) if index == 1 => {
                    let is = matches!(
                        error,
                        OutboundProbeError::Response(ResponseError::DialRefused)
                    );
                    assert!(is, "{error:?}");
                    refused += 1;
                }
                _ => {}
            }
            // By the time of the third question, the answers to the first one and to identify have been handled.
            let done = identified && refused >= 3;
            done.then(|| {
                assert_eq!(
                    nodes[1].external_addresses().cloned().collect::<Vec<_>>(),
                    own
                );
                assert_eq!(nodes[1].behaviour().first.nat_status(), NatStatus::Unknown);
            })
        },
    )
    .await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_node_that_joins_keeps_its_joined_address_alone() {
    nothing_is_tested_or_confirmed(true).await;
}

#[tokio::test]
async fn a_node_that_only_dials_gets_no_address() {
    nothing_is_tested_or_confirmed(false).await;
}
