//! Shared tokens: who shows one, to whom, and what becomes of it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures::future::join;
use libp2p_websocket_star::{
    Config,
    error::{Error, TokenError},
    rendezvous::{self, Access, Join, Judgement, Server, Verdict},
};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{List, for_now, node, npm, refused_for_now};
use crate::support::{
    address,
    binary::{Binary, command},
    ed25519, hasty,
    raw::{Raw, check_echo, echo},
    scripted::Scripted,
    within,
};

const SECRET: &str = "a+very/secret~token==";

/// A node that shows this token at a rendezvous.
fn showing(token: &str, addr: &str) -> Raw {
    let addr = addr.parse().expect("a multiaddr");
    let config = hasty().with_token(addr, token).expect("on this machine");
    Raw::with(&ed25519(), config)
}

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
    let own = own.to_string().replace("/p2p/", "/ipfs/");
    check_echo(guest.dial(&to).await, 10_000, 1000).await;
    let answer = async { echo(guest.accept().await.0).await.expect("no reset") };
    join(npm.echo(&own, 10_000), answer).await;

    let not_good = "Not allowed now, again in 60 s: your token is not a good one";
    let wrong = refused_for_now(&mut showing("a+very", &star.addr()), &star.addr()).await;
    assert_eq!(wrong, not_good);
    let none = refused_for_now(&mut node().0, &star.addr()).await;
    let expected = "Not allowed now, again in 60 s: you are on no allow list, and show no token";
    assert_eq!(none, expected);
    assert_eq!(super::counted(&star, "allowed", "token").await, 1);

    // Who has an old token goes with it.
    tokens.write(&["other".to_owned()]);
    loop {
        use libp2p::core::transport::TransportEvent::{AddressExpired, ListenerError};
        match guest.event().await {
            AddressExpired { .. } => {}
            ListenerError { error, .. } => {
                assert!(error.to_string().contains("not allowed here any more"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(for_now(&mut guest).await, not_good);
}

/// The head of a request.
async fn head(mut stream: TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within("a request", stream.read_u8()).await;
        head.push(byte.expect("a byte"));
    }
    String::from_utf8(head).expect("UTF-8")
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
    assert!(head(own.tcp().await).await.contains(&header));
    // Nor where somebody dials.
    let dial = tokio::spawn(node.start_dial(&dialled.somebody()));
    for star in [&other, &dialled] {
        let shown = head(star.tcp().await).await;
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
        let shown = head(star.tcp().await).await;
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

/// Everything that is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

/// Knows one token.
#[derive(Debug)]
struct OneToken;

impl Access for OneToken {
    fn judge(&self, join: &Join) -> Judgement {
        tracing::info!(?join, "somebody wants to join");
        match self.still_allows(join) {
            true => Verdict::allow().into(),
            false => Verdict::refuse("not with that").into(),
        }
    }

    fn still_allows(&self, join: &Join) -> bool {
        join.token().is_some_and(|token| token.reveal() == SECRET)
    }
}

#[tokio::test]
async fn a_token_is_in_no_log_and_in_no_error_of_either_end() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let config = rendezvous::Config::default().with_access(OneToken);
    let star = Server::bind(config).await.expect("a free port");
    let at = address(&star);
    showing(SECRET, &at).listen(&at).await;
    let wrong = "another+token/that~is==wrong";
    let mut node = showing(wrong, &at);
    node.listen_on(&at).expect("a good address");
    let error = node.listener_closed().await;
    assert!(error.to_string().ends_with("not with that"), "{error}");
    // One that cannot be reached.
    star.shutdown().await;
    let mut node = showing(wrong, &at);
    node.listen_on(&at).expect("a good address");
    let unreachable = node.listener_error().await;
    let all = format!("{}{error}{error:?}{unreachable}{unreachable:?}", log.text());
    assert!(all.contains("Token(…)"), "it was asked about");
    for secret in [SECRET, wrong] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test]
async fn the_binary_writes_no_token_wherever_it_comes_from() {
    let list = List::new(&[SECRET.to_owned()]);
    let log = list.file("log");
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
        .stderr(std::fs::File::create(&log).expect("a file"));
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
