//! What the test suites of the npm clients and of the npm rendezvous rely on, without a challenge as there.

use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::json;

use crate::support::{
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
