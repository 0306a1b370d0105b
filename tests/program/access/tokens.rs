//! Shared tokens: which nodes show one, to which rendezvous, and where a token may appear.

use std::fs::File;

use libp2p_websocket_star::{
    Config,
    error::{Error, TokenError},
    rendezvous::{self, Server},
};
use serde_json::json;

use super::{List, cut_off, for_now, node, npm, refused_for_now, showing};
use crate::support::{
    address,
    binary::{Binary, command},
    certificates::Folder,
    head,
    raw::echo_both_ways,
    scripted::Scripted,
    token::{OneToken, SECRET},
    traced::traced,
};

#[tokio::test]
async fn a_token_lets_its_node_in_and_npm_clients_go_by_their_id() {
    let (npm, of_npm) = npm().await;
    let tokens = List::new(&[
        "# for guests".to_owned(),
        "other".to_owned(),
        SECRET.to_owned(),
    ]);
    let peers = List::new(&[of_npm]);
    let (tokens_path, peers_path) = (tokens.path(), peers.path());
    let flags = ["--token-file", &tokens_path, "--allow-peers", &peers_path];
    let star = Binary::start(&flags).await;
    let ed25519 = json!({"keyType": "ed25519"});
    let to = npm.try_listen(&star.addr(), ed25519).await.expect("known");
    let mut guest = showing(SECRET, &star.addr());
    let (_, own) = guest.listen(&star.addr()).await;
    echo_both_ways(&mut guest, &own, &npm, &to, 10_000, 1000).await;

    let not_good = "Not allowed now, again in 60 s: your token is not valid";
    let wrong = refused_for_now(&mut showing("a+very", &star.addr()), &star.addr()).await;
    assert_eq!(wrong, not_good);
    let none = refused_for_now(&mut node().0, &star.addr()).await;
    let expected =
        "Not allowed now, again in 60 s: you are not on an allow list, and show no token";
    assert_eq!(none, expected);
    assert_eq!(super::counted(&star, "allowed", "token").await, 1);

    // A peer whose token is removed from the file is disconnected.
    tokens.write(&["other".to_owned()]);
    cut_off(&mut guest).await;
    assert_eq!(for_now(&mut guest).await, not_good);
}

#[tokio::test]
async fn a_token_is_shown_to_its_own_rendezvous_and_to_no_other() {
    let [own, other, dialled] = [
        Scripted::start().await,
        Scripted::start().await,
        Scripted::start().await,
    ];
    let node = showing(SECRET, &own.addr());
    for star in [&own, &other] {
        node.listen_on(&star.addr()).expect("a good address");
    }
    let header = format!("Authorization: Bearer {SECRET}\r\n");
    assert!(head(&mut own.tcp().await).await.contains(&header));
    // The token is not shown to a rendezvous through which the node only dials, either.
    let dial = tokio::spawn(node.start_dial(&dialled.somebody()));
    for star in [&other, &dialled] {
        let shown = head(&mut star.tcp().await).await;
        assert!(
            !shown.contains(SECRET) && !shown.contains("Authorization"),
            "{shown}"
        );
    }
    dial.abort();
}

#[tokio::test]
async fn a_token_is_not_shown_under_another_name_though_it_leads_to_the_same_place() {
    for (name, is_shown) in [("/dns4/localhost", false), ("/ip4/127.0.0.1", true)] {
        let star = Scripted::start().await;
        let node = showing(SECRET, &star.addr());
        let to = star.somebody().replace("/ip4/127.0.0.1", name);
        let dial = tokio::spawn(node.start_dial(&to));
        let shown = head(&mut star.tcp().await).await;
        assert_eq!(shown.contains(SECRET), is_shown, "{shown}");
        dial.abort();
    }
}

#[test]
fn a_token_that_others_could_read_is_refused_before_anything_is_sent() {
    let star = |base: &str| {
        let addr = format!("{base}/p2p-websocket-star");
        Config::default().with_token(addr.parse().expect("a multiaddr"), SECRET)
    };
    for base in [
        "/dns4/star.example/tcp/80/ws",
        "/dns4/localhost/tcp/80/ws",
        "/ip4/192.0.2.1/tcp/80/ws",
    ] {
        match star(base) {
            Err(Error::Token(TokenError::Unencrypted)) => {}
            other => panic!("{base}: {other:?}"),
        }
    }
    for base in [
        "/dns4/star.example/tcp/443/wss",
        "/ip4/127.0.0.1/tcp/80/ws",
        "/ip6/::1/tcp/80/ws",
    ] {
        let config = star(base).expect(base);
        assert!(!format!("{config:?}").contains(SECRET));
    }
}

#[tokio::test]
async fn a_token_is_in_no_log_and_in_no_error_of_either_end() {
    let folder = Folder::new();
    let log = folder.path("log");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(File::create(&log).expect("a file"))
        .finish();
    let _guard = traced(subscriber);
    let config = rendezvous::Config::default().with_access(OneToken);
    let star = Server::bind(config).await.expect("a free port");
    let at = address(&star);
    showing(SECRET, &at).listen(&at).await;
    let wrong = "another+token/that~is==wrong";
    let mut node = showing(wrong, &at);
    node.listen_on(&at).expect("a good address");
    let error = node.listener_closed().await;
    assert!(error.to_string().ends_with("not with that"), "{error}");
    // The token is not in the error of a rendezvous that cannot be reached, either.
    star.shutdown().await;
    let mut node = showing(wrong, &at);
    node.listen_on(&at).expect("a good address");
    let unreachable = node.listener_error().await;
    let log = std::fs::read_to_string(log).expect("UTF-8");
    let all = format!("{log}{error}{error:?}{unreachable}{unreachable:?}");
    assert!(all.contains("Token(…)"), "it was asked about");
    for secret in [SECRET, wrong] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test]
async fn the_binary_writes_no_token_wherever_it_comes_from() {
    let list = List::new(&[SECRET.to_owned()]);
    let log = list.folder.path("log");
    let mut command = command();
    command
        .args([
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--token-file",
            &list.path(),
        ])
        .env("RUST_LOG", "trace")
        .stderr(File::create(&log).expect("a file"));
    let star = Binary::spawn(&mut command).await;
    showing(SECRET, &star.addr()).listen(&star.addr()).await;
    let wrong = "another+token";
    refused_for_now(&mut showing(wrong, &star.addr()), &star.addr()).await;
    let query = format!("/socket.io/?EIO=3&transport=websocket&token={wrong}");
    let answer = crate::support::binary::http(star.local_addr(), "GET", &query, "x").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 "),
        "it is no upgrade: {answer}"
    );
    star.signal("TERM").await;
    star.ended().await;
    let log = std::fs::read_to_string(log).expect("UTF-8");
    assert!(log.contains("a request is refused"), "{log}");
    assert!(!log.contains(SECRET) && !log.contains(wrong), "{log}");
}
