//! The doctor with a proxy between it and the rendezvous.

use super::{Found, served::refusing};
use crate::{
    star::{command, ended},
    support::{
        address, embedded,
        forward_proxy::{Kind, Proxy},
    },
};

#[tokio::test]
async fn a_proxy_that_leads_there() {
    let server = embedded().await;
    for kind in [Kind::Tinyproxy, Kind::Microsocks] {
        let proxy = Proxy::start(kind).await;
        let found = Found::run(&[&address(&server), "--no-bulk", "--proxy", &proxy.url()]).await;
        found.all_right(&["dns", "tcp", "tls", "bulk"]);
        assert!(
            found
                .seen("proxy")
                .starts_with(&format!("connected through {}", proxy.url())),
            "{}",
            found.seen("proxy")
        );
    }
}

#[tokio::test]
async fn a_proxy_that_the_environment_names_and_one_that_is_not_wanted() {
    let server = embedded().await;
    let (_socket, addr) = refusing();
    let url = format!("http://{addr}");
    for (flag, status) in [(None, "failed"), (Some("--no-proxy"), "ok")] {
        let mut doctor = command(&["doctor", "--json", "--no-bulk", &address(&server)]);
        let doctor = doctor.args(flag).env("HTTP_PROXY", &url).spawn();
        let found = Found::of(ended(doctor.expect("it runs")).await);
        assert_eq!(found.status("proxy"), status);
    }
}

#[tokio::test]
async fn a_proxy_that_wants_a_password() {
    let server = embedded().await;
    let proxy = Proxy::with_password(Kind::Tinyproxy).await;
    let found = Found::run(&[&address(&server), "--proxy", &proxy.url()]).await;
    found.only_failure(
        "proxy",
        "asks for a user name and a password",
        "Give the proxy a user name",
    );
    assert_eq!(found.status("tcp"), "skipped");
    let wrong = proxy.url_with("user:wrong");
    let found = Found::run(&[&address(&server), "--proxy", &wrong]).await;
    found.only_failure("proxy", "does not accept the user name", "is wrong");
    assert!(
        !found.seen("proxy").contains("wrong"),
        "{}",
        found.seen("proxy")
    );
}

#[tokio::test]
async fn a_proxy_that_refuses() {
    let server = embedded().await;
    let proxy = Proxy::start(Kind::SquidRefusing).await;
    let found = Found::run(&[&address(&server), "--proxy", &proxy.url()]).await;
    found.only_failure(
        "proxy",
        "HTTP status 403",
        "many proxies allow port 443 only",
    );
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_cannot_reach_the_rendezvous() {
    let server = embedded().await;
    let (_socket, addr) = refusing();
    let found = Found::run(&[&address(&server), "--proxy", &format!("http://{addr}")]).await;
    found.only_failure("proxy", "cannot connect to it", "The proxy does not answer");
    let proxy = Proxy::start(Kind::Tinyproxy).await;
    let found = Found::run(&[&format!("ws://{addr}"), "--proxy", &proxy.url()]).await;
    found.only_failure(
        "proxy",
        "HTTP status 500",
        "The proxy cannot reach the rendezvous",
    );
}
