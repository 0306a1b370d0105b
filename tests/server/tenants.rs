//! Several tenants on one server, distinguished by the host that peers ask for.

use std::{net::SocketAddr, sync::Arc};

use libp2p_identity::Keypair;
use libp2p_websocket_star::rendezvous::{
    Access, Config, Join, Judgement, Limits, Refused, Server, Tenant, Verdict,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    client::{Client, Eio, address, config, dial, soon, stream_event},
    upgrade::{HEADERS, QUERY, request, send},
};

const BLUE: &str = "blue.test";
const RED: &str = "red.test";
/// A host of no tenant.
const OTHER: &str = "127.0.0.1";

fn tenants(config: Config) -> Config {
    let tenant = |text: &str| text.parse::<Tenant>().expect("a tenant");
    let tenants = [tenant("blue=blue.test,[::1]"), tenant("red=red.test")];
    config.with_tenants(tenants).expect("good ones")
}

async fn serving(config: Config) -> Server {
    Server::bind(tenants(config)).await.expect("a free port")
}

/// Opens a link for that host.
async fn at(server: &Server, host: &str) -> Client {
    let client = Client::upgrade_for(host, server.local_addr(), Eio::V3).await;
    client.greeted().await
}

fn key() -> Keypair {
    Keypair::generate_ed25519()
}

/// Returns the address of a key under a host.
fn under(host: &str, key: &Keypair) -> String {
    let protocol = match host {
        OTHER => "ip4",
        _ => "dns4",
    };
    address(key).replace("ip4/127.0.0.1", &format!("{protocol}/{host}"))
}

/// Returns a new peer at a host, with the peers in the answer to its join.
pub async fn joined(server: &Server, host: &str) -> (Client, Value) {
    let mut client = at(server, host).await;
    let key = key();
    let ack = client.prove_as(&key, under(host, &key)).await;
    let answer = client.answer(ack).await;
    assert_eq!((&answer[0], &answer[1]), (&Value::Null, &Value::Null));
    (client, answer[2].clone())
}

/// Returns the status and the body of the answer at a host.
async fn get(addr: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    soon("an answer", read).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

/// Returns the status of the answer to a request for a link at a host.
async fn link_status(server: &Server, host: &str) -> u16 {
    let request = request(QUERY, &HEADERS).replace("Host: a\r\n", &format!("Host: {host}\r\n"));
    let (head, _stream) = send(server.local_addr(), request.as_bytes()).await;
    head[9..12].parse().expect("a status")
}

/// Checks that the server's addresses have these hosts.
#[track_caller]
fn check_addresses(server: &Server, hosts: [&str; 4]) {
    let port = server.local_addr().port();
    let expected = hosts.map(|host| format!("{host}/tcp/{port}/ws/p2p-websocket-star"));
    let addresses = server.addresses();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, expected);
}

#[tokio::test]
async fn peers_hear_of_those_of_their_tenant_and_reach_nobody_else() {
    let server = serving(config()).await;
    let mut first = Vec::new();
    for host in [BLUE, RED, OTHER] {
        let (client, others) = joined(&server, host).await;
        assert_eq!(others, json!([]), "{host}");
        first.push(client);
    }
    let mut second = Vec::new();
    for (host, known) in [BLUE, RED, OTHER].into_iter().zip(&mut first) {
        let (mut new, others) = joined(&server, host).await;
        assert_eq!(others, json!([known.address]), "{host}");
        // This is the only announcement that the peer ever gets.
        assert_eq!(known.announced().await, new.address);
        dial(&mut new, known, "d").await;
        new.item("d.dialer", host.as_bytes()).await;
        known.expect_item("d.dialer", host.as_bytes()).await;
        second.push(new);
    }
    let foreign = first[1].address.clone();
    for client in [0, 2] {
        let own = first[client].address.clone();
        let answer = first[client].request(json!(["ss-dial", own, foreign, "e"]));
        assert_eq!(answer.await, json!(["Peer not found"]));
    }
    let snapshot = server.snapshot();
    assert_eq!((snapshot.peers.len(), snapshot.counters.joins), (6, 6));
    assert_eq!(snapshot.refusals.get(Refused::PeerNotFound), 2);
    for tenant in ["blue", "red", "default"] {
        let own = server.tenant_snapshot(tenant).expect("a tenant");
        assert_eq!((own.peers.len(), own.relayed_items), (2, 1), "{tenant}");
    }
    assert!(server.tenant_snapshot("green").is_none());
}

