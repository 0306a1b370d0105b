//! Set-ups that work, or that have only a minor fault.

use super::{CHECKS, Found, served::Served};
use crate::{
    star::{command, ended, run},
    support::{
        address,
        binary::Binary,
        certificates::{Certificate, Folder, text},
        embedded,
        js::{Rendezvous, RendezvousOptions},
    },
};

/// Returns an address with a name that has one IP address on every machine.
fn by_name(port: u16) -> String {
    format!("/dns4/localhost/tcp/{port}/wss/p2p-websocket-star")
}

#[tokio::test]
async fn our_rendezvous_is_well() {
    let server = embedded().await;
    let found = Found::run(&[&address(&server)]).await;
    found.all_right(&["dns", "tls"]);
    assert!(
        found.seen("bulk").starts_with("8 MiB in "),
        "{}",
        found.seen("bulk")
    );
}

#[tokio::test]
async fn our_rendezvous_with_tls_is_well() {
    let certificate = Certificate::new();
    let folder = Folder::with(&certificate);
    let flags = folder.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let star = Binary::start(&flags).await;
    let url = by_name(star.local_addr().port());
    let root = text(&folder.path("cert.pem"));
    let found = Found::run(&[&url, "--root-certificate", &root]).await;
    found.all_right(&[]);
    let seen = found.seen("tls");
    assert!(
        seen.starts_with("TLS 1.3, the certificate issued by CN=test has "),
        "{seen}"
    );
    assert!(seen.ends_with(" days left"), "{seen}");
}

#[tokio::test]
async fn npms_rendezvous_is_well() {
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    let found = Found::run(&[&npm.addr(), "--no-bulk"]).await;
    found.all_right(&["dns", "tls", "bulk"]);
}

#[tokio::test]
async fn people_read_a_line_for_each_check() {
    let server = embedded().await;
    let said = run(&["doctor", &address(&server), "--no-bulk"]).await;
    assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{said:?}");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(lines.len(), CHECKS.len(), "{said:?}");
    for (line, check) in lines.iter().zip(CHECKS) {
        let begins = ["ok      ", "skipped "].map(|status| format!("{status}{check} "));
        assert!(begins.iter().any(|begin| line.starts_with(begin)), "{line}");
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("names");
    let now = std::time::SystemTime::now();
    params.not_before = (now - std::time::Duration::from_secs(86_400)).into();
    params.not_after = (now + std::time::Duration::from_secs(3 * 86_400 + 3600)).into();
    let certificate = Certificate::signed(params, &key);
    let folder = Folder::with(&certificate);
    let server = embedded().await;
    let tls = Served::over_tls(&certificate, server.local_addr()).await;
    let url = by_name(tls.addr.port());
    let root = text(&folder.path("cert.pem"));
    let found = Found::run(&[&url, "--root-certificate", &root, "--no-bulk"]).await;
    found.only_warning("tls", "has 3 days left", "Renew it");
}

#[tokio::test]
async fn a_token_is_shown_and_is_not_on_the_command_line() {
    let folder = Folder::new();
    let tokens = text(&folder.write("tokens", "a-secret-of-many\n"));
    let star = Binary::start(&["--token-file", &tokens]).await;
    let mut doctor = command(&["doctor", "--json", "--no-bulk", &star.addr()]);
    let doctor = doctor.env("STAR_TOKEN", "a-secret-of-many").spawn();
    let found = Found::of(ended(doctor.expect("it runs")).await);
    found.all_right(&["dns", "tls", "bulk"]);
    let found = Found::run(&["--no-bulk", &star.addr(), "--token-file", &tokens]).await;
    found.all_right(&["dns", "tls", "bulk"]);
}

#[tokio::test]
async fn where_peers_are_let_in_by_their_id_a_second_node_is_no_failure() {
    let folder = Folder::new();
    let key = text(&folder.path("key"));
    let peer = run(&["id", &key]).await.stdout;
    let allowed = text(&folder.write("allowed", peer));
    let star = Binary::start(&["--allow-peers", &allowed]).await;
    let found = Found::run(&[&star.addr(), "--identity", &key]).await;
    assert_eq!(found.status("join"), "ok");
    found.only_warning(
        "dial",
        "a second node, with a key of its own, may not join",
        "as it should be",
    );
    assert_eq!(found.status("bulk"), "skipped");
}
