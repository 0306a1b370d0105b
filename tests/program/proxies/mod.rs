//! The rendezvous behind nginx, haproxy and Caddy, in Debian's versions and with the configurations that the guide
//! shows.

mod client;
mod process;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{
    Access, Config, Join, Judgement, Limits, Network, Refused, Server, TlsConfig, Verdict,
};
use serde_json::json;
use tokio::sync::mpsc;

pub use self::client::over_tls;
use self::{
    client::{Host, SECRET},
    process::{Kind, Proxy},
};
use crate::support::{
    binary::Binary,
    certificates::{Certificate, Folder},
    ed25519, hasty,
    js::Peer,
    raw::{Raw, echo_both_ways},
    within,
};

const LEN: usize = 1 << 20;
/// The address from which the proxies connect.
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Allows every join, and reports the client's address.
#[derive(Debug)]
struct Doorman(mpsc::Sender<IpAddr>);

impl Access for Doorman {
    fn judge(&self, join: &Join) -> Judgement {
        self.0.try_send(join.client()).expect("room");
        Verdict::allow().into()
    }

    fn still_allows(&self, _: &Join) -> bool {
        true
    }
}

/// Starts a rendezvous that trusts the proxy. Returns it with a channel of the addresses of clients that join.
async fn trusting(config: Config) -> (Server, mpsc::Receiver<IpAddr>) {
    let (seen, clients) = mpsc::channel(100);
    let config = config
        .with_trusted_proxies([Network::from(IpAddr::from(PROXY))])
        .with_limits(Limits::default().with_max_links_per_ip(2))
        .with_access(Doorman(seen));
    (Server::bind(config).await.expect("a free port"), clients)
}

/// Returns a configuration that speaks TLS itself and expects the PROXY protocol, for a proxy that passes on bytes.
fn behind_bytes(certificate: &Certificate) -> Config {
    let tls = TlsConfig::from_pem(certificate.pem.as_bytes(), certificate.key_pem.as_bytes());
    Config::default()
        .with_tls(tls.expect("a certificate"))
        .with_proxy_protocol(true)
}

/// Has one of our nodes and an npm node on a host connect through the proxy and exchange data.
async fn peers_meet(proxy: &Proxy, certificate: &Certificate, mut clients: mpsc::Receiver<IpAddr>) {
    let host = Host::start(5, proxy.addr()).await;
    let config = hasty().with_root_certificate(&certificate.der);
    let mut node = Raw::with(&ed25519(), config.expect("a certificate"));
    let (_, own) = node.listen(&host.address()).await;
    let folder = Folder::with(certificate);
    let npm = Peer::trusting(&folder.path("cert.pem"));
    let ed25519 = json!({"keyType": "ed25519"});
    let to = npm.try_listen(&host.address(), ed25519).await;
    let to = to.expect("joined");
    echo_both_ways(&mut node, &own, &npm, &to, LEN, 65_536).await;
    for _ in 0..2 {
        let client = within("a join", clients.recv()).await;
        assert_eq!(client, Some(host.ip()));
    }
}

/// Forwarding headers that a client at a host sends, and the status of its request for a link. Each host may have two
/// links.
const CLAIMS: [(u8, &str, u16); 8] = [
    (7, "X-Forwarded-For: 192.0.2.1", 101),
    (7, "X-Forwarded-For: 192.0.2.2, 127.0.0.1", 101),
    (7, "X-Forwarded-For: 192.0.2.3", 429),
    (
        7,
        "X-Forwarded-For: 192.0.2.4\r\nX-Forwarded-For: 192.0.2.5",
        429,
    ),
    (7, "Forwarded: for=192.0.2.6", 429),
    // A client cannot use up the links of another host by naming that host, either.
    (8, "X-Forwarded-For: 127.0.0.7", 101),
    (8, "X-Forwarded-For: garbage, , [", 101),
    (8, "X-Nothing: 1", 429),
];

