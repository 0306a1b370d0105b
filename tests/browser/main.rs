//! Nodes in a real browser: Chromium without a window, controlled by its driver. Each test runs with and without
//! `WebSocketStream`, which other browsers do not have.

#[allow(dead_code, reason = "it has more than a native node uses")]
#[path = "page/src/behaviours.rs"]
mod behaviours;
mod browser;
mod certificate;
mod chromium;
mod ends;
mod life;
mod line;
mod meet;
mod native;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../swarm/node.rs"]
mod node;
mod page;
mod pressure;
mod secure;
#[path = "../../examples/browser/src/site.rs"]
mod site;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use browser::{BOTH, Browser, Page};
use serde_json::json;
use support::{
    address, embedded,
    js::{Rendezvous, RendezvousOptions},
    within,
};

/// Waits until one of the events of the page's node from index `since` on contains `word`. Returns the index after
/// that event.
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

/// Starts a raw node in the page, and returns the first event of its listener.
async fn start_raw(page: &Page, rendezvous: &str, options: serde_json::Value) -> String {
    let body = "globalThis.raw = star.Raw.start(args[0], args[1]); return await raw.event();";
    page.text(body, vec![json!(rendezvous), options]).await
}

/// Runs a test in a page with each kind of socket, at our rendezvous and at npm's.
async fn at_either_rendezvous(what: impl AsyncFn(&Page, &str)) {
    let browser = Browser::start().await;
    let npm = Rendezvous::start(RendezvousOptions::default()).await;
    for sockets in BOTH {
        let server = embedded().await;
        for rendezvous in [address(&server), npm.addr()] {
            let page = browser.page(sockets).await;
            what(&page, &rendezvous).await;
            page.close().await;
        }
        server.shutdown().await;
    }
}
