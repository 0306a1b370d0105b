//! What the server offers over plain HTTP: `/metrics`, `/health` and the page.

use std::{collections::BTreeSet, net::SocketAddr};

use futures::future::join;
use libp2p_websocket_star::rendezvous::{Config, Limits, Refused, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    address,
    binary::{http, value},
    ed25519, embedded,
    js::{Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
    within,
};

async fn get(addr: SocketAddr, path: &str) -> String {
    http(addr, "GET", path, "star.example").await
}

/// Opens a link, and returns its TCP stream.
async fn upgraded(addr: SocketAddr) -> TcpStream {
    let mut link = TcpStream::connect(addr).await.expect("it listens");
    let upgrade = "GET /socket.io/?EIO=3&transport=websocket HTTP/1.1\r\nhost: x\r\n\
        connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    link.write_all(upgrade.as_bytes()).await.expect("sent");
    let mut switched = [0; 12];
    within("the upgrade", link.read_exact(&mut switched))
        .await
        .expect("an answer");
    assert_eq!(&switched, b"HTTP/1.1 101");
    link
}

/// Returns the names and types of the rendezvous' own metrics.
fn metric_types(text: &str) -> BTreeSet<&str> {
    let lines = text.lines();
    lines
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter(|line| line.starts_with("rendezvous_"))
        .collect()
}

#[tokio::test]
async fn the_metrics_have_the_names_and_types_of_the_npm_servers() {
    let npm = Rendezvous::start(RendezvousOptions {
        metrics: true,
        ..RendezvousOptions::default()
    })
    .await;
    let npm_text = npm.metrics().await;
    let star = embedded().await;
    let ours = get(star.local_addr(), "/metrics").await;
    let (npm, ours_types) = (metric_types(&npm_text), metric_types(&ours));
    assert_eq!(npm.len(), 7, "{npm_text}");
    assert!(npm.is_subset(&ours_types), "{npm:?}\n{ours_types:?}");
    for line in npm {
        let (name, _) = line.split_once(' ').expect("a type");
        assert_eq!(value::<f64>(&ours, name), 0.0);
    }
}

#[tokio::test]
async fn the_metrics_count_what_happens() {
    let star = embedded().await;
    let (mut listener, mut dialer) = (Raw::new(), Raw::new());
    let (_, addr) = listener.listen(&address(&star)).await;
    dialer.listen(&address(&star)).await;
    let dial = async {
        let connection = dialer.dial(&addr.to_string()).await;
        check_echo(connection, 100_000, 10_000).await;
    };
    let answer = async {
        let (connection, _) = listener.accept().await;
        echo(connection).await.expect("no reset")
    };
    join(dial, answer).await;
    // No peer has joined with this key.
    let absent = ed25519().public().to_peer_id();
    let to = format!("{}/p2p/{absent}", address(&star));
    dialer.try_dial(&to).await.expect_err("nobody there");
    let text = get(star.local_addr(), "/metrics").await;
    for (name, expected) in [
        ("rendezvous_peers", 2.0),
        ("rendezvous_links", 2.0),
        ("rendezvous_joins_total", 2.0),
        ("rendezvous_joins_total_success", 2.0),
        ("rendezvous_joins_total_failure", 0.0),
        ("rendezvous_dials_total", 2.0),
        ("rendezvous_dials_total_success", 1.0),
        ("rendezvous_dials_total_failure", 1.0),
        ("rendezvous_relayed_bytes_total", 200_000.0),
        ("rendezvous_queue_bytes", 0.0),
        ("rendezvous_dial_seconds_count", 1.0),
        ("rendezvous_dial_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("rendezvous_refusals_total{reason=\"peer_not_found\"}", 1.0),
    ] {
        assert_eq!(value::<f64>(&text, name), expected, "{name}");
    }
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
}

#[tokio::test]
async fn the_metrics_list_every_reason_from_the_start_and_count_links_that_are_closed() {
    let limits = Limits::default().with_message_limit(100);
    let star = Server::bind(Config::default().with_limits(limits)).await;
    let star = star.expect("a free port");
    let addr = star.local_addr();
    let of = |reason: Refused| format!("rendezvous_refusals_total{{reason=\"{reason}\"}}");
    let text = get(addr, "/metrics").await;
    for (reason, _) in star.snapshot().refusals.iter() {
        assert_eq!(value::<f64>(&text, &of(reason)), 0.0, "{reason}");
    }

    let mut link = upgraded(addr).await;
    // A text frame of 200 bytes, with a mask of zeros.
    let frame = [&[0x81, 0x80 | 126, 0, 200, 0, 0, 0, 0][..], &[b'a'; 200]].concat();
    link.write_all(&frame).await.expect("sent");
    within("the end", link.read_to_end(&mut Vec::new()))
        .await
        .expect("an orderly end");
    let text = get(addr, "/metrics").await;
    let too_long = "rendezvous_refusals_total{reason=\"message_too_long\"}";
    assert_eq!(value::<f64>(&text, too_long), 1.0);
}

#[tokio::test]
async fn the_page_shows_the_address_for_the_host_that_was_asked_for() {
    let star = embedded().await;
    let addr = star.local_addr();
    let page = http(addr, "GET", "/", "star.example:8080").await;
    assert!(
        page.contains(">/dns4/star.example/tcp/8080/ws/p2p-websocket-star<"),
        "{page}"
    );
    assert!(page.contains("content-security-policy: default-src 'none';"));
    let page = http(addr, "GET", "/", "<b>\"&'").await;
    assert!(
        page.starts_with("HTTP/1.1 200 ") && !page.contains("<b>"),
        "{page}"
    );
}

#[tokio::test]
async fn what_is_asked_for_in_another_way_is_refused_or_answered_without_a_body() {
    let star = embedded().await;
    let addr = star.local_addr();
    for path in ["/", "/health", "/metrics"] {
        let whole = get(addr, path).await;
        let head = http(addr, "HEAD", path, "star.example").await;
        let (whole_head, body) = whole.split_once("\r\n\r\n").expect("a body");
        assert!(!body.is_empty());
        assert!(whole_head.contains("x-content-type-options: nosniff"));
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        let post = http(addr, "POST", path, "star.example").await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        assert!(post.contains("allow: GET, HEAD\r\n"), "{post}");
    }
    for path in ["/favicon.ico", "/metrics/", "//", "/socket.io.js"] {
        let answer = get(addr, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
}

#[tokio::test]
async fn metrics_can_be_turned_off() {
    let config = Config::default().with_metrics(false);
    let star = Server::bind(config).await.expect("a free port");
    let answer = get(star.local_addr(), "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn health_is_503_from_the_moment_the_server_stops_until_it_is_gone() {
    let star = embedded().await;
    let addr = star.local_addr();
    let answer = get(addr, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.ends_with(r#"{"links":0,"peers":0,"status":"ok"}"#),
        "{answer}"
    );

    // A peer that does not answer the close delays the shutdown.
    let _lingering = upgraded(addr).await;

    let ask = async {
        loop {
            let answer = get(addr, "/health").await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                break answer;
            }
        }
    };
    let ((), answer) = within("503", join(star.shutdown(), ask)).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains(r#""status":"stopping""#), "{answer}");
    TcpStream::connect(addr).await.expect_err("it is gone");
}
