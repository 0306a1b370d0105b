//! Peers that were allowed and must leave now.

use libp2p_identity::PeerId;
use libp2p_websocket_star::rendezvous::{
    Access, Config, Join, Judgement, Refused, Server, Verdict,
};
use serde_json::{Value, json};

use super::{Ask, Bans, Slow, Waiting, count, id, key, serving, try_join, waiting};
use crate::client::{Client, Eio, dial, server, soon, stream_event, until};

#[tokio::test]
async fn whoever_is_not_allowed_any_more_is_cut_off_and_nobody_else() {
    let bans = Bans::default();
    let server = serving(bans.clone()).await;
    let bad = key();
    let mut banned = Client::connect(&server).await;
    banned.join(&bad).await;
    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(Client::joined(&server).await);
    }
    let [first, second] = &mut others[..2] else {
        panic!("there are more")
    };
    dial(first, second, "d").await;
    dial(first, &mut banned, "e").await;
    bans.ban(&bad);
    assert_eq!(soon("a look", server.recheck_access()).await, 1);
    let (code, reason) = banned.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1008);
    assert_eq!(reason, "you are no longer allowed here");
    // The streams of the banned peer end with an error, and those of the others go on.
    let lost = "\"the other peer's link to the rendezvous was lost\"";
    let mut ends = [first.text().await, first.text().await];
    ends.sort();
    let streams = ["e.dialer", "e.listener"];
    assert_eq!(ends, streams.map(|stream| stream_event(lost, stream)));
    first.item("d.dialer", b"still there").await;
    second.expect_item("d.dialer", b"still there").await;

    assert_eq!(count(&server, Refused::NoLongerAllowed), 1);
    let mut again = Client::connect(&server).await;
    let answer = try_join(&mut again, &bad).await;
    assert_eq!(answer, json!(["Not allowed: you are banned"]));
    assert_eq!(server.recheck_access().await, 0);
    assert_eq!(server.snapshot().peers.len(), 300);
}

#[tokio::test]
async fn a_link_that_takes_nothing_is_cut_off_too() {
    let bans = Bans::default();
    let server = serving(bans.clone()).await;
    let bad = key();
    let mut stuck = Client::connect(&server).await;
    stuck.join(&bad).await;
    let mut sender = Client::joined(&server).await;
    dial(&mut sender, &mut stuck, "d").await;
    // Send until the sockets and the queue are full.
    let item = vec![7; 500_000];
    let full = async {
        loop {
            sender.item("d.dialer", &item).await;
        }
    };
    let full = tokio::time::timeout(std::time::Duration::from_secs(2), full).await;
    assert!(full.is_err());
    bans.ban(&bad);
    assert_eq!(server.recheck_access().await, 1);
    until("the peer to be gone", || server.snapshot().peers.len() <= 1).await;
}

#[tokio::test]
async fn a_peer_is_disconnected_wherever_it_is_and_told_why() {
    for server in [server().await, serving(Bans::default()).await] {
        let (one, other) = (key(), key());
        let mut client = Client::connect_as(&server, Eio::V4).await;
        client.join(&one).await;
        let mut stays = Client::connect(&server).await;
        stays.join(&other).await;
        let nobody = server.disconnect(&id(&key()), "").await;
        assert_eq!(nobody, 0);
        assert_eq!(server.disconnect(&id(&one), "too\nloud").await, 1);
        let (code, reason) = client.closed().await.expect("a reason");
        assert_eq!(u16::from(code), 1008);
        assert_eq!(reason, "disconnected: too\\nloud");
        assert_eq!(count(&server, Refused::Disconnected), 1);

        // A disconnect is not a ban. The other id of the same key finds the peer, too.
        let mut client = Client::connect(&server).await;
        client.join(&one).await;
        let old = libp2p_websocket_star::rendezvous::Join::new(id(&one), [127, 0, 0, 1].into());
        let old = old.peer_ids().last().expect("two");
        assert_eq!(server.disconnect(&old, &"a".repeat(1000)).await, 1);
        let (_, reason) = client.closed().await.expect("a reason");
        assert_eq!(reason, format!("disconnected: {}", "a".repeat(109)));
        stays.request(json!(["ss-leave", ""])).await;
    }
}

/// An access rule with a bug that one peer triggers.
#[derive(Debug)]
struct Buggy(Bans, PeerId);

impl Access for Buggy {
    fn judge(&self, join: &Join) -> Judgement {
        self.0.judge(join)
    }

    fn still_allows(&self, join: &Join) -> bool {
        assert!(join.peer() != Some(self.1), "a bug of the application");
        self.0.still_allows(join)
    }
}

#[tokio::test]
async fn a_panic_about_one_peer_costs_that_peer_its_link_and_saves_nobody_else() {
    let bans = Bans::default();
    let keys: Vec<_> = (0..5).map(|_| key()).collect();
    // The bad peer is in the middle of the order in which peers are checked.
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort_by_key(|key| crate::client::address(key));
    let [first, _, bad, _, last] = sorted[..] else {
        panic!("five")
    };
    let server = serving(Buggy(bans.clone(), id(bad))).await;
    let mut clients = Vec::new();
    for key in &keys {
        let mut client = Client::connect(&server).await;
        client.join(key).await;
        clients.push((key, client));
    }
    bans.ban(first);
    bans.ban(last);
    assert_eq!(soon("a look", server.recheck_access()).await, 3);
    for (key, client) in &mut clients {
        if [first, bad, last].iter().any(|out| id(out) == id(key)) {
            let (_, reason) = client.closed().await.expect("a reason");
            assert_eq!(reason, "you are no longer allowed here");
        }
    }
    until("the others to be left", || {
        server.snapshot().peers.len() <= 2
    })
    .await;
    assert_eq!(server.snapshot().panics, 0);
}

#[tokio::test]
async fn whoever_is_banned_and_disconnected_while_it_is_judged_does_not_stay() {
    let (access, mut asks) = Waiting::new();
    let bans = Bans::default();
    let server = serving(Slow(access, bans.clone())).await;
    let (bad, good) = (key(), key());
    let mut clients = waiting(&server, [&bad, &good], &mut asks).await;
    bans.ban(&bad);
    assert_eq!(server.disconnect(&id(&bad), "banned").await, 0);
    let (mut stays, ack, Ask { reply, .. }) = clients.pop().expect("two");
    reply.send(Verdict::allow()).expect("it waits");
    assert_eq!(stays.answer(ack).await[0], Value::Null);
    let (mut goes, _, Ask { reply, .. }) = clients.pop().expect("two");
    reply.send(Verdict::allow()).expect("it waits");
    let (_, reason) = goes.closed().await.expect("a reason");
    assert_eq!(reason, "you are no longer allowed here");
}

#[tokio::test]
async fn what_the_application_counts_is_shown() {
    let access = Slow(Waiting::new().0, Bans::default());
    let server = serving(access).await;
    let metrics = async |server: &Server| {
        let asked = crate::client::http(server.local_addr(), "GET /metrics HTTP/1.1");
        asked.await
    };
    let shown = metrics(&server).await;
    for line in [
        "# TYPE rendezvous_access_asked_total counter",
        "rendezvous_access_asked_total{by=\"test\"} 7",
        "rendezvous_access_lists_total 3",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let plain = Server::bind(Config::default()).await.expect("a free port");
    assert!(!metrics(&plain).await.contains("rendezvous_access"));
}
