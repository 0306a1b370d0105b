//! Behaviour that the test suites of the npm clients and of the npm rendezvous rely on. Like there, the server runs
//! without a challenge.

use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::json;

use crate::support::{
    address,
    js::Peer,
    several::Several,
    socketio::Version::{V2, V4},
};

async fn without_challenge() -> Server {
    Server::bind(Config::default().with_challenge(false))
        .await
        .expect("a free port")
}

fn addr(n: usize) -> String {
    let peer = libp2p::identity::Keypair::generate_ed25519()
        .public()
        .to_peer_id();
    format!("/ip4/127.0.0.1/tcp/{n}/ws/p2p-websocket-star/ipfs/{peer}")
}

#[tokio::test]
async fn the_others_hear_of_a_newcomer_before_its_own_join_is_answered() {
    let star = without_challenge().await;
    for version in [V2, V4] {
        let clients = Several::start(version, &star);
        let (mut names, mut addrs) = (Vec::new(), Vec::new());
        for n in 1..10 {
            let (name, addr) = (format!("n{n}"), addr(n));
            clients.connect(&name).await;
            let listed = clients.join(&name, &addr).await;
            let mut story = clients.story(&addr);
            assert_eq!(story.pop(), Some(format!("{name} joined")), "{version:?}");
            story.sort();
            let heard: Vec<_> = names.iter().map(|name| format!("{name} peer")).collect();
            assert_eq!(story, heard, "{version:?}");
            let mut listed = listed.as_array().expect("a list").clone();
            listed.sort_by_key(ToString::to_string);
            addrs.sort();
            assert_eq!(json!(listed), json!(addrs), "{version:?}");
            names.push(name);
            addrs.push(addr);
        }
        for (name, addr) in names.iter().zip(&addrs) {
            clients.leave(name, addr).await;
        }
    }
}

#[tokio::test]
async fn an_address_that_comes_back_is_told_first_to_those_who_have_not_heard_of_it() {
    let star = without_challenge().await;
    for version in [V2, V4] {
        let clients = Several::start(version, &star);
        for name in ["earlier", "newcomer", "later"] {
            clients.connect(name).await;
        }
        let (newcomer, earlier, later) = (addr(1), addr(2), addr(3));
        clients.join("earlier", &earlier).await;
        clients.join("newcomer", &newcomer).await;
        clients.leave("newcomer", &newcomer).await;
        clients.join("later", &later).await;
        clients.join("newcomer", &newcomer).await;
        let first = ["earlier peer", "newcomer joined", "newcomer left"];
        let again = ["later peer", "newcomer joined"];
        assert_eq!(clients.story(&newcomer), [&first[..], &again].concat());
        for (name, addr) in [
            ("earlier", &earlier),
            ("later", &later),
            ("newcomer", &newcomer),
        ] {
            clients.leave(name, addr).await;
        }
    }
}

/// Starts a peer that listens, and returns it with its address.
async fn listening(star: &Server) -> (Peer, String) {
    let peer = Peer::start();
    let addr = listen(&peer, star).await;
    (peer, addr)
}

async fn listen(peer: &Peer, star: &Server) -> String {
    let options = json!({"keyType": "ed25519", "allowDisabledChallenge": true});
    let addr = peer.try_listen(&address(star), options).await;
    addr.expect("no challenge is needed")
}

#[tokio::test]
async fn the_streams_of_an_npm_client_that_disconnects_end_properly_at_its_peers() {
    let star = without_challenge().await;
    let (stays, of_stays) = listening(&star).await;
    let (leaves, of_leaves) = listening(&star).await;
    // The client has one incoming stream and one outgoing stream.
    leaves.mode("stall", json!({})).await;
    stays.mode("sink", json!({})).await;
    let dial = json!({"mode": "collect", "hold": true});
    let dialled = stays.begin_dial(&of_leaves, dial.clone()).await;
    stays.opened(dialled).await;
    let dialling = leaves.begin_dial(&of_stays, dial).await;
    leaves.opened(dialling).await;
    leaves.down().await;
    let dialled = stays.dialled(dialled).await;
    assert_eq!(dialled["ok"], true, "{dialled}");
    let received = stays.expect("received").await;
    assert_eq!(received["error"], json!(null), "{received}");
}

#[tokio::test]
async fn an_npm_client_joins_the_address_of_a_link_that_is_still_there_at_once() {
    let star = without_challenge().await;
    let (other, _) = listening(&star).await;
    let (peer, before) = listening(&star).await;
    peer.mode("stall", json!({})).await;
    let held = other
        .begin_dial(&before, json!({"mode": "collect", "hold": true}))
        .await;
    other.opened(held).await;
    for _ in 0..3 {
        assert_eq!(listen(&peer, &star).await, before);
        peer.mode("echo", json!({})).await;
        other.echo(&before, 100_000).await;
    }
    assert_eq!(star.snapshot().links, 5, "nobody has closed a link");
    assert_eq!(star.snapshot().peers.len(), 2);
    assert_eq!(other.seen("dialled").len(), 3, "the first dial goes on");
}
