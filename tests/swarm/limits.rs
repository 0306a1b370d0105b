//! Connection limits treat connections through a rendezvous like any other connection.

use libp2p::{
    Swarm,
    connection_limits::{self, ConnectionLimits},
    swarm::{ListenError, NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star as star;

use crate::{
    node::{join, star_only, until},
    support::{embedded, log},
};

#[derive(NetworkBehaviour)]
struct Node {
    limits: connection_limits::Behaviour,
    star: star::Behaviour,
}

fn node(incoming: u32) -> Swarm<Node> {
    let limits = ConnectionLimits::default().with_max_established_incoming(Some(incoming));
    star_only(|_, star| Node {
        limits: connection_limits::Behaviour::new(limits),
        star,
    })
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_and_both_hear_of_it() {
    log();
    let server = embedded().await;
    let mut nodes = [node(1), node(0), node(0)];
    let at = join(&mut nodes[0], &server).await;
    nodes[1].dial(at.clone()).expect("an address");
    let mut connected = [false; 2];
    until("the first", &mut nodes, |index, event, _| {
        if let SwarmEvent::ConnectionEstablished { .. } = event {
            connected[index] = true;
        }
        (connected == [true; 2]).then_some(())
    })
    .await;
    nodes[2].dial(at).expect("an address");
    let (mut refused, mut told) = (false, false);
    until("the refusal", &mut nodes, |index, event, _| {
        match event {
            SwarmEvent::IncomingConnectionError { error, .. } => {
                let ListenError::Denied { cause } = error else {
                    panic!("{error}");
                };
                let limit = cause.downcast::<connection_limits::Exceeded>();
                refused |= index == 0 && limit.is_ok_and(|exceeded| exceeded.limit() == 1);
            }
            // The dialer may have seen the connection established before it was refused.
            SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. } => {
                assert_eq!(index, 2);
                told = true;
            }
            _ => {}
        }
        (refused && told).then_some(())
    })
    .await;
    assert_eq!(nodes[0].network_info().num_peers(), 1);
    server.shutdown().await;
}