#[tokio::test]
async fn whatever_one_tenant_sends_another_hears_nothing_of_it() {
    let server = serving(config()).await;
    let (mut dialer, _) = joined(&server, RED).await;
    let (mut listener, _) = joined(&server, RED).await;
    dial(&mut dialer, &mut listener, "d").await;
    let (mut evil, _) = joined(&server, BLUE).await;
    let (victim, other) = (dialer.address.clone(), listener.address.clone());
    let own = evil.address.clone();
    for event in [
        json!(["ss-dial", victim, other, "d"]),
        json!(["ss-dial", own, victim, "d"]),
        json!(["ss-dial", victim, own, "e"]),
        json!(["ss-join", victim, "08011220"]),
        json!(["ss-leave", victim]),
        json!(["ss-leave", victim, "d"]),
        json!(["ss-incomming", "d", own]),
        json!(["ws-peer", own]),
    ] {
        evil.ask(event).await;
    }
    for stream in ["d.dialer", "d.listener"] {
        evil.send(stream_event("accept", stream)).await;
        evil.send(stream_event("true", stream)).await;
        evil.send(stream_event("\"over\"", stream)).await;
        evil.item(stream, b"evil").await;
    }
    for ack in 0..10 {
        evil.send(format!("43{ack}[]")).await;
        evil.send(format!("43{ack}[\"no\"]")).await;
    }
    // When this is answered, all of it has been read.
    let ack = evil.ask(json!(["ss-leave", ""])).await;
    while !evil.text().await.starts_with(&format!("43{ack}")) {}
    // The next messages must be those of the two peers themselves.
    dialer.item("d.dialer", b"hello").await;
    listener.expect_item("d.dialer", b"hello").await;
    listener.item("d.listener", b"there").await;
    dialer.expect_item("d.listener", b"there").await;
    let red = server.tenant_snapshot("red").expect("a tenant");
    assert_eq!((red.peers.len(), red.dials, red.relayed_items), (2, 1, 2));
}

#[tokio::test]
async fn an_address_leads_to_no_other_tenant() {
    let server = serving(config()).await;
    for (host, good, bad) in [
        (
            BLUE,
            vec![BLUE, "BLUE.test", "blue.test."],
            vec![RED, OTHER, "any.test"],
        ),
        (RED, vec![RED], vec![BLUE, OTHER, "sub.red.test"]),
        (
            OTHER,
            vec![OTHER, "any.test"],
            vec![BLUE, "Red.test", "red.test."],
        ),
    ] {
        let mut client = at(&server, host).await;
        let key = key();
        let public = hex::encode(key.public().encode_protobuf());
        for name in bad {
            let answer = client.request(json!(["ss-join", under(name, &key), public]));
            assert_eq!(
                answer.await,
                json!(["Invalid multiaddr"]),
                "{name} at {host}"
            );
        }
        for name in good {
            let answer = client.request(json!(["ss-join", under(name, &key), public]));
            assert_eq!(answer.await[0], Value::Null, "{name} at {host}");
        }
    }
    check_addresses(
        &server,
        [
            "/ip4/127.0.0.1",
            "/dns/blue.test",
            "/ip6/::1",
            "/dns/red.test",
        ],
    );
}

