//! `star ping` between two nodes of `star`, at our rendezvous and at npm's.

use libp2p::PeerId;

use crate::{
    star::{Running, command, ended, run},
    support::{
        address, ed25519, embedded, hasty,
        js::{Rendezvous, RendezvousOptions},
        raw::Raw,
    },
};

/// Starts a node of `star` that can be pinged, and returns its address.
async fn there(star: &str) -> (Running, String) {
    let mut there = Running::start(&["peers", star, "--no-ping"]);
    let joined = there.notes("joined as ").await;
    let address = joined.trim_start_matches("joined as ").to_owned();
    (there, address)
}

async fn pings_come_back(star: &str) {
    let (_there, address) = there(star).await;
    let (_, peer) = address.rsplit_once('/').expect("a peer");
    let said = run(&["ping", star, peer, "-c", "3", "-i", "100ms"]).await;
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{said:?}");
    assert!(
        lines[0].starts_with(&format!("PING {peer} through ws://127.0.0.1:")),
        "{said:?}"
    );
    for (n, line) in lines[1..4].iter().enumerate() {
        assert!(line.starts_with(&format!("answer {}: ", n + 1)), "{said:?}");
    }
    assert!(
        lines[4].starts_with("3 sent, 3 answered, 0 lost; min/avg/max "),
        "{said:?}"
    );
    assert!(lines[4].contains("; the rendezvous itself "), "{said:?}");

    let said = run(&["ping", &address, "-c", "2", "-i", "100ms", "--json"]).await;
    let events = said.json();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["connected", "answer", "answer", "summary"]);
    let summary = &events[3];
    assert_eq!((&summary["sent"], &summary["lost"]), (&2.into(), &0.into()));
    for name in ["min", "avg", "max", "rendezvous_round_trip"] {
        assert!(
            summary[name].as_f64().is_some_and(|time| time > 0.0),
            "{summary}"
        );
    }
}

#[tokio::test]
async fn pings_come_back_through_our_rendezvous() {
    let server = embedded().await;
    pings_come_back(&address(&server)).await;
}

#[tokio::test]
async fn pings_come_back_through_npms_rendezvous() {
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    pings_come_back(&npm.addr()).await;
}

#[tokio::test]
async fn the_environment_names_the_rendezvous() {
    let server = embedded().await;
    let star = address(&server);
    let (_there, address) = there(&star).await;
    let (_, peer) = address.rsplit_once('/').expect("a peer");
    let mut command = command(&["ping", peer, "-c", "1"]);
    let said = ended(
        command
            .env("STAR_RENDEZVOUS", &star)
            .spawn()
            .expect("it runs"),
    )
    .await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_said_to_be_absent() {
    let server = embedded().await;
    let nobody = PeerId::random().to_string();
    let said = run(&["ping", &address(&server), &nobody]).await;
    assert_eq!((said.code, &*said.stdout), (Some(1), ""), "{said:?}");
    let url = format!("ws://{}", server.local_addr());
    let expected =
        format!("star: the peer cannot be reached: {url}: the peer is not at the rendezvous\n");
    assert_eq!(said.stderr, expected);
}

#[tokio::test]
async fn a_peer_that_goes_ends_it_with_a_summary() {
    let server = embedded().await;
    let (mut there, address) = there(&address(&server)).await;
    let mut pings = Running::start(&["ping", &address, "-i", "100ms"]);
    pings.says("answer 2: ").await;
    there.child.start_kill().expect("it runs");
    there.code().await;
    pings.says("").await;
    pings
        .notes("star: the connection to the peer is lost")
        .await;
    assert_eq!(pings.code().await, Some(1));
}

#[tokio::test]
async fn a_signal_ends_it_with_a_summary() {
    let server = embedded().await;
    let (_there, address) = there(&address(&server)).await;
    let mut pings = Running::start(&["ping", &address, "-i", "100ms"]);
    pings.says("answer 2: ").await;
    pings.signal("TERM").await;
    loop {
        let line = pings.says("").await;
        if line.contains(" sent, ") {
            assert!(line.contains(" 0 lost; min/avg/max "), "{line}");
            break;
        }
    }
    assert_eq!(pings.code().await, Some(0));
}

#[tokio::test]
async fn a_peer_that_stops_is_lost_pings() {
    let server = embedded().await;
    let (there, address) = there(&address(&server)).await;
    let mut pings = Running::start(&[
        "ping",
        &address,
        "-i",
        "100ms",
        "--timeout",
        "1s",
        "-c",
        "6",
    ]);
    pings.says("answer 2: ").await;
    there.signal("STOP").await;
    pings.says("no answer ").await;
    there.signal("KILL").await;
}

/// The peer accepts the dial, but never answers the noise handshake.
#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let server = embedded().await;
    let mut mute = Raw::with(&ed25519(), hasty());
    let (_, at) = mute.listen(&address(&server)).await;
    let at = at.to_string();
    let silent = tokio::spawn(async move {
        let mut taken = Vec::new();
        loop {
            taken.push(mute.accept().await);
        }
    });
    for command in ["ping", "pipe"] {
        let said = run(&[command, &at, "--timeout", "2s"]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains("imeout"), "{said:?}");
    }
    silent.abort();
    server.shutdown().await;
}
