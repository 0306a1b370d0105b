//! Broken set-ups. The doctor must name the fault, and say what to do.

use std::time::{Duration, SystemTime};

use super::{
    Found,
    served::{Nginx, Served, refusing},
};
use crate::{
    star::run,
    support::{
        binary::Binary,
        certificates::{Certificate, Folder, text},
        ed25519, embedded, hasty,
        js::{Rendezvous, RendezvousOptions},
        raw::Raw,
    },
};

#[tokio::test]
async fn an_address_that_is_none() {
    let found = Found::run(&["/dns4/star.example/tcp/443/wss"]).await;
    found.only_failure(
        "address",
        "not a websocket-star address",
        "Ask the operator of the rendezvous for its address",
    );
    let said = run(&["doctor", "star.example:443"]).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.stdout
            .starts_with("FAILED  address    not a multiaddr"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_name_that_nobody_knows() {
    let found = Found::run(&["wss://no.such.host.invalid", "--no-proxy"]).await;
    found.only_failure("dns", "cannot resolve no.such.host.invalid", "typing error");
    assert_eq!(found.status("tcp"), "skipped");
    assert_eq!(found.status("clock"), "skipped");
}

#[tokio::test]
async fn a_port_on_which_nobody_listens() {
    let (_socket, addr) = refusing();
    let found = Found::run(&[&format!("ws://{addr}")]).await;
    found.only_failure("tcp", "Connection refused", "Nothing listens there");
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let silent = Served::silent().await;
    let found = Found::run(&[&silent.url(), "--timeout", "300ms"]).await;
    found.only_failure(
        "upgrade",
        "the WebSocket upgrade took longer than 300ms",
        "There is no answer in time",
    );
    let secure = silent.url().replace("ws://", "wss://");
    let found = Found::run(&[&secure, "--timeout", "300ms"]).await;
    found.only_failure(
        "tls",
        "the TLS handshake took longer than 300ms",
        "There is no answer in time",
    );
}

/// Runs the doctor on a rendezvous behind TLS with this certificate, at this address. The certificate is trusted or
/// not.
async fn over_tls(
    certificate: &Certificate,
    trusted: bool,
    place: impl Fn(u16) -> String,
) -> Found {
    let server = embedded().await;
    let tls = Served::over_tls(certificate, server.local_addr()).await;
    let folder = Folder::with(certificate);
    let root = text(&folder.path("cert.pem"));
    let place = place(tls.addr.port());
    let mut arguments = vec![&*place];
    if trusted {
        arguments.extend(["--root-certificate", &root]);
    }
    Found::run(&arguments).await
}

fn localhost(port: u16) -> String {
    format!("/dns4/localhost/tcp/{port}/wss/p2p-websocket-star")
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    let found = over_tls(&Certificate::valid(2001, 2002), true, localhost).await;
    found.only_failure("tls", "certificate expired", "Renew the certificate");
    assert_eq!(found.status("upgrade"), "skipped");
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet() {
    let found = over_tls(&Certificate::valid(3001, 3002), true, localhost).await;
    found.only_failure(
        "tls",
        "certificate not valid yet",
        "Set the clock of this machine",
    );
}

#[tokio::test]
async fn a_certificate_of_an_issuer_that_nobody_knows() {
    let found = over_tls(&Certificate::new(), false, localhost).await;
    found.only_failure("tls", "issued by CN=test", "--root-certificate");
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let place =
        |port| format!("/ip4/127.0.0.1/tcp/{port}/tls/sni/star.example/ws/p2p-websocket-star");
    let found = over_tls(&Certificate::new(), true, place).await;
    found.only_failure(
        "tls",
        "star.example",
        "Use the name that the certificate is for",
    );
}

#[tokio::test]
async fn wss_where_there_is_no_tls_and_ws_where_there_is() {
    let server = embedded().await;
    let found = Found::run(&[&format!("wss://{}", server.local_addr())]).await;
    found.only_failure(
        "tls",
        "does not speak TLS on this port",
        "Use ws instead of wss",
    );
    let tls = Served::over_tls(&Certificate::new(), server.local_addr()).await;
    let found = Found::run(&[&tls.url()]).await;
    found.only_failure(
        "upgrade",
        "the server speaks TLS on this port",
        "Use wss instead of ws",
    );
}

#[tokio::test]
async fn a_server_that_is_no_rendezvous() {
    for (answer, seen, advice) in [
        (
            "404 Not Found",
            "HTTP status 404",
            "There is no rendezvous at this address",
        ),
        (
            "403 Forbidden",
            "HTTP status 403",
            "refuses clients from here",
        ),
        (
            "301 Moved Permanently\r\nLocation: https://x/",
            "HTTP status 301",
            "The server redirects to another address",
        ),
        (
            "401 Unauthorized",
            "HTTP status 401",
            "asks for credentials",
        ),
        (
            "504 Gateway Timeout",
            "HTTP status 504",
            "The reverse proxy is up",
        ),
    ] {
        let web = Served::answering(format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        let found = Found::run(&[&web.url()]).await;
        found.only_failure("upgrade", seen, advice);
        assert_eq!(found.status("clock"), "skipped");
    }
    let ssh = Served::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let found = Found::run(&[&ssh.url()]).await;
    found.only_failure(
        "upgrade",
        "the answer is not HTTP",
        "The service on this port does not speak HTTP",
    );
}

#[tokio::test]
async fn what_a_server_says_commands_no_terminal() {
    let web = Served::answering("HTTP/1.1 500 x\r\n\r\n\x1b[2Jgone").await;
    let said = run(&["doctor", &web.url()]).await;
    assert!(!said.stdout.contains('\x1b'), "{said:?}");
    assert!(
        said.stdout.contains("[2Jgone. The server has failed"),
        "{said:?}"
    );
}

#[tokio::test]
async fn nginx_that_does_not_pass_on_the_upgrade() {
    let server = embedded().await;
    let nginx = Nginx::start(&format!("proxy_pass http://{};", server.local_addr())).await;
    let found = Found::run(&[&nginx.url()]).await;
    found.only_failure(
        "upgrade",
        "HTTP status 400",
        "does not pass on the headers Upgrade and Connection",
    );
    assert_eq!(found.status("clock"), "ok");
}

#[tokio::test]
async fn nginx_that_has_a_page_in_place_of_the_rendezvous() {
    let nginx = Nginx::start("return 200 'welcome';").await;
    let found = Found::run(&[&nginx.url()]).await;
    found.only_failure("upgrade", "HTTP status 200", "does not pass on /socket.io/");
}

#[tokio::test]
async fn nginx_in_front_of_a_rendezvous_that_is_down() {
    let (_socket, addr) = refusing();
    let nginx = Nginx::start(&format!("proxy_pass http://{addr};")).await;
    let found = Found::run(&[&nginx.url()]).await;
    found.only_failure(
        "upgrade",
        "HTTP status 502",
        "the rendezvous behind it is not",
    );
}

#[tokio::test]
async fn another_websocket_service() {
    let other = Served::websocket().await;
    let found = Found::run(&[&other.url(), "--timeout", "1s"]).await;
    assert_eq!(found.status("upgrade"), "ok");
    found.only_failure(
        "open",
        "violated the protocol",
        "The WebSocket service there is not a rendezvous",
    );
}

#[tokio::test]
async fn a_rendezvous_that_wants_a_token() {
    let folder = Folder::new();
    let tokens = text(&folder.write("tokens", "a-secret-of-many\n"));
    let star = Binary::start(&["--token-file", &tokens]).await;
    let found = Found::run(&[&star.addr()]).await;
    found.only_failure("join", "show no token", "STAR_TOKEN or --token-file");
}

#[tokio::test]
async fn a_token_that_others_could_read() {
    let folder = Folder::new();
    let token = text(&folder.write("token", "a-secret-of-many\n"));
    let found = Found::run(&["ws://star.example", "--token-file", &token]).await;
    found.only_failure(
        "address",
        "a token is sent to another machine only over wss",
        "Use an address with wss",
    );
}

#[tokio::test]
async fn a_peer_that_is_kept_out() {
    let folder = Folder::new();
    let key = text(&folder.path("key"));
    let peer = run(&["id", &key]).await.stdout;
    let denied = text(&folder.write("denied", peer));
    let star = Binary::start(&["--deny-peers", &denied]).await;
    let found = Found::run(&[&star.addr(), "--identity", &key]).await;
    found.only_failure(
        "join",
        "Not allowed",
        "Ask the operator to allow this peer id",
    );
}

#[tokio::test]
async fn a_rendezvous_that_goes_by_another_name() {
    let star = Binary::start(&["--public-name", "star.test"]).await;
    let found = Found::run(&[&star.addr()]).await;
    found.only_failure("join", "Invalid multiaddr", "--public-name");
    let star = Binary::start(&["--tenant", "blue=star.test", "--known-hosts-only"]).await;
    let found = Found::run(&[&star.addr()]).await;
    found.only_failure("upgrade", "HTTP status 421", "does not serve this name");
}

#[tokio::test]
async fn a_rendezvous_that_is_full() {
    let star = Binary::start(&["--max-links-per-ip", "1"]).await;
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen(&star.addr()).await;
    let found = Found::run(&[&star.addr()]).await;
    found.only_failure("upgrade", "HTTP status 429", "Too many links");
    let star = Binary::start(&["--max-links", "1"]).await;
    let mut node = Raw::with(&ed25519(), hasty());
    node.listen(&star.addr()).await;
    let found = Found::run(&[&star.addr()]).await;
    found.only_failure("upgrade", "HTTP status 503", "The rendezvous is full");
}

#[tokio::test]
async fn a_rendezvous_without_a_challenge() {
    let options = RendezvousOptions {
        crypto_challenge: false,
        ..RendezvousOptions::default()
    };
    let npm = Rendezvous::start(options).await;
    let found = Found::run(&[&npm.addr()]).await;
    found.only_failure(
        "join",
        "has its challenge disabled",
        "--allow-disabled-challenge",
    );
    let allowed = Found::run(&[&npm.addr(), "--allow-disabled-challenge", "--no-bulk"]).await;
    allowed.all_right(&["dns", "tls", "bulk"]);
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    let now = SystemTime::now();
    for (off, status, seen) in [
        (0, "ok", "the same time"),
        (120, "warning", "s ahead of the rendezvous"),
        (86_400, "failed", "s ahead of the rendezvous"),
    ] {
        let date = httpdate::fmt_http_date(now - Duration::from_secs(off));
        let web =
            Served::answering(format!("HTTP/1.1 404 Not Found\r\nDate: {date}\r\n\r\n")).await;
        let found = Found::run(&[&web.url()]).await;
        assert_eq!(found.status("clock"), status);
        assert!(
            found.seen("clock").contains(seen),
            "{}",
            found.seen("clock")
        );
    }
    let date = httpdate::fmt_http_date(now + Duration::from_secs(86_400));
    let web = Served::answering(format!("HTTP/1.1 404 Not Found\r\nDate: {date}\r\n\r\n")).await;
    let said = run(&["doctor", &web.url()]).await;
    let line = said.stdout.lines().last().expect("a line");
    assert!(
        line.starts_with("FAILED  clock      this machine is 86"),
        "{line}"
    );
    assert!(
        line.contains("s behind the rendezvous. Set the clock"),
        "{line}"
    );
}

#[tokio::test]
async fn an_address_without_tls_that_leads_elsewhere_is_a_warning() {
    let server = embedded().await;
    let port = server.local_addr().port();
    let star = format!("/dns4/localhost/tcp/{port}/ws/p2p-websocket-star");
    let found = Found::run(&[&star, "--no-bulk"]).await;
    found.only_warning("address", "ws://localhost", "Without TLS");
}

#[tokio::test]
async fn a_proxy_that_holds_back_bulk_data() {
    let server = embedded().await;
    let proxy = Served::stalling(server.local_addr(), 1 << 20).await;
    let found = Found::run(&[&proxy.url()]).await;
    found.only_failure(
        "bulk",
        "no data arrived for 15 s, after ",
        "The rendezvous or a proxy holds back connections",
    );
}
