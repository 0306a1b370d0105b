//! `star peers` at our rendezvous and at npm's.

use tokio::net::TcpListener;

use crate::{
    star::{Running, run},
    support::{
        address, embedded, hasty,
        js::{Peer, Rendezvous, RendezvousOptions},
        node::{Node, listen, serve, swarm},
    },
};

/// Starts a node that answers pings. Returns its peer id, too.
async fn node(star: &str) -> (tokio::task::JoinHandle<()>, String) {
    let mut node: libp2p::Swarm<Node> = swarm(hasty());
    listen(&mut node, star).await;
    let peer = node.local_peer_id().to_string();
    (tokio::spawn(serve(node)), peer)
}

async fn everybody_is_listed(star: &str) {
    let (one, other) = (node(star).await, node(star).await);
    let said = run(&["peers", star, "--once"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for peer in [&one.1, &other.1] {
        assert!(said.stdout.contains(&format!("+ {peer}\n")), "{said:?}");
        let measured = said
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("= {peer} ")));
        assert!(
            measured.is_some_and(|line| line.ends_with(" ms")),
            "{said:?}"
        );
    }
    let said = run(&["peers", star, "--once", "--json"]).await;
    let events = said.json();
    let joined = &events[0];
    assert_eq!(joined["event"], "joined", "{events:?}");
    for peer in [&one.1, &other.1] {
        let of = |event: &str| {
            let mut found = events.iter();
            found
                .find(|found| found["event"] == event && found["peer"] == **peer)
                .cloned()
        };
        let found = of("discovered").expect("discovered");
        assert!(
            found["address"]
                .as_str()
                .is_some_and(|address| address.ends_with(peer.as_str()))
        );
        let measured = of("round_trip").expect("measured");
        assert!(
            measured["milliseconds"]
                .as_f64()
                .is_some_and(|time| time > 0.0)
        );
    }
}

#[tokio::test]
async fn everybody_at_our_rendezvous_is_listed_with_a_round_trip() {
    let server = embedded().await;
    everybody_is_listed(&address(&server)).await;
}

#[tokio::test]
async fn everybody_at_npms_rendezvous_is_listed_with_a_round_trip() {
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    everybody_is_listed(&npm.addr()).await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_listed_with_the_reason() {
    let server = embedded().await;
    // This client accepts connections, but does not speak noise.
    let npm = Peer::start();
    let to = npm.listen(&address(&server)).await;
    let (_, peer) = to.rsplit_once('/').expect("a peer");
    let said = run(&["peers", &address(&server), "--once", "--timeout", "2s"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains(&format!("+ {peer}\n")), "{said:?}");
    assert!(said.stdout.contains(&format!("! {peer} ")), "{said:?}");
    let said = run(&["peers", &address(&server), "--once", "--no-ping"]).await;
    assert_eq!(said.stdout, format!("+ {peer}\n"), "{said:?}");
}

#[tokio::test]
async fn it_runs_until_it_is_stopped_and_sees_who_comes() {
    let server = embedded().await;
    let star = address(&server);
    let mut running = Running::start(&["peers", &star]);
    running.notes("joined as ").await;
    let (_node, peer) = node(&star).await;
    running.says(&format!("+ {peer}")).await;
    running.says(&format!("= {peer} ")).await;
    running.signal("INT").await;
    assert_eq!(running.code().await, Some(0));
    let for_a_time = run(&["peers", &star, "--for", "500ms"]).await;
    assert_eq!(for_a_time.code, Some(0), "{for_a_time:?}");
}

#[tokio::test]
async fn an_interrupt_before_the_join_is_a_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", silent.local_addr().expect("bound"));
    let mut running = Running::start(&["peers", &url]);
    // It handles signals from before it connects.
    let (_link, _) = silent.accept().await.expect("the node");
    running.signal("INT").await;
    assert_eq!(running.code().await, Some(1));
    running.notes("star: interrupted before").await;
}

#[tokio::test]
async fn nobody_who_reads_is_a_quiet_end() {
    let server = embedded().await;
    let star = address(&server);
    let (_node, _) = node(&star).await;
    let mut running = Running::start(&["peers", &star]);
    let (stdout, mut lost) = (running.stdout, running.stderr);
    drop(stdout);
    running.child.stdout = None;
    let status = crate::support::within("its end", running.child.wait()).await;
    assert_eq!(status.expect("it ran").code(), Some(1));
    let mut said = Vec::new();
    while let Some(line) = lost.next_line().await.expect("UTF-8") {
        said.push(line);
    }
    assert!(
        said.iter().all(|line| line.starts_with("joined as ")),
        "{said:?}"
    );
}