async fn clients_are_counted_by_their_own_address(proxy: &Proxy, certificate: &Certificate) {
    let mut links = Vec::new();
    for (host, claim, expected) in CLAIMS {
        let (head, stream) = client::link(host, claim, proxy, certificate).await;
        let status = format!("HTTP/1.1 {expected} ");
        assert!(head.starts_with(&status), "{host} {claim}: {head}");
        links.push(stream);
    }
}

/// Checks that the proxy has logged this number of requests, and that the token is in none of these lines.
async fn the_token_is_not_in_the_log(proxy: &Proxy, requests: usize) {
    let read = within("the lines of the log", async {
        loop {
            let log = proxy.logged();
            if log.matches("/socket.io/").count() >= requests {
                break log;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let log = read.await;
    assert!(!log.contains(SECRET), "{log}");
}

/// Tests a proxy that forwards HTTP requests to the rendezvous.
async fn works_in_front(kind: Kind) {
    let certificate = Certificate::new();
    let (server, clients) = trusting(Config::default()).await;
    let proxy = Proxy::start(kind, server.local_addr(), &certificate).await;
    peers_meet(&proxy, &certificate, clients).await;
    clients_are_counted_by_their_own_address(&proxy, &certificate).await;
    let page = client::page(9, &proxy, &certificate).await;
    let address = ">/dns4/star.example/tcp/443/wss/p2p-websocket-star<";
    assert!(page.contains(address), "{page}");
    server.shutdown().await;
    let (head, _) = client::link(9, "X-Nothing: 1", &proxy, &certificate).await;
    assert!(head.starts_with("HTTP/1.1 50"), "{head}");
    // The requests of the clients above, and this one.
    the_token_is_not_in_the_log(&proxy, CLAIMS.len() + 1).await;
}

#[tokio::test]
async fn nginx() {
    works_in_front(Kind::Nginx).await;
}

#[tokio::test]
async fn haproxy() {
    works_in_front(Kind::Haproxy).await;
}

#[tokio::test]
async fn caddy() {
    works_in_front(Kind::Caddy).await;
}

/// Tests a proxy that passes on bytes, with a header of the PROXY protocol before them.
async fn passes_on_bytes(version: &'static str) {
    let certificate = Certificate::new();
    let (server, clients) = trusting(behind_bytes(&certificate)).await;
    let kind = Kind::HaproxyTcp { version };
    let proxy = Proxy::start(kind, server.local_addr(), &certificate).await;
    peers_meet(&proxy, &certificate, clients).await;
    clients_are_counted_by_their_own_address(&proxy, &certificate).await;
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::ProxyHeader), 0);
}

#[tokio::test]
async fn haproxy_with_version_1_of_the_proxy_protocol() {
    passes_on_bytes("send-proxy").await;
}

#[tokio::test]
async fn haproxy_with_version_2_of_the_proxy_protocol() {
    passes_on_bytes("send-proxy-v2").await;
}

#[tokio::test]
async fn the_binary_speaks_the_proxy_protocol_when_it_is_told_to() {
    let certificate = Certificate::new();
    let folder = Folder::with(&certificate);
    let mut flags = folder.flags().to_vec();
    let trusted = format!("--trusted-proxy={PROXY}");
    flags.extend([&trusted, "--proxy-protocol", "--max-links-per-ip=2"].map(str::to_owned));
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let star = Binary::start(&flags).await;
    let kind = Kind::HaproxyTcp {
        version: "send-proxy-v2",
    };
    let proxy = Proxy::start(kind, star.local_addr(), &certificate).await;
    clients_are_counted_by_their_own_address(&proxy, &certificate).await;
}

#[test]
fn the_guide_shows_the_files_that_run_here() {
    let guide = include_str!("../../../docs/proxies.md");
    for (language, file) in [
        ("nginx", process::NGINX),
        ("text", process::HAPROXY),
        ("text", process::HAPROXY_TCP),
        ("text", process::CADDY),
    ] {
        let block = format!("\n```{language}\n{file}```\n");
        assert!(guide.contains(&block), "the guide has not this:{block}");
    }
}
