//! Which nodes meet, and through which rendezvous.

use futures::join;
use serde_json::json;

use crate::{
    at_either_rendezvous,
    browser::{BOTH, Browser, Page},
    native, start_raw,
    support::{
        address, embedded,
        js::{Peer, Rendezvous, RendezvousOptions, wire},
        libp2p_js::JsNode,
    },
    until,
};

const MIB: usize = 1 << 20;

/// Has the page and native nodes dial each other. Each echoes what the other sends.
async fn exchange_with_a_native_node(page: &Page, rendezvous: &str, bytes: usize) {
    let peer = page.start(rendezvous).await.expect("it joins");
    let mut native = native::Node::join_at(rendezvous).await;
    page.dial(&native.address).await.expect("it is there");
    let echoed = page.echo(&native.peer.to_string(), bytes).await;
    echoed.expect("all came back");
    native.echo(&peer, bytes).await;
    until(page, 0, "agent_version").await;
    until(page, 0, "result: Ok(").await;
    let mut other = native::Node::join_at(rendezvous).await;
    other.dial(&format!("{rendezvous}/p2p/{peer}")).await;
    other.echo(&peer, bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_a_native_node_echo_16_mib_each_whoever_dials() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let page = browser.page(sockets).await;
        exchange_with_a_native_node(&page, &address(&server), 16 * MIB).await;
        page.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_what_a_page_does() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let worker = browser.worker(sockets).await;
        let has_page = worker.run("return typeof document !== 'undefined';", vec![]);
        assert_eq!(has_page.await, Ok(json!(false)));
        exchange_with_a_native_node(&worker, &address(&server), 16 * MIB).await;
        worker.close().await;
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
        other.echo(&peer, MIB).await.expect("all came back");
        one.close().await;
        other.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_one_browser_echo_16_mib_though_one_is_hidden() {
    let browser = Browser::start().await;
    for sockets in BOTH {
        let server = embedded().await;
        let mut hidden = browser.page(sockets).await;
        let at = address(&server);
        let peer = hidden.start(&at).await.expect("it joins");
        let front = hidden.hide_behind("index.html").await;
        front.start(&at).await.expect("it joins");
        let dialled = front.dial(&format!("{at}/p2p/{peer}")).await;
        dialled.expect("it is there");
        front.echo(&peer, 16 * MIB).await.expect("all came back");
        front.close().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_a_native_node_meet_at_the_npm_rendezvous() {
    let browser = Browser::start().await;
    let server = Rendezvous::start(RendezvousOptions::default()).await;
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        exchange_with_a_native_node(&page, &server.addr(), MIB).await;
        page.close().await;
    }
}

/// Exchanges echoes in both directions without an upgrade.
async fn exchange_with_an_npm_client(page: &Page, rendezvous: &str) {
    let js = Peer::start();
    let theirs = js.listen(rendezvous).await;
    js.mode("echo", json!({})).await;
    let ours = start_raw(page, rendezvous, json!({})).await;
    let dial = "const dialled = await raw.dial(args[0]);
         const write = dialled.write(args[1]).then(() => dialled.end());
         const read = await dialled.read(args[1] + 1);
         await write;
         return read;";
    let bytes = 16 * MIB;
    let read = page.number(dial, vec![json!(theirs), json!(bytes)]).await;
    assert_eq!(read, bytes as f64);
    let answer = "const accepted = await raw.accept(); await accepted.echo();";
    let ours = wire(&ours);
    let (answered, ()) = join!(page.run(answer, vec![]), js.echo(&ours, bytes as u64));
    answered.expect("all was sent back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_an_npm_client_echo_16_mib_each_through_either_rendezvous() {
    at_either_rendezvous(exchange_with_an_npm_client).await;
}

/// Exchanges echoes in both directions with secio and mplex.
async fn exchange_with_js_libp2p(page: &Page, rendezvous: &str, key: &str) {
    let js = JsNode::start(rendezvous, json!({ "keyType": key })).await;
    let peer = page.start(rendezvous).await.expect("it joins");
    page.dial(&js.addr).await.expect("it is there");
    page.echo(&js.peer, MIB).await.expect("all came back");
    let to = wire(format!("{rendezvous}/p2p/{peer}"));
    let echo = json!({ "cmd": "echo", "to": to, "bytes": MIB });
    js.run(echo, "echoed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_and_a_js_libp2p_node_echo_with_secio_and_mplex() {
    let browser = Browser::start().await;
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    for sockets in BOTH {
        let server = embedded().await;
        for (rendezvous, key) in [
            (address(&server), "rsa"),
            (npm.addr(), "rsa"),
            (address(&server), "ed25519"),
            (address(&server), "secp256k1"),
        ] {
            let page = browser.page(sockets).await;
            exchange_with_js_libp2p(&page, &rendezvous, key).await;
            page.close().await;
        }
        server.shutdown().await;
    }
}
