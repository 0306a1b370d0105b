//! What the application is asked about a join, and the effect of its answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Allowed, Join, Network, Refused, Server, Verdict};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use super::{Deciding, count, id, key, serving, serving_with, try_join};
use crate::client::{Client, Eio, address, config, dial, until};

#[tokio::test]
async fn a_refusal_says_whether_to_come_again_and_the_link_lives() {
    let (banned, late) = (key(), key());
    let (ids, open) = ((id(&banned), id(&late)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let open = open.clone();
        serving(Deciding(move |join: &Join| {
            if join.peer() == Some(ids.0) {
                Verdict::refuse("not\r\nyou")
            } else if join.peer() == Some(ids.1) && open.load(Ordering::Relaxed) == 0 {
                Verdict::refuse_for(Duration::from_millis(1500), "the office is closed")
            } else {
                Verdict::allow()
            }
        }))
        .await
    };
    for eio in [Eio::V3, Eio::V4] {
        let mut client = Client::connect_as(&server, eio).await;
        let answer = try_join(&mut client, &banned).await;
        assert_eq!(answer, json!(["Not allowed: not\\r\\nyou"]));
        open.store(0, Ordering::Relaxed);
        let answer = try_join(&mut client, &late).await;
        let words = "Not allowed now, again in 2 s: the office is closed";
        assert_eq!(answer, json!([words]));
        open.store(1, Ordering::Relaxed);
        assert_eq!(try_join(&mut client, &late).await[0], Value::Null);
        // The link cannot use the address of the banned peer.
        let mut other = Client::joined(&server).await;
        let from_banned = json!(["ss-dial", address(&banned), other.address, "d"]);
        let answer = client.request(from_banned).await;
        assert_eq!(answer, json!(["Not authorized for this address"]));
        dial(&mut client, &mut other, "d").await;
    }
    assert_eq!(count(&server, Refused::NotAllowed), 2);
    assert_eq!(count(&server, Refused::NotAllowedNow), 2);
    assert_eq!(server.snapshot().counters.joins_refused, 4);
    let metrics = crate::client::http(server.local_addr(), "GET /metrics HTTP/1.1").await;
    let counted = "rendezvous_refusals_total{reason=\"not_allowed\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
}

/// Connects with these headers and this query, and joins. Returns the join that the application was asked about.
async fn asked_about(
    server: &Server,
    asked: &Mutex<Option<Join>>,
    headers: &[(&str, &str)],
    query: &str,
) -> Join {
    let (addr, eio) = (server.local_addr(), Eio::V3);
    let socket = TcpSocket::new_v4().expect("a socket");
    let path = format!("/socket.io/?{}{query}", eio.query());
    let client = Client::upgrade_saying(addr, eio, socket, &path, headers).await;
    let mut client = client.greeted().await;
    client.join(&key()).await;
    let join = asked.lock().expect("no panic").take().expect("asked");
    assert_eq!(join.address(), client.address);
    join
}

#[tokio::test]
async fn it_is_asked_with_all_that_is_known_of_the_client() {
    let asked = Arc::<Mutex<Option<Join>>>::default();
    let access = {
        let asked = asked.clone();
        Deciding(move |join: &Join| {
            *asked.lock().expect("no panic") = Some(join.clone());
            Verdict::allow()
        })
    };
    let proxy: Network = "127.0.0.1".parse().expect("an address");
    let server = serving_with(config().with_trusted_proxies([proxy]), access).await;
    let plain = asked_about(&server, &asked, &[], "").await;
    assert!(plain.is_proved() && plain.token().is_none());
    assert!(plain.client().is_loopback());
    assert_eq!(plain.host(), Some(&*server.local_addr().to_string()));
    assert!(
        plain
            .address()
            .ends_with(&plain.peer().expect("an id").to_base58())
    );

    let headers = [
        ("Authorization", "Bearer sec+ret"),
        ("X-Forwarded-For", "192.0.2.7"),
    ];
    let join = asked_about(&server, &asked, &headers, "&token=other").await;
    assert_eq!(join.token().map(|token| token.reveal()), Some("sec+ret"));
    assert_eq!(join.client().to_string(), "192.0.2.7");
    let join = asked_about(&server, &asked, &[], "&token=sec%2Bret").await;
    assert_eq!(join.token().map(|token| token.reveal()), Some("sec+ret"));
    assert!(!format!("{join:?}").contains("sec+ret"));
}

#[tokio::test]
async fn without_the_challenge_it_knows_that_nothing_is_proved() {
    let server = serving_with(
        config().with_challenge(false),
        Deciding(|join: &Join| match (join.is_proved(), join.peer()) {
            (false, Some(_)) => Verdict::refuse("prove it"),
            _ => Verdict::allow(),
        }),
    )
    .await;
    let mut client = Client::connect(&server).await;
    let join = json!(["ss-join", address(&key()), ""]);
    assert_eq!(client.request(join).await, json!(["Not allowed: prove it"]));
    assert_eq!(count(&server, Refused::NotAllowed), 1);
}

#[tokio::test]
async fn a_peer_that_goes_by_the_other_id_of_its_key_is_the_same() {
    let banned = key();
    let listed = id(&banned);
    let server = serving(Deciding(move |join: &Join| {
        match join.peer_ids().any(|id| id == listed) {
            true => Verdict::refuse("banned"),
            false => Verdict::allow(),
        }
    }))
    .await;
    let old = Join::new(listed, [127, 0, 0, 1].into()).peer_ids().last();
    let old = old.expect("a hashed one").to_base58();
    assert!(old.starts_with("Qm"), "{old}");
    let address = format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/{old}");
    let mut client = Client::connect(&server).await;
    let ack = client.prove_as(&banned, address).await;
    assert_eq!(client.answer(ack).await, json!(["Not allowed: banned"]));
}

#[tokio::test]
async fn whoever_is_allowed_few_dials_has_no_more() {
    let server = serving(Deciding(|_: &Join| {
        Allowed::default().with_max_dials(1).into()
    }))
    .await;
    let mut dialer = Client::joined(&server).await;
    let mut listener = Client::joined(&server).await;
    dial(&mut dialer, &mut listener, "1").await;
    let event = json!(["ss-dial", dialer.address, listener.address, "2"]);
    let answer = dialer.request(event).await;
    assert_eq!(answer, json!(["Too many dials on one link"]));
}

/// A guard of the application that needs one of the server's own locks, and then panics.
struct Rude(Arc<Mutex<Option<Server>>>, Arc<AtomicUsize>);

impl Drop for Rude {
    fn drop(&mut self) {
        let server = self.0.lock().expect("no panic");
        let peers = server.as_ref().map(|server| server.snapshot().peers.len());
        self.1.fetch_add(1, Ordering::SeqCst);
        drop(server);
        if peers.is_some() {
            panic!("a guard of the application");
        }
    }
}

#[tokio::test]
async fn a_guard_that_locks_or_panics_harms_nobody() {
    let shared = Arc::<Mutex<Option<Server>>>::default();
    let gone = Arc::<AtomicUsize>::default();
    let access = {
        let (shared, gone) = (shared.clone(), Arc::clone(&gone));
        Deciding(move |_: &Join| {
            let guard = Rude(shared.clone(), gone.clone());
            Allowed::default().with_guard(guard).into()
        })
    };
    let server = serving(access).await;
    let addr = server.local_addr();
    let one = key();
    let mut first = Client::connect(&server).await;
    first.join(&one).await;
    let mut second = Client::connect(&server).await;
    let mut third = Client::joined(&server).await;
    *shared.lock().expect("no panic") = Some(server);
    let gone = || gone.load(Ordering::SeqCst);
    // The peer moves to another link, joins again, leaves, and hangs up.
    second.join(&one).await;
    until("it has moved", || gone() == 1).await;
    second.join(&one).await;
    until("it has joined anew", || gone() == 2).await;
    second.request(json!(["ss-leave", second.address])).await;
    until("it has left", || gone() == 3).await;
    second.join(&one).await;
    drop(second);
    until("it has hung up", || gone() == 4).await;
    third.send("41").await;
    until("it has disconnected", || gone() == 5).await;
    let server = shared.lock().expect("no panic").take().expect("it runs");
    assert_eq!(server.snapshot().panics, 0);
    assert_eq!(server.local_addr(), addr);
    Client::joined(&server).await;
}

#[tokio::test]
async fn a_panic_while_it_decides_costs_the_link_that_asks() {
    let bad = key();
    let listed = id(&bad);
    let server = serving(Deciding(move |join: &Join| {
        assert!(join.peer() != Some(listed), "a bug of the application");
        Verdict::allow()
    }))
    .await;
    let mut other = Client::joined(&server).await;
    let mut client = Client::connect(&server).await;
    client.prove(&bad).await;
    assert!(client.closed().await.is_none());
    until("it is counted", || server.snapshot().panics == 1).await;
    assert_eq!(server.snapshot().peers.len(), 1);
    let mut third = Client::joined(&server).await;
    dial(&mut third, &mut other, "d").await;
}

#[tokio::test]
async fn without_anybody_to_ask_nothing_is_different() {
    let server = crate::client::server().await;
    let mut client = Client::connect(&server).await;
    let other: Keypair = key();
    assert_eq!(try_join(&mut client, &other).await[0], Value::Null);
    assert_eq!(server.recheck_access().await, 0);
}
