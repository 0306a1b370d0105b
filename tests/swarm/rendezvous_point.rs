//! libp2p's own rendezvous protocol among nodes whose only address is the one at the websocket-star rendezvous.

use libp2p::{
    Swarm, ping, rendezvous,
    rendezvous::{Namespace, client, server},
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
};
use libp2p_websocket_star as star;

use crate::{
    node::{join, star_only, until},
    support::{embedded, log},
};

const POINT: usize = 0;
const REGISTERED: usize = 1;
const SEEKER: usize = 2;

/// A node that does not pass on the peers that star discovers. A peer that is found was therefore announced by the
/// rendezvous point.
#[derive(NetworkBehaviour)]
struct Node {
    star: star::Behaviour,
    client: client::Behaviour,
    server: Toggle<server::Behaviour>,
    ping: ping::Behaviour,
}

fn node(serves: bool) -> Swarm<Node> {
    star_only(|key, star| Node {
        star,
        client: client::Behaviour::new(key.clone()),
        server: serves
            .then(|| server::Behaviour::new(server::Config::default()))
            .into(),
        ping: ping::Behaviour::default(),
    })
}

fn namespace() -> Namespace {
    Namespace::from_static("test")
}

#[tokio::test]
async fn a_star_only_node_registers_and_is_found_and_dialled() {
    log();
    let server = embedded().await;
    // The seeker does not listen, so it learns of peers only through the rendezvous point.
    let mut nodes = [node(true), node(false), node(false)];
    let at = join(&mut nodes[POINT], &server).await;
    let joined = join(&mut nodes[REGISTERED], &server).await;
    let point = *nodes[POINT].local_peer_id();
    let registered = *nodes[REGISTERED].local_peer_id();

    let too_early = nodes[SEEKER]
        .behaviour_mut()
        .client
        .register(namespace(), point, None);
    assert!(
        matches!(too_early, Err(client::RegisterError::NoExternalAddresses)),
        "{too_early:?}"
    );
    for node in [REGISTERED, SEEKER] {
        nodes[node].dial(at.clone()).expect("an address");
    }
    let mut connected = [false, false, false];
    until("the rendezvous point", &mut nodes, |index, event, nodes| {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event {
            connected[index] |= peer_id == point;
        }
        let confirmed = nodes[REGISTERED].external_addresses().count() == 1;
        (connected == [false, true, true] && confirmed).then_some(())
    })
    .await;

    let client = &mut nodes[REGISTERED].behaviour_mut().client;
    client
        .register(namespace(), point, None)
        .expect("the joined address is an external one");
    until(
        "the registration",
        &mut nodes,
        |index, event, _| match event {
            SwarmEvent::Behaviour(NodeEvent::Client(event)) => match event {
                client::Event::Registered {
                    rendezvous_node, ..
                } => {
                    assert_eq!((index, rendezvous_node), (REGISTERED, point));
                    Some(())
                }
                other => panic!("{other:?}"),
            },
            _ => None,
        },
    )
    .await;

    let client = &mut nodes[SEEKER].behaviour_mut().client;
    client.discover(Some(namespace()), None, None, point);
    let found = until("the discovery", &mut nodes, |_, event, _| match event {
        SwarmEvent::Behaviour(NodeEvent::Client(client::Event::Discovered {
            registrations,
            ..
        })) => Some(registrations),
        _ => None,
    })
    .await;
    let [rendezvous::Registration { record, .. }] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(record.peer_id(), registered);
    assert_eq!(record.addresses(), std::slice::from_ref(&joined));

    nodes[SEEKER]
        .dial(record.addresses()[0].clone())
        .expect("an address");
    let seeker = *nodes[SEEKER].local_peer_id();
    let mut pinged = [false; 2];
    until("pings both ways", &mut nodes, |index, event, _| {
        match event {
            SwarmEvent::Behaviour(NodeEvent::Ping(event)) if event.result.is_ok() => {
                pinged[0] |= (index, event.peer) == (SEEKER, registered);
                pinged[1] |= (index, event.peer) == (REGISTERED, seeker);
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
        (pinged == [true; 2]).then_some(())
    })
    .await;
    server.shutdown().await;
}
