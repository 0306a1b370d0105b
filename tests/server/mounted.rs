//! The rendezvous in an axum application, beside the application's own routes.

mod end;
mod origins;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, routing::get};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{Config, Rendezvous, Service};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
};
use tokio_websockets::CloseCode;

use crate::{
    client::{Client, Eio, dial, http, until},
    upgrade::{HEADERS, QUERY, read_until, request, send, text_frame},
};

/// Serves an application on a free port until the test's runtime ends.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

fn connected_from(ConnectInfo(addr): &ConnectInfo<SocketAddr>) -> IpAddr {
    addr.ip()
}

/// Returns the service that an application mounts.
fn service(rendezvous: &Rendezvous) -> Service {
    rendezvous.service().with_client_addr(connected_from)
}

/// Returns an application with a route of its own.
fn application() -> Router {
    Router::new().route("/hello", get(|| async { "hello" }))
}

/// Starts a rendezvous in such an application. Returns it with the address at which the application listens.
pub async fn mounted(config: Config) -> (Rendezvous, SocketAddr) {
    let rendezvous = Rendezvous::start(config);
    let app = application().fallback_service(service(&rendezvous));
    (rendezvous, serve(app).await)
}

/// Returns a new peer that has joined there.
async fn joined(addr: SocketAddr, eio: Eio) -> Client {
    let client = Client::upgrade_at(addr, eio, eio.query()).await;
    let mut client = client.greeted().await;
    client.join(&Keypair::generate_ed25519()).await;
    client
}

async fn get_path(addr: SocketAddr, path: &str) -> String {
    http(addr, &format!("GET {path} HTTP/1.1")).await
}

/// Returns the status of the answer to a request for a link.
async fn link_status(addr: SocketAddr) -> u16 {
    let (head, _) = send(addr, request(QUERY, &HEADERS).as_bytes()).await;
    head[9..12].parse().expect("a status")
}

