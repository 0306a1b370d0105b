//! Pages that were served over `https`, and links over `wss`.

use libp2p_websocket_star::rendezvous::{Config, Server, TlsConfig};
use serde_json::json;

use crate::{
    browser::{BOTH, Browser, Page},
    certificate::Certificate,
    start_raw,
    support::{address, ed25519, embedded},
};

async fn secure(certificate: &Certificate) -> Server {
    let (chain, key) = (certificate.chain.as_bytes(), certificate.key.as_bytes());
    let tls = TlsConfig::from_pem(chain, key).expect("they belong together");
    let server = Server::bind(Config::default().with_tls(tls)).await;
    server.expect("a free port")
}

/// Checks that the browser has refused a link for good.
fn check_refused(event: &str) {
    assert!(event.contains("NotAllowed"), "{event}");
    assert!(event.contains("SecurityError: "), "{event}");
}

async fn joins_over_wss_and_is_refused_ws_to_a_name(page: &Page, certificate: &Certificate) {
    let server = secure(certificate).await;
    let at = address(&server);
    let event = start_raw(page, &at, json!({})).await;
    assert!(event.starts_with(&at), "{event}");

    let named = "/dns4/star.example/tcp/80/ws/p2p-websocket-star";
    let peer = ed25519().public().to_peer_id();
    let dial = page.run(
        "await raw.dial(args[0]);",
        vec![json!(format!("{named}/p2p/{peer}"))],
    );
    check_refused(&dial.await.expect_err("it is refused"));
    let event = start_raw(page, named, json!({})).await;
    assert!(event.starts_with("closed: "), "{event}");
    check_refused(&event);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_over_https_joins_over_wss_and_is_refused_ws_to_a_name_for_good() {
    let certificate = Certificate::of_this_machine();
    let browser = Browser::start_secure(&certificate).await;
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        joins_over_wss_and_is_refused_ws_to_a_name(&page, &certificate).await;
        // A browser allows `ws` to loopback, because the traffic does not leave this machine.
        let server = embedded().await;
        let event = start_raw(&page, &address(&server), json!({})).await;
        assert!(event.starts_with(&address(&server)), "{event}");
        server.shutdown().await;
        page.close().await;
        let worker = browser.worker(sockets).await;
        joins_over_wss_and_is_refused_ws_to_a_name(&worker, &certificate).await;
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_browser_does_not_trust_is_a_link_that_cannot_be_opened() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = secure(&Certificate::of_this_machine()).await;
        let page = browser.page(sockets).await;
        let event = start_raw(&page, &address(&server), json!({})).await;
        assert!(event.starts_with("error: "), "{event}");
        assert!(
            event.contains("NotOpened { url: \"wss://127.0.0.1:"),
            "{event}"
        );
        page.close().await;
        server.shutdown().await;
    }
}
