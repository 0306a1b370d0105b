//! A service that decides over HTTP who may join.

use std::time::{Duration, Instant};

use futures::future::join_all;
use libp2p::core::transport::TransportEvent::{ListenerError, NewAddress};
use serde_json::json;

use super::{
    List, counted, node, npm, refusal, refusals, refused, refused_for_now,
    service::{Answer, Service},
    showing, showing_with,
};
use crate::support::{
    binary::Binary,
    certificates::{Certificate, Folder, text},
    ed25519, hasty,
    js::wire,
    raw::{Raw, echo_both_ways},
    within,
};

async fn asking(service: &Service, more: &[&str]) -> Binary {
    let url = service.url();
    let flags = [&["--access-url", &url], more].concat();
    Binary::start(&flags).await
}

#[tokio::test]
async fn the_service_is_asked_with_all_there_is_and_obeyed() {
    let service = Service::start(json!({"allow": true})).await;
    let star = asking(&service, &[]).await;
    let (npm, of_npm) = npm().await;
    let ed25519_key = json!({"keyType": "ed25519"});
    let to = npm.try_listen(&star.addr(), ed25519_key.clone()).await;
    let to = to.expect("let in");
    let key = ed25519();
    let mut node = showing_with(&key, "secret", &star.addr());
    let (_, own) = node.listen(&star.addr()).await;
    echo_both_ways(&mut node, &own, &npm, &to, 10_000, 1000).await;

    let host = star.local_addr().to_string();
    let of_npm = json!({
        "peer": of_npm, "proved": true, "address": to, "client": "127.0.0.1", "host": host,
    });
    let of_node = json!({
        "peer": super::id(&key), "proved": true, "address": wire(own), "client": "127.0.0.1", "host": host,
        "token": "secret",
    });
    assert_eq!(service.asked(), [of_npm, of_node]);

    service.answers_json(json!({"allow": false, "reason": "not\ntoday", "ttl_s": 0}));
    let words = "Not allowed: not\\ntoday";
    let other = crate::support::js::Peer::start();
    let error = other.try_listen(&star.addr(), ed25519_key).await;
    assert!(error.expect_err("refused").contains(words));
    assert_eq!(refused(&mut super::node().0, &star.addr()).await, words);
    assert_eq!(refusals(&star, "not_allowed").await, 2);
    for name in ["allowed", "refused"] {
        assert_eq!(counted(&star, name, "service").await, 2);
    }
}