#[tokio::test]
async fn an_application_answers_its_own_routes_and_the_rendezvous_the_rest() {
    let (_rendezvous, addr) = mounted(Config::default()).await;
    for (path, status, body) in [
        ("/hello", 200, "hello"),
        ("/", 200, ">/dns4/a/tcp/80/ws/p2p-websocket-star<"),
        ("/health", 200, r#"{"links":0,"peers":0,"status":"ok"}"#),
        ("/metrics", 200, "\nrendezvous_peers 0\n"),
        ("/other", 404, "Not found"),
        ("/socket.io/", 400, "Transport unknown"),
    ] {
        let answer = get_path(addr, path).await;
        let (head, rest) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(rest.contains(body), "{answer}");
    }
    let answer = http(addr, "POST /health HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = http(addr, "HEAD /health HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn its_page_shows_wss_where_the_application_says_that_it_speaks_tls() {
    let rendezvous = Rendezvous::start(Config::default());
    let service = service(&rendezvous).with_wss(true);
    let addr = serve(Router::new().fallback_service(service)).await;
    let page = get_path(addr, "/").await;
    let address = ">/dns4/a/tcp/443/wss/p2p-websocket-star<";
    assert!(page.contains(address), "{page}");
}

#[tokio::test]
async fn peers_that_come_through_an_application_reach_each_other() {
    let (rendezvous, addr) = mounted(Config::default()).await;
    let mut dialer = joined(addr, Eio::V3).await;
    let mut listener = joined(addr, Eio::V4).await;
    dial(&mut dialer, &mut listener, "d").await;
    let big = vec![7; 900_000];
    for data in [&b"hello"[..], b"", &big] {
        dialer.item("d.dialer", data).await;
        listener.expect_item("d.dialer", data).await;
        listener.item("d.listener", data).await;
        dialer.expect_item("d.listener", data).await;
    }
    let snapshot = rendezvous.snapshot();
    assert_eq!((snapshot.links, snapshot.connections), (2, 2));
    assert_eq!(snapshot.relayed_items, 6);
    assert_eq!(snapshot.relayed_bytes, 2 * (5 + big.len() as u64));
    let metrics = get_path(addr, "/metrics").await;
    assert!(metrics.contains("\nrendezvous_links 2\n"), "{metrics}");
    drop((dialer, listener));
    until("both are gone", || rendezvous.snapshot().connections == 0).await;
}

#[tokio::test]
async fn tenants_are_told_apart_by_their_hosts_there_too() {
    let blue = "blue=blue.test".parse().expect("a tenant");
    let config = Config::default().with_tenants([blue]).expect("one");
    let (rendezvous, addr) = mounted(config).await;
    for host in ["blue.test", "blue.test:80", "any.test"] {
        let client = Client::upgrade_for(host, addr, Eio::V4).await;
        drop(client.greeted().await);
    }
    let links = |tenant: &str| {
        let snapshot = rendezvous.tenant_snapshot(tenant);
        snapshot.expect("a tenant").links
    };
    let _blue = Client::upgrade_for("BLUE.test", addr, Eio::V3).await;
    until("the others are gone", || {
        (links("blue"), links("default")) == (1, 0)
    })
    .await;
}

#[tokio::test]
async fn frames_in_the_same_segment_as_the_request_are_served_there_too() {
    let (_rendezvous, addr) = mounted(Config::default()).await;
    let mut bytes = request(QUERY, &HEADERS).into_bytes();
    bytes.extend(text_frame("420[\"ss-leave\",\"\"]"));
    // The second half of the last frame is sent after the answer.
    let last = text_frame("421[\"ss-leave\",\"\"]");
    let (now, later) = last.split_at(9);
    bytes.extend(now);
    let (head, mut stream) = send(addr, &bytes).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    read_until(&mut stream, "430[]").await;
    stream.write_all(later).await.expect("sent");
    read_until(&mut stream, "431[]").await;
}

#[tokio::test]
async fn what_is_answered_beside_the_protocol_is_a_choice() {
    let config = Config::default()
        .with_page(false)
        .with_health(false)
        .with_metrics(false);
    let (_rendezvous, addr) = mounted(config).await;
    for path in ["/", "/health", "/metrics"] {
        let answer = get_path(addr, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    joined(addr, Eio::V3).await;
}

#[tokio::test]
async fn one_path_alone_may_be_the_rendezvous() {
    let rendezvous = Rendezvous::start(Config::default());
    let app = application().route_service("/socket.io/", service(&rendezvous));
    let addr = serve(app).await;
    joined(addr, Eio::V3).await;
    let answer = get_path(addr, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(!answer.contains("Not found"), "the rendezvous' own answer");
}

#[tokio::test]
async fn all_of_it_may_be_under_a_prefix_that_the_application_strips() {
    let rendezvous = Rendezvous::start(Config::default());
    let app = application().nest_service("/star", service(&rendezvous));
    let addr = serve(app).await;
    for path in ["/star", "/star/", "/star/health", "/star/metrics", "/hello"] {
        let answer = get_path(addr, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let answer = get_path(addr, "/health").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let socket = TcpSocket::new_v4().expect("a socket");
    let path = "/star/socket.io/?EIO=3&transport=websocket";
    let client = Client::upgrade_to(addr, Eio::V3, socket, path).await;
    let mut client = client.greeted().await;
    client.join(&Keypair::generate_ed25519()).await;
    assert_eq!(rendezvous.snapshot().peers, [client.address]);
}

#[tokio::test]
async fn the_heartbeat_holds_in_an_application() {
    let beat = Duration::from_millis(200);
    let config = Config::default()
        .with_ping_interval(beat)
        .with_ping_timeout(beat);
    let (rendezvous, addr) = mounted(config).await;
    let mut client = joined(addr, Eio::V3).await;
    for _ in 0..3 {
        client.send("2").await;
        assert_eq!(client.text().await, "3");
    }
    let reason = (CloseCode::POLICY_VIOLATION, "no sign of life".to_owned());
    assert_eq!(client.closed().await, Some(reason));
    assert_eq!(rendezvous.snapshot().links, 0);
}