#[tokio::test]
async fn the_tenant_is_told_by_the_host_however_it_is_written() {
    let server = serving(config()).await;
    let (_blue, _) = joined(&server, BLUE).await;
    for host in [
        "blue.test:9090",
        "BLUE.Test",
        "blue.test.",
        "Blue.test.:1",
        "[::1]:80",
    ] {
        let (status, body) = get(server.local_addr(), host, "/health").await;
        assert_eq!(status, 200);
        assert_eq!(body, r#"{"links":1,"peers":1,"status":"ok"}"#, "{host}");
        let (status, body) = get(server.local_addr(), host, "/").await;
        assert_eq!(status, 200);
        assert!(body.contains("<span id=\"peers\">1</span>"), "{body}");
    }
    let (_, body) = get(server.local_addr(), "red.test:1", "/health").await;
    assert_eq!(body, r#"{"links":0,"peers":0,"status":"ok"}"#);
    // If the request line names a host, that host counts.
    let (_, body) = get(server.local_addr(), RED, "http://blue.test/health").await;
    assert_eq!(body, r#"{"links":1,"peers":1,"status":"ok"}"#);
    // Other hosts show nothing of it.
    let (_, body) = get(server.local_addr(), "x", "/health").await;
    assert_eq!(body, r#"{"links":0,"peers":0,"status":"ok"}"#);
    let (_, body) = get(server.local_addr(), "x", "/").await;
    assert!(body.contains("<span id=\"peers\">0</span>"), "{body}");
}

#[tokio::test]
async fn a_host_that_cannot_be_one_belongs_to_nobody() {
    let server = serving(config()).await;
    for hosts in [
        "Host: blue.test\r\nHost: red.test\r\n",
        "Host: blue.test\r\nHost: blue.test\r\n",
        "Host: user@blue.test\r\n",
        "Host: blue.test/red.test\r\n",
        "Host: blue.test, red.test\r\n",
        "Host: blue.test:x\r\n",
    ] {
        let request = request(QUERY, &HEADERS).replace("Host: a\r\n", hosts);
        let (head, _stream) = send(server.local_addr(), request.as_bytes()).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{hosts:?}: {head}");
    }
    assert_eq!(link_status(&server, "").await, 101);
}

#[tokio::test]
async fn each_request_of_a_connection_is_for_the_host_that_it_names() {
    let trusted = "127.0.0.1".parse().expect("a network");
    let server = serving(config().with_trusted_proxies([trusted])).await;
    let (_blue, _) = joined(&server, BLUE).await;
    let mut stream = TcpStream::connect(server.local_addr())
        .await
        .expect("connected");
    for (host, peers) in [(BLUE, 1), (RED, 0), ("x", 0), (BLUE, 1), (RED, 0)] {
        let head = format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        assert_eq!(crate::client::status(&mut stream).await, "HTTP/1.1 200 OK");
        let expected = format!(r#"{{"links":{peers},"peers":{peers},"status":"ok"}}"#);
        let mut body = vec![0; expected.len()];
        soon("a body", stream.read_exact(&mut body))
            .await
            .expect("a body");
        assert_eq!(String::from_utf8_lossy(&body), expected, "{host}");
    }
    let head = format!(
        "GET /socket.io/?{QUERY} HTTP/1.1\r\nHost: {RED}\r\n{}\r\n\r\n",
        HEADERS.join("\r\n")
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let status = crate::client::status(&mut stream).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    let red = server.tenant_snapshot("red").expect("a tenant");
    assert_eq!(red.links, 1);
}

#[tokio::test]
async fn only_those_who_look_after_the_server_see_all_tenants() {
    let trusted = "127.0.0.1".parse().expect("a network");
    let operators = "192.0.2.0/24".parse().expect("a network");
    let config = config()
        .with_trusted_proxies([trusted])
        .with_operators([operators]);
    let server = serving(config).await;
    let (_blue, _) = joined(&server, BLUE).await;
    let ask = async |client: &str| {
        let head = format!("GET /metrics HTTP/1.1\r\nX-Forwarded-For: {client}");
        crate::client::http(server.local_addr(), &head).await
    };
    let all = ask("192.0.2.7").await;
    assert!(
        all.contains("rendezvous_peers{tenant=\"blue\"} 1\n"),
        "{all}"
    );
    assert!(all.contains("\nrendezvous_connections "), "{all}");
    for client in ["198.51.100.7", "127.0.0.1", "unknown"] {
        let own = ask(client).await;
        assert!(
            own.contains("rendezvous_peers{tenant=\"default\"} 0\n"),
            "{own}"
        );
        assert!(!own.contains("blue"), "{client}: {own}");
        assert!(!own.contains("\nrendezvous_connections "), "{own}");
    }
}

#[tokio::test]
async fn many_tenants_are_served_as_few_are() {
    let tenant = |n| {
        format!("t{n}=t{n}.test")
            .parse::<Tenant>()
            .expect("a tenant")
    };
    let interval = std::time::Duration::from_millis(50);
    let config = config().with_announce_interval(interval);
    let config = config
        .with_tenants((0..100).map(tenant))
        .expect("not too many");
    let server = Server::bind(config).await.expect("a free port");
    for n in [0, 57, 99] {
        let host = format!("t{n}.test");
        let (mut first, _) = joined(&server, &host).await;
        let (second, others) = joined(&server, &host).await;
        assert_eq!(others, json!([first.address]));
        // The peer is announced as a newcomer, and then again and again.
        for _ in 0..3 {
            assert_eq!(first.announced().await, second.address);
        }
    }
    soon("the end", server.shutdown()).await;
}

#[tokio::test]
async fn public_names_are_those_of_nobody_elses() {
    let names = ["star.test", BLUE].map(|name| name.parse().expect("a name"));
    let server = serving(config().with_public_names(names)).await;
    check_addresses(
        &server,
        [
            "/dns/star.test",
            "/dns/blue.test",
            "/ip6/::1",
            "/dns/red.test",
        ],
    );
    let mut client = at(&server, "star.test").await;
    let key = key();
    let public = hex::encode(key.public().encode_protobuf());
    let answer = client.request(json!(["ss-join", under(BLUE, &key), public]));
    assert_eq!(answer.await, json!(["Invalid multiaddr"]));
    let answer = client.request(json!(["ss-join", under("star.test", &key), public]));
    assert_eq!(answer.await[0], Value::Null);
}

#[tokio::test]
async fn unknown_hosts_are_refused_where_that_is_wanted() {
    let server = serving(config().with_known_hosts_only(true)).await;
    let (_blue, _) = joined(&server, BLUE).await;
    for host in [OTHER, "any.test", "", "sub.blue.test", "blue.test.red"] {
        assert_eq!(link_status(&server, host).await, 421, "{host:?}");
        let (status, body) = get(server.local_addr(), host, "/").await;
        assert_eq!(
            (status, &*body),
            (421, "No network on this server has this host\n"),
            "{host:?}"
        );
        // An operator may ask for these by the server's address.
        assert_eq!(get(server.local_addr(), host, "/health").await.0, 200);
        assert_eq!(get(server.local_addr(), host, "/metrics").await.0, 200);
    }
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::UnknownHost), 10);
    let addresses = server.addresses();
    assert!(
        addresses
            .iter()
            .all(|address| !address.to_string().contains(OTHER))
    );
}

#[tokio::test]
async fn metrics_are_of_each_tenant_and_a_tenant_sees_its_own() {
    let server = serving(config()).await;
    let (mut one, _) = joined(&server, BLUE).await;
    let (_two, _) = joined(&server, BLUE).await;
    let (_three, _) = joined(&server, RED).await;
    let answer = one.request(json!(["ss-dial", one.address, "/x", "d"]));
    assert_eq!(answer.await, json!(["Peer not found"]));
    let (_, all) = get(server.local_addr(), OTHER, "/metrics").await;
    let of_blue = [
        "rendezvous_peers{tenant=\"blue\"} 2",
        "rendezvous_links{tenant=\"blue\"} 2",
        "rendezvous_joins_total{tenant=\"blue\"} 2",
        "rendezvous_dials_total_failure{tenant=\"blue\"} 1",
        "rendezvous_refusals_total{tenant=\"blue\",reason=\"peer_not_found\"} 1",
        "rendezvous_dial_seconds_count{tenant=\"blue\"} 0",
    ];
    let of_others = [
        "rendezvous_peers{tenant=\"default\"} 0",
        "rendezvous_peers{tenant=\"red\"} 1",
        "rendezvous_refusals_total{tenant=\"red\",reason=\"peer_not_found\"} 0",
        "rendezvous_refusals_total{reason=\"unknown_host\"} 0",
        "rendezvous_connections 4",
    ];
    for line in of_blue.iter().chain(&of_others) {
        assert!(
            all.lines().any(|found| found == *line),
            "no {line} in {all}"
        );
    }
    let (_, blue) = get(server.local_addr(), BLUE, "/metrics").await;
    for line in of_blue {
        assert!(
            blue.lines().any(|found| found == line),
            "no {line} in {blue}"
        );
    }
    for word in [
        "red",
        "default",
        "rendezvous_connections",
        "rendezvous_memory",
        "rendezvous_panics",
    ] {
        let numbers = blue.lines().filter(|line| !line.starts_with('#'));
        let told = numbers.filter(|line| line.contains(word)).count();
        assert_eq!(told, 0, "{word} in {blue}");
    }
}

#[tokio::test]
async fn what_an_origin_may_have_it_has_in_all_tenants_together() {
    let limits = Limits::default()
        .with_max_links_per_ip(4)
        .with_origin_join_rate(1, 3)
        .with_origin_dial_rate(1, 2);
    let server = serving(config().with_limits(limits)).await;
    let (blue, _) = joined(&server, BLUE).await;
    let (red, _) = joined(&server, RED).await;
    let mut dialers = [blue, red];
    let _default = joined(&server, OTHER).await;
    let mut fourth = at(&server, BLUE).await;
    let key = key();
    let public = hex::encode(key.public().encode_protobuf());
    let answer = fourth.request(json!(["ss-join", under(BLUE, &key), public]));
    let words = answer.await[0].as_str().expect("a refusal").to_owned();
    assert!(words.starts_with("Too many joins"), "{words}");
    let mut dials = Vec::new();
    for dialer in [0, 1, 0] {
        let client = &mut dialers[dialer];
        let answer = client.request(json!(["ss-dial", client.address, "/x", "d"]));
        dials.push(answer.await[0].as_str().expect("a refusal").to_owned());
    }
    assert_eq!(dials[..2], ["Peer not found", "Peer not found"]);
    assert!(dials[2].starts_with("Too many dials"), "{dials:?}");
    assert_eq!(link_status(&server, RED).await, 429);
}

/// An access rule that reports the tenant of each join to the test.
#[derive(Debug)]
struct Told(mpsc::Sender<Option<String>>);

impl Access for Told {
    fn judge(&self, join: &Join) -> Judgement {
        let tenant = join.tenant().map(str::to_owned);
        self.0.try_send(tenant).expect("there is room");
        Verdict::allow().into()
    }

    fn still_allows(&self, join: &Join) -> bool {
        join.tenant() != Some("red")
    }
}

#[tokio::test]
async fn who_decides_is_told_the_tenant_and_cuts_off_in_all_of_them() {
    let (sender, mut told) = mpsc::channel(10);
    let server = serving(config().with_access(Arc::new(Told(sender)))).await;
    let mut clients = Vec::new();
    let key = key();
    for host in [BLUE, RED, OTHER] {
        let mut client = at(&server, host).await;
        let ack = client.prove_as(&key, under(host, &key)).await;
        assert_eq!(client.answer(ack).await[0], Value::Null);
        clients.push(client);
    }
    for tenant in [Some("blue"), Some("red"), None] {
        assert_eq!(told.recv().await, Some(tenant.map(str::to_owned)));
    }
    assert_eq!(server.recheck_access().await, 1);
    let (_, reason) = clients[1].closed().await.expect("a reason");
    assert_eq!(reason, "you are no longer allowed here");
    assert_eq!(
        server.disconnect(&key.public().to_peer_id(), "out").await,
        2
    );
    for client in [0, 2] {
        let (_, reason) = clients[client].closed().await.expect("a reason");
        assert_eq!(reason, "disconnected: out");
    }
}

#[tokio::test]
async fn the_end_of_the_server_is_that_of_all_tenants() {
    let server = serving(config()).await;
    let mut pairs = Vec::new();
    for host in [BLUE, RED, OTHER] {
        let (mut dialer, _) = joined(&server, host).await;
        let (mut listener, _) = joined(&server, host).await;
        dial(&mut dialer, &mut listener, "d").await;
        pairs.push((dialer, listener));
    }
    let told = tokio::spawn(async move {
        for (mut dialer, mut listener) in pairs {
            for client in [&mut dialer, &mut listener] {
                let over = "\"the rendezvous is shutting down\"";
                let mut ends = [client.text().await, client.text().await];
                ends.sort();
                let streams = ["d.dialer", "d.listener"];
                assert_eq!(ends, streams.map(|stream| stream_event(over, stream)));
                let (code, _) = client.closed().await.expect("a reason");
                assert_eq!(u16::from(code), 1001);
            }
        }
    });
    soon("the end", server.shutdown()).await;
    told.await.expect("no panic");
}
