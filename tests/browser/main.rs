//! Nodes in a real browser: Chromium, without a window, told what to do by its driver. Each test is done with and without
//! `WebSocketStream`, which other browsers do not have.

#[path = "page/src/behaviours.rs"]
mod behaviours;
mod browser;
mod native;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../swarm/node.rs"]
mod node;
mod page;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../it/support/mod.rs"]
mod support;

use browser::{BOTH, Browser, Page, Sockets};
use libp2p_websocket_star::rendezvous::{Config, Server};
use support::{address, embedded, js, within};

/// What a page shows when the node in it could not be started.
async fn refused(browser: &Browser, sockets: Sockets, rendezvous: &str) -> String {
    let page = browser.page(sockets).await;
    let error = page.start(rendezvous).await;
    page.close().await;
    error.expect_err("it cannot join")
}

/// Waits until the page's events have `word` in one of them, from `since` on; gives how many there are then.
async fn until(page: &Page, since: usize, word: &str) -> usize {
    within(word, async {
        loop {
            let events = page.events().await;
            let found = events
                .iter()
                .skip(since)
                .position(|event| event.contains(word));
            if let Some(found) = found {
                return since + found + 1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_a_native_node_echo_16_mib_each_whoever_dials() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        let peer = page.start(&address(&server)).await.expect("it joins");
        let mut native = native::Node::join(&server).await;
        page.dial(&native.address).await.expect("it is there");
        page.echo(&native.peer.to_string(), 16 << 20)
            .await
            .expect("all came back");
        native.echo(&peer, 16 << 20).await;
        until(&page, 0, "agent_version").await;
        until(&page, 0, "result: Ok(").await;
        let mut other = native::Node::join(&server).await;
        other
            .dial(&format!("{}/p2p/{peer}", address(&server)))
            .await;
        other.echo(&peer, 16 << 20).await;
        page.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_finds_dials_and_is_dialled_by_another_one() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let (one, other) = (browser.page(sockets).await, browser.page(sockets).await);
        let at = address(&server);
        let peer = one.start(&at).await.expect("it joins");
        other.start(&at).await.expect("it joins");
        until(&one, 0, "Discovered").await;
        let dialled = other.dial(&format!("{at}/p2p/{peer}")).await;
        dialled.expect("it is there");
        other.echo(&peer, 1 << 20).await.expect("all came back");
        one.close().await;
        other.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_a_native_node_meet_at_the_npm_rendezvous() {
    let browser = Browser::start().await;
    let server = js::Rendezvous::start(js::RendezvousOptions::default()).await;
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        let peer = page.start(&server.addr()).await.expect("it joins");
        let mut native = native::Node::join_at(&server.addr()).await;
        page.dial(&native.address).await.expect("it is there");
        let echoed = page.echo(&native.peer.to_string(), 1 << 20).await;
        echoed.expect("all came back");
        native.echo(&peer, 1 << 20).await;
        page.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_of_a_lost_link_and_joins_again() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let (listened, at) = (server.local_addr(), address(&server));
        let page = browser.page(sockets).await;
        let peer = page.start(&at).await.expect("it joins");
        server.shutdown().await;
        let since = until(&page, 0, "ExpiredListenAddr").await;
        until(&page, since, "ListenerError").await;
        let config = Config::default().with_listen_addr(listened);
        let server = within("the port", async {
            loop {
                if let Ok(server) = Server::bind(config.clone()).await {
                    return server;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        until(&page, since, "NewListenAddr").await;
        let mut native = native::Node::join(&server).await;
        native.dial(&format!("{at}/p2p/{peer}")).await;
        native.echo(&peer, 1 << 20).await;
        page.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_joined_is_said_to_be_so() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let silent = silent.expect("a free port");
        let port = silent.local_addr().expect("bound").port();
        let at = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star");
        let error = refused(&browser, sockets, &at).await;
        assert!(error.contains("opening took longer than"), "{error}");
        drop(silent);
        let error = refused(&browser, sockets, &at).await;
        let expected = format!("the browser could not open ws://127.0.0.1:{port}/");
        assert!(error.contains(&expected), "{error}");
        let server = Server::bind(Config::default().with_challenge(false)).await;
        let server = server.expect("a free port");
        let error = refused(&browser, sockets, &address(&server)).await;
        assert!(error.contains("ChallengeDisabled"), "{error}");
        server.shutdown().await;
    }
}
