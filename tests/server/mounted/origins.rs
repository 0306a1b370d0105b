//! The origin of requests in an application: the address that the application names.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{
    ClientAddr, Config, Join, Limits, Network, Refused, Rendezvous, Verdict,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{application, connected_from, get_path, joined, link_status, mounted, serve};
use crate::{
    access::Deciding,
    client::{Client, Eio, socket, soon},
    upgrade::{HEADERS, QUERY, link_request, request},
};

const BEGUN: &str = "101";
const FULL: &str = "503";
const TOO_MANY: &str = "429";
/// The header that gives the client's address to an application of these tests.
const CLIENT: &str = "x-test-client";

/// Sends a request on a connection from 127.0.0.`host`. Returns the status and the connection.
async fn ask(addr: SocketAddr, host: u8, request: &str) -> (String, TcpStream) {
    let mut stream = socket(host).connect(addr).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    let read = stream.read_exact(&mut status);
    soon("an answer", read).await.expect("an answer");
    let status = status[9..].to_vec();
    (String::from_utf8(status).expect("digits"), stream)
}

/// Asks for links, and keeps them open. Returns the statuses, too.
async fn ask_all(addr: SocketAddr, requests: &[(u8, String)]) -> (Vec<String>, Vec<TcpStream>) {
    let (mut statuses, mut kept) = (Vec::new(), Vec::new());
    for (host, request) in requests {
        let (status, stream) = ask(addr, *host, request).await;
        statuses.push(status);
        kept.push(stream);
    }
    (statuses, kept)
}

async fn told(mut request: Request, next: Next) -> Response {
    let client = request.headers().get(CLIENT);
    let client = client.and_then(|client| client.to_str().ok()?.parse().ok());
    if let Some(client) = client {
        request.extensions_mut().insert(ClientAddr(client));
    }
    next.run(request).await
}

/// Starts an application that knows the client's address from more than the connection.
async fn knowing(config: Config) -> (Rendezvous, SocketAddr) {
    let rendezvous = Rendezvous::start(config);
    let service = rendezvous.service().with_client_addr(connected_from);
    let app = application().fallback_service(service).layer(from_fn(told));
    (rendezvous, serve(app).await)
}

#[tokio::test]
async fn a_link_counts_for_the_address_of_its_connection_as_axum_knows_it() {
    let limits = Limits::default().with_max_links_per_ip(1);
    let (rendezvous, addr) = mounted(Config::default().with_limits(limits)).await;
    let plain = request(QUERY, &HEADERS);
    let requests = [1, 1, 2].map(|host| (host, plain.clone()));
    let (statuses, _kept) = ask_all(addr, &requests).await;
    assert_eq!(statuses, [BEGUN, TOO_MANY, BEGUN]);
    let refusals = rendezvous.snapshot().refusals;
    assert_eq!(refusals.get(Refused::TooManyLinksPerIp), 1);
}

#[tokio::test]
async fn what_the_application_says_comes_first() {
    let limits = Limits::default().with_max_links_per_ip(1);
    let (_rendezvous, addr) = knowing(Config::default().with_limits(limits)).await;
    let clients = [
        "192.0.2.1",
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
        // The same /64.
        "2001:db8::2",
        "2001:db8:0:1::1",
    ];
    let requests = clients.map(|client| (1, link_request(CLIENT, client)));
    let (statuses, _kept) = ask_all(addr, &requests).await;
    let expected = [BEGUN, TOO_MANY, TOO_MANY, BEGUN, BEGUN, TOO_MANY, BEGUN];
    assert_eq!(statuses, expected);
    // Here, only the connection gives the client's address.
    assert_eq!(link_status(addr).await, 101);
}

#[tokio::test]
async fn links_of_one_origin_give_way_to_another_origin() {
    let limits = Limits::default().with_max_links(2);
    let (rendezvous, addr) = mounted(Config::default().with_limits(limits)).await;
    let mut first = joined(addr, Eio::V3).await;
    let mut second = joined(addr, Eio::V3).await;
    let plain = request(QUERY, &HEADERS);
    let (statuses, _kept) = ask_all(addr, &[(1, plain.clone()), (2, plain)]).await;
    assert_eq!(statuses, [FULL, BEGUN]);
    let (code, reason) = second.closed().await.expect("a reason");
    assert_eq!(u16::from(code), 1008);
    assert!(reason.contains("more of them than others"), "{reason}");
    first.request(serde_json::json!(["ss-leave", ""])).await;
    let refusals = rendezvous.snapshot().refusals;
    assert_eq!(refusals.get(Refused::LinkGaveWay), 1);
    assert_eq!(refusals.get(Refused::TooManyLinks), 1);
}

