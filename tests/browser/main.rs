//! Nodes in a real browser: Chromium, without a window, told what to do by its driver. Each test is done with and without
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
#[path = "../it/support/mod.rs"]
mod support;

use browser::Page;
use serde_json::json;
use support::within;

/// Waits until the events of the page's node have `word` in one of them, from `since` on; gives how many there are then.
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

/// Starts a raw node in the page, and gives the first event of its listener.
async fn start_raw(page: &Page, rendezvous: &str, options: serde_json::Value) -> String {
    let body = "globalThis.raw = star.Raw.start(args[0], args[1]); return await raw.event();";
    page.text(body, vec![json!(rendezvous), options]).await
}
