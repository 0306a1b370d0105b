//! The hosts at which the page is available, and the headers of a proxy in front of it.

use libp2p_websocket_star::rendezvous::{Config, Server, Tenant};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{OWN, TOKEN, ask, hostile::Log, serving, serving_with};
use crate::client::{self, config};

fn with_tenants() -> Config {
    let tenants = ["blue=blue.example", "red=red.example"];
    let tenants = tenants.map(|tenant| tenant.parse::<Tenant>().expect("a tenant"));
    config().with_tenants(tenants).expect("two names")
}

/// Returns the status of the answer at a host.
async fn status(server: &Server, request: &str, host: &str) -> String {
    let stream = TcpStream::connect(server.local_addr()).await;
    let mut stream = stream.expect("connected");
    let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = client::status(&mut stream).await;
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test]
async fn at_the_hosts_of_tenants_there_is_no_page() {
    let server = serving_with(with_tenants()).await;
    for (host, expected) in [
        ("blue.example", "404"),
        ("BLUE.example.:9090", "404"),
        ("red.example", "404"),
        ("a:1", "200"),
        ("127.0.0.1", "200"),
        ("no host", "400"),
        ("blue.example/", "400"),
    ] {
        assert_eq!(
            status(&server, "GET /admin", host).await,
            expected,
            "{host}"
        );
    }
    let bearer = format!("blue.example\r\nAuthorization: Bearer {TOKEN}");
    for request in ["GET /admin/peers", "GET /admin/events", "POST /admin/ban"] {
        assert_eq!(status(&server, request, &bearer).await, "404", "{request}");
    }
    let two = "a:1\r\nHost: blue.example";
    assert_eq!(status(&server, "GET /admin", two).await, "400");
}

#[tokio::test]
async fn where_only_known_hosts_are_taken_the_page_is_at_each_of_them() {
    let server = serving_with(with_tenants().with_known_hosts_only(true)).await;
    for (host, expected) in [
        ("blue.example", "200"),
        ("red.example", "200"),
        ("a:1", "421"),
        ("no host", "400"),
    ] {
        assert_eq!(
            status(&server, "GET /admin", host).await,
            expected,
            "{host}"
        );
        assert_eq!(status(&server, "GET /", host).await, expected, "{host}");
    }
    assert_eq!(status(&server, "GET /admin", "a:1").await, "421");
}

#[tokio::test]
async fn without_tenants_the_page_is_at_every_host() {
    let server = serving_with(config().with_known_hosts_only(true)).await;
    assert_eq!(status(&server, "GET /admin", "a:1").await, "200");
}

#[tokio::test]
async fn a_proxy_on_this_machine_that_is_not_trusted_is_warned_of() {
    let log = Log::default();
    let _guard = log.begin();
    let server = serving().await;
    let page = ask(&server, "GET /admin", &[OWN], "").await;
    assert!(!page.body.contains("Not encrypted."), "{page:?}");
    for header in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=192.0.2.1"),
        ("Via", "1.1 proxy"),
    ] {
        let page = ask(&server, "GET /admin", &[header], "").await;
        assert_eq!(page.status(), 200);
        assert!(page.body.contains("Not encrypted."), "{header:?}: {page:?}");
    }
    let told = log.text();
    let times = told
        .matches("a proxy on this machine that is not trusted")
        .count();
    assert_eq!(times, 1, "{told}");
}