#[tokio::test]
async fn whoever_is_told_when_to_come_again_comes_then_and_not_before() {
    let later = json!({"allow": false, "reason": "full", "retry_after_s": 1});
    let service = Service::start(later).await;
    let star = asking(&service, &[]).await;
    let (mut node, _) = node();
    let asked = Instant::now();
    let words = refused_for_now(&mut node, &star.addr()).await;
    assert_eq!(words, "Not allowed now, again in 1 s: full");
    service.answers_json(json!({"allow": true}));
    node.joined().await;
    // The node's own back-off is a twentieth of that time, so the wait shows that it obeyed.
    assert!(
        asked.elapsed() >= Duration::from_millis(990),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(service.asked().len(), 2);
    assert_eq!(refusals(&star, "not_allowed_now").await, 1);
}

#[tokio::test]
async fn whoever_is_to_come_again_much_later_leaves_the_link() {
    let later = json!({"allow": false, "retry_after_s": 3600});
    let service = Service::start(later).await;
    let star = asking(&service, &[]).await;
    let (mut node, _) = node();
    let words = refused_for_now(&mut node, &star.addr()).await;
    assert_eq!(words, "Not allowed now, again in 3600 s");
    within("the link to be left", async {
        while super::metric(&star, "rendezvous_links").await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Its dials do not reconnect either.
    let error = dial_somebody(&node, &star).await;
    assert!(error.contains("Not allowed now, again in 3"), "{error}");
    assert_eq!(super::metric(&star, "rendezvous_links").await, 0);
    assert_eq!(service.asked().len(), 1);
}

async fn dial_somebody(node: &Raw, star: &Binary) -> String {
    let peer = libp2p::PeerId::random();
    let dialled = node.try_dial(&format!("{}/p2p/{peer}", star.addr())).await;
    dialled.expect_err("nobody is there").to_string()
}

#[tokio::test]
async fn whoever_only_dials_heeds_a_refusal_too() {
    for answer in [
        json!({"allow": false, "retry_after_s": 3600}),
        json!({"allow": false, "reason": "banned"}),
    ] {
        let service = Service::start(answer).await;
        let star = asking(&service, &[]).await;
        let (node, _) = node();
        for _ in 0..3 {
            let error = dial_somebody(&node, &star).await;
            assert!(error.contains("Not allowed"), "{error}");
        }
        assert_eq!(service.asked().len(), 1);
        // A listener does try again, because its application asks for it.
        let (mut other, _) = super::node();
        dial_somebody(&other, &star).await;
        service.answers_json(json!({"allow": true}));
        other.listen(&star.addr()).await;
        let error = dial_somebody(&other, &star).await;
        assert!(error.contains("not at the rendezvous"), "{error}");
    }
}

/// Returns everything that may go wrong with an answer.
fn mishaps() -> Vec<Answer> {
    let texts = [
        "",
        "no",
        "{}",
        "{\"allow\":\"true\"}",
        "{\"allow\":1}",
        "[true]",
    ];
    let huge = format!("{{\"allow\":true,\"x\":\"{}\"}}", "x".repeat(100_000));
    let texts = texts.into_iter().map(str::to_owned).chain([huge]);
    let statuses = [204, 301, 403, 404, 500, 503].map(Answer::Status);
    texts
        .map(Answer::Text)
        .chain(statuses)
        .chain([Answer::Nothing, Answer::Endless])
        .collect()
}

const UNDECIDED: &str = "Not allowed now, again in 5 s: access cannot be checked now";

#[tokio::test]
async fn a_service_that_is_slow_lies_or_says_too_much_lets_nobody_in() {
    let service = Service::start(json!({"allow": true})).await;
    let (mut known, of_known) = node();
    let list = List::new(&[of_known]);
    let path = list.path();
    let flags = ["--access-timeout", "300ms", "--allow-peers", &path];
    let mut star = asking(&service, &flags).await;
    for mishap in mishaps() {
        service.answers(mishap.clone());
        let words = refused_for_now(&mut node().0, &star.addr()).await;
        assert_eq!(words, UNDECIDED, "{mishap:?}");
    }
    let line = star.logged("the access service gave no valid answer").await;
    assert!(
        line.contains("service=http://127.0.0.1:") && !line.contains("key=abc"),
        "{line}"
    );
    for (failure, times) in [
        ("answer", 6),
        ("too_long", 2),
        ("status", 4),
        ("server_error", 2),
        ("timeout", 1),
    ] {
        let counted = counted(&star, "failed_questions", failure).await;
        assert_eq!(counted, times, "{failure}");
    }
    // A peer on a list does not need the service. Once the service works again, it is asked again.
    known.listen(&star.addr()).await;
    service.answers_json(json!({"allow": true}));
    node().0.listen(&star.addr()).await;
}

#[tokio::test]
async fn a_service_that_is_down_lets_nobody_in_unless_it_is_told_to() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let addr = nobody.expect("a free port").local_addr().expect("bound");
    let url = format!("http://{addr}/");
    let star = Binary::start(&["--access-url", &url]).await;
    let words = refused_for_now(&mut node().0, &star.addr()).await;
    assert_eq!(words, UNDECIDED);

    // Peers on the deny list stay out nevertheless.
    let (mut banned, of_banned) = node();
    let list = List::new(&[of_banned]);
    let path = list.path();
    let flags = [
        "--access-url",
        &url,
        "--access-fail-open",
        "--deny-peers",
        &path,
    ];
    let star = Binary::start(&flags).await;
    refused(&mut banned, &star.addr()).await;
    node().0.listen(&star.addr()).await;
}

#[tokio::test]
async fn only_a_service_that_has_failed_itself_lets_everybody_in() {
    let service = Service::start(json!({"allow": true})).await;
    let flags = ["--access-timeout", "300ms", "--access-fail-open"];
    let star = asking(&service, &flags).await;
    let is_outage = |mishap: &Answer| match mishap {
        Answer::Status(status) => *status >= 500,
        Answer::Nothing => true,
        Answer::Text(_) | Answer::Endless => false,
    };
    let (outages, others): (Vec<_>, Vec<_>) = mishaps().into_iter().partition(is_outage);
    for mishap in others {
        service.answers(mishap.clone());
        let words = refused_for_now(&mut node().0, &star.addr()).await;
        assert_eq!(words, UNDECIDED, "{mishap:?}");
    }
    assert_eq!(counted(&star, "allowed", "fail_open").await, 0);
    for mishap in &outages {
        service.answers(mishap.clone());
        join_anew(&ed25519(), &star).await.expect("let in");
    }
    let let_in = counted(&star, "allowed", "fail_open").await;
    assert_eq!(let_in, outages.len() as u64);
}

#[tokio::test]
async fn a_service_that_hangs_keeps_nobody_out_if_everybody_is_to_be_let_in_then() {
    let service = Service::start(json!({"allow": true})).await;
    service.answers(Answer::Nothing);
    let flags = ["--access-timeout", "1s", "--access-in-flight", "2"];
    let star = asking(&service, &[&flags[..], &["--access-fail-open"]].concat()).await;
    let keys: Vec<_> = (0..30).map(|_| ed25519()).collect();
    let joins = keys.iter().map(|key| join_anew(key, &star));
    for joined in join_all(joins).await {
        joined.expect("let in");
    }
    assert_eq!(refusals(&star, "undecided").await, 0);
}

/// Joins with this key on a new link.
async fn join_anew(key: &libp2p::identity::Keypair, star: &Binary) -> Result<(), String> {
    let mut node = Raw::with(key, hasty());
    node.listen_on(&star.addr()).expect("a good address");
    loop {
        match node.event().await {
            NewAddress { .. } => return Ok(()),
            ListenerError { error, .. } => return Err(refusal(error).0),
            _ => {}
        }
    }
}

#[tokio::test]
async fn both_answers_are_kept_for_as_long_as_they_say() {
    let allowed = json!({"allow": true, "ttl_s": 3600});
    let full = json!({"allow": false, "retry_after_s": 7, "ttl_s": 3600});
    let service = Service::start(allowed).await;
    let star = asking(&service, &[]).await;
    let (one, other, third) = (ed25519(), ed25519(), ed25519());
    for _ in 0..3 {
        join_anew(&one, &star).await.expect("let in");
    }
    service.answers_json(full);
    join_anew(&one, &star).await.expect("still let in");
    assert_eq!(service.asked().len(), 1);
    for _ in 0..3 {
        let words = join_anew(&other, &star).await.expect_err("refused");
        assert!(words.starts_with("Not allowed now, again in "), "{words}");
    }
    assert_eq!(service.asked().len(), 2);
    assert_eq!(counted(&star, "allowed", "cache").await, 3);
    assert_eq!(counted(&star, "refused", "cache").await, 2);
    service.answers_json(json!({"allow": true, "ttl_s": 0.2}));
    let asked = Instant::now();
    join_anew(&third, &star).await.expect("let in");
    within("another question", async {
        while service.asked().len() < 4 {
            join_anew(&third, &star).await.expect("let in");
        }
    })
    .await;
    assert!(asked.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_signal_has_the_service_asked_anew() {
    let service = Service::start(json!({"allow": true, "ttl_s": 3600})).await;
    let mut star = asking(&service, &[]).await;
    let key = ed25519();
    for _ in 0..2 {
        join_anew(&key, &star).await.expect("let in");
    }
    assert_eq!(service.asked().len(), 1);
    star.signal("HUP").await;
    star.logged("the cached answers of the access service are cleared")
        .await;
    service.answers_json(json!({"allow": false}));
    let mut node = Raw::with(&key, hasty());
    refused(&mut node, &star.addr()).await;
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn whom_the_service_has_let_in_stays_when_the_lists_are_read_anew() {
    let service = Service::start(json!({"allow": true})).await;
    let (mut listed, of_listed) = node();
    let (mut banned, of_banned) = node();
    let list = List::new(&[of_listed]);
    let deny = List::new(&[]);
    let (list_path, deny_path) = (list.path(), deny.path());
    let flags = ["--allow-peers", &list_path, "--deny-peers", &deny_path];
    let mut star = asking(&service, &flags).await;
    let (mut guest, _) = node();
    for node in [&mut listed, &mut banned, &mut guest] {
        node.listen(&star.addr()).await;
    }
    assert_eq!(service.asked().len(), 2);
    list.write(&[]);
    deny.write(&[of_banned]);
    star.logged("cut_off=").await;
    super::closed(&mut banned).await;
    // The peer that the list had let in comes back, and the service is asked about it.
    listed.joined().await;
    assert_eq!(service.asked().len(), 3);
    assert_eq!(super::metric(&star, "rendezvous_peers").await, 2);
    assert_eq!(refusals(&star, "no_longer_allowed").await, 2);
}

#[tokio::test]
async fn the_service_is_asked_over_tls_if_somebody_vouches_for_it() {
    let mut service = Service::start(json!({"allow": true})).await;
    let certificate = Certificate::new();
    let folder = Folder::new();
    let ca = text(&folder.write("ca.pem", &certificate.pem));
    let url = service.secure_url(&certificate).await;
    let star = Binary::start(&["--access-url", &url, "--access-ca", &ca]).await;
    node().0.listen(&star.addr()).await;
    node().0.listen(&star.addr()).await;
    assert_eq!(service.asked().len(), 2);
    // Connections to the service are reused, and replaced when the service has closed them.
    service.hang_up();
    node().0.listen(&star.addr()).await;
    assert_eq!(service.asked().len(), 3);
    let star = Binary::start(&["--access-url", &url]).await;
    let words = refused_for_now(&mut node().0, &star.addr()).await;
    assert_eq!(words, UNDECIDED);
    let plain = url.replace("https", "http");
    let star = Binary::start(&["--access-url", &plain]).await;
    let words = refused_for_now(&mut node().0, &star.addr()).await;
    assert_eq!(words, UNDECIDED);
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn a_service_that_is_asked_in_the_clear_is_warned_of_and_told_no_tokens() {
    let service = Service::start(json!({"allow": true})).await;
    // With the name `localhost` the server cannot rely on loopback: the resolver decides what the name means.
    let url = service.url().replace("127.0.0.1", "localhost");
    let mut star = Binary::start(&["--access-url", &url]).await;
    star.logged("is asked without TLS").await;
    showing("secret", &star.addr()).listen(&star.addr()).await;
    let asked = service.asked();
    assert!(asked[0]["peer"].is_string() && asked[0].get("token").is_none());
}