#[tokio::test]
async fn an_origin_that_opens_links_or_asks_too_often_is_told_and_others_are_not() {
    let limits = Limits::default().with_connection_rate(1, 2);
    let (rendezvous, addr) = mounted(Config::default().with_limits(limits)).await;
    let plain = request(QUERY, &HEADERS);
    let requests = [1, 1, 1, 1, 1, 1, 2].map(|host| (host, plain.clone()));
    let (statuses, _kept) = ask_all(addr, &requests).await;
    assert_eq!((&statuses[0], &statuses[6]), (&BEGUN.into(), &BEGUN.into()));
    assert!(statuses.iter().any(|status| status == TOO_MANY));
    assert!(rendezvous.snapshot().refusals.get(Refused::ConnectionRate) > 0);
    // Requests without an upgrade are not links.
    let health = get_path(addr, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");

    let limits = Limits::default().with_http_rate(1, 2);
    let (rendezvous, addr) = mounted(Config::default().with_limits(limits)).await;
    let health = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let requests = [1, 1, 1, 1, 1, 1, 2].map(|host| (host, health.clone()));
    let (statuses, _kept) = ask_all(addr, &requests).await;
    assert_eq!((&statuses[0], &statuses[6]), (&"200".into(), &"200".into()));
    assert!(statuses.iter().any(|status| status == TOO_MANY));
    assert!(rendezvous.snapshot().refusals.get(Refused::RequestRate) > 0);
    // The application's own routes have no such limits.
    let hello = get_path(addr, "/hello").await;
    assert!(hello.starts_with("HTTP/1.1 200 "), "{hello}");
}

#[tokio::test]
async fn a_trusted_proxy_before_the_application_names_the_client() {
    let proxy: Network = "127.0.0.2".parse().expect("an address");
    let limits = Limits::default().with_max_links_per_ip(1);
    let config = Config::default().with_limits(limits);
    let (_rendezvous, addr) = mounted(config.with_trusted_proxies([proxy])).await;
    let named = |client| link_request("X-Forwarded-For", client);
    let requests = [
        (2, named("192.0.2.1")),
        (2, named("192.0.2.1")),
        (2, named("192.0.2.2")),
        // The header of any other host is ignored.
        (3, named("192.0.2.3")),
        (3, named("192.0.2.4")),
    ];
    let (statuses, _kept) = ask_all(addr, &requests).await;
    assert_eq!(statuses, [BEGUN, TOO_MANY, BEGUN, BEGUN, TOO_MANY]);
}

#[tokio::test]
async fn where_the_application_reads_the_proxy_protocol_nobody_else_is_named() {
    let limits = Limits::default().with_max_links_per_ip(1);
    let proxy = Network::from(IpAddr::from([127, 0, 0, 1]));
    let config = Config::default()
        .with_limits(limits)
        .with_trusted_proxies([proxy])
        .with_proxy_protocol(true);
    let (_rendezvous, addr) = mounted(config).await;
    // The application reads the PROXY protocol, so this connection is the proxy's own. Such a proxy passes on bytes,
    // so `X-Forwarded-For` comes from the client and is ignored.
    let requests =
        ["192.0.2.1", "192.0.2.2"].map(|client| (1, link_request("X-Forwarded-For", client)));
    let (statuses, _kept) = ask_all(addr, &requests).await;
    assert_eq!(statuses, [BEGUN, TOO_MANY]);
}

#[tokio::test]
async fn a_request_from_nobody_knows_where_is_refused_and_counted() {
    let rendezvous = Rendezvous::start(Config::default());
    // This service does not look for the address that axum knows.
    let app = application().fallback_service(rendezvous.service());
    let addr = serve(app).await;
    // And here axum does not provide the address.
    let looks = rendezvous.service().with_client_addr(connected_from);
    let silent = silent(Router::new().fallback_service(looks)).await;
    for addr in [addr, silent] {
        assert_eq!(link_status(addr).await, 500);
        for path in ["/", "/health", "/metrics"] {
            let answer = get_path(addr, path).await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        }
    }
    let snapshot = rendezvous.snapshot();
    assert_eq!(snapshot.links, 0);
    assert_eq!(snapshot.refusals.get(Refused::NoClientAddr), 8);
    let hello = get_path(addr, "/hello").await;
    assert!(hello.starts_with("HTTP/1.1 200 "), "{hello}");
}

/// Serves an application that does not get the client's address from axum.
async fn silent(app: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

#[tokio::test]
async fn the_access_is_told_the_same_of_a_join_as_by_a_server() {
    // Allows clients with one address, one host and one token.
    let access = Deciding(|join: &Join| {
        let token = join.token().map(|token| token.reveal());
        let expected = join.client() == IpAddr::from([192, 0, 2, 7])
            && join.host() == Some("star.example")
            && token == Some("secret");
        match expected {
            true => Verdict::allow(),
            false => Verdict::refuse("not as expected"),
        }
    });
    let config = Config::default().with_access(access);
    let rendezvous = Rendezvous::start(config);
    let app = Router::new()
        .fallback_service(rendezvous.service())
        .layer(axum::Extension(ClientAddr([192, 0, 2, 7].into())))
        .layer(from_fn(with_host));
    let addr = serve(app).await;
    let query = "EIO=3&transport=websocket&token=secret";
    let client = Client::upgrade_at(addr, Eio::V3, query).await;
    let mut client = client.greeted().await;
    client.join(&Keypair::generate_ed25519()).await;
    assert_eq!(rendezvous.snapshot().counters.joins, 1);
}

async fn with_host(mut request: Request, next: Next) -> Response {
    let host = axum::http::HeaderValue::from_static("star.example");
    request.headers_mut().insert("host", host);
    next.run(request).await
}
