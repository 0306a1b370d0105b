//! Kademlia in automatic mode among nodes whose only address is the one at the rendezvous.

use std::collections::BTreeSet;

use libp2p::{
    PeerId, Swarm, identify,
    kad::{
        self, GetClosestPeersOk, GetRecordOk, Mode, QueryId, QueryResult, Quorum, Record,
        RecordKey, store::MemoryStore,
    },
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_websocket_star::{self as star, AddressGuard};

use crate::{
    node::{join, star_only, until},
    support::{embedded, log},
};

const NODES: usize = 6;

#[derive(NetworkBehaviour)]
struct Node {
    star: star::Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    kad: kad::Behaviour<MemoryStore>,
}

fn node() -> Swarm<Node> {
    star_only(|key, star| {
        let peer = key.public().to_peer_id();
        let identify = identify::Config::new("/test/1".to_owned(), key.public());
        Node {
            star,
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            kad: kad::Behaviour::new(peer, MemoryStore::new(peer)),
        }
    })
}

/// Gives the discovered peers to Kademlia, as an application does. Returns their number.
fn learn(node: &mut Swarm<Node>) -> usize {
    let Node { star, kad, .. } = node.behaviour_mut();
    for (peer, address) in star.discovered() {
        kad.add_address(peer, address.clone());
    }
    star.discovered().len()
}

/// Waits for the result of a query of the node `asker`.
///
/// Each node numbers its queries from 0, so the number alone could belong to a query of another node.
async fn answered(nodes: &mut [Swarm<Node>], asker: usize, query: QueryId) -> QueryResult {
    until("the query", nodes, |index, event, _| match event {
        SwarmEvent::Behaviour(NodeEvent::Kad(kad::Event::OutboundQueryProgressed {
            id,
            result,
            ..
        })) if (index, id) == (asker, query) => Some(result),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn star_only_nodes_serve_find_each_other_and_keep_records() {
    log();
    let server = embedded().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let mut node = node();
        join(&mut node, &server).await;
        nodes.push(node);
    }
    all_serve(&mut nodes).await;

    let query = {
        let kad = &mut nodes[5].behaviour_mut().kad;
        kad.get_closest_peers(PeerId::random())
    };
    let result = answered(&mut nodes, 5, query).await;
    let QueryResult::GetClosestPeers(Ok(GetClosestPeersOk { peers, .. })) = result else {
        panic!("{result:?}");
    };
    let found: BTreeSet<PeerId> = peers.into_iter().map(|peer| peer.peer_id).collect();
    let others = nodes[..5].iter().map(|node| *node.local_peer_id());
    assert_eq!(found, others.collect());

    let everywhere = Record::new(b"everywhere".to_vec(), b"one".to_vec());
    let five = Quorum::N(5.try_into().expect("not zero"));
    let kad = &mut nodes[0].behaviour_mut().kad;
    let query = kad.put_record(everywhere, five).expect("room");
    let result = answered(&mut nodes, 0, query).await;
    assert!(
        matches!(result, QueryResult::PutRecord(Ok(_))),
        "{result:?}"
    );
    assert_eq!(get(&mut nodes, 3, b"everywhere").await, b"one");

    let only_second = *nodes[1].local_peer_id();
    let kad = &mut nodes[0].behaviour_mut().kad;
    let record = Record::new(b"at the second".to_vec(), b"two".to_vec());
    let query = kad.put_record_to(record, [only_second].into_iter(), Quorum::One);
    let result = answered(&mut nodes, 0, query).await;
    assert!(
        matches!(result, QueryResult::PutRecord(Ok(_))),
        "{result:?}"
    );
    assert_eq!(get(&mut nodes, 4, b"at the second").await, b"two");
    server.shutdown().await;
}

/// In automatic mode, Kademlia is a server as long as the address is joined, and it reports each change.
#[tokio::test]
async fn the_mode_follows_the_join_and_its_loss() {
    let server = embedded().await;
    let mut nodes = [node()];
    assert_eq!(nodes[0].behaviour().kad.mode(), Mode::Client);
    join(&mut nodes[0], &server).await;
    changes_to(&mut nodes, Mode::Server).await;
    server.shutdown().await;
    changes_to(&mut nodes, Mode::Client).await;
}

/// Waits for the next change of mode. Its event must come after the change of addresses that caused it, and never
/// without one.
async fn changes_to(nodes: &mut [Swarm<Node>; 1], mode: Mode) {
    let mut addresses = Vec::new();
    let changed = until("a change of mode", nodes, |_, event, _| match event {
        SwarmEvent::ExternalAddrConfirmed { .. } => {
            addresses.push(Mode::Server);
            None
        }
        SwarmEvent::ExternalAddrExpired { .. } => {
            addresses.push(Mode::Client);
            None
        }
        SwarmEvent::Behaviour(NodeEvent::Kad(kad::Event::ModeChanged { new_mode })) => {
            Some(new_mode)
        }
        _ => None,
    })
    .await;
    assert_eq!(changed, mode);
    assert_eq!(addresses, [mode]);
    assert_eq!(nodes[0].behaviour().kad.mode(), mode);
}

/// Waits until Kademlia is a server on every node, and every node knows all others.
async fn all_serve(nodes: &mut [Swarm<Node>]) {
    until("servers that know each other", nodes, |_, _, nodes| {
        let mut ready = true;
        for node in nodes {
            ready &= learn(node) == NODES - 1;
            ready &= node.behaviour().kad.mode() == Mode::Server;
        }
        ready.then_some(())
    })
    .await;
}

async fn get(nodes: &mut [Swarm<Node>], index: usize, key: &[u8]) -> Vec<u8> {
    let kad = &mut nodes[index].behaviour_mut().kad;
    let query = kad.get_record(RecordKey::new(&key));
    match answered(nodes, index, query).await {
        QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => found.record.value,
        other => panic!("{other:?}"),
    }
}
