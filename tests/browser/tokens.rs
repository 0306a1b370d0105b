//! Tokens that a page shows to a rendezvous.

use libp2p_websocket_star::rendezvous::{Config, Server};
use serde_json::json;

use crate::{
    browser::{BOTH, Browser},
    support::{
        address,
        token::{OneToken, SECRET},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_its_token_to_the_rendezvous_and_to_nobody_else() {
    let browser = Browser::start().await;
    let config = Config::default().with_access(OneToken);
    let server = Server::bind(config).await.expect("a free port");
    let at = address(&server);
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        let started = page.start_with(&at, json!({ "token": SECRET })).await;
        started.expect("its token is the right one");
        page.close().await;
        for (options, expected) in [
            (json!({ "token": "wrong&token=x" }), "another token"),
            (json!({}), "no token"),
        ] {
            let page = browser.page(sockets).await;
            let refused = page.start_with(&at, options).await;
            let refused = refused.expect_err("it cannot join");
            assert!(refused.contains(expected), "{refused}");
            page.close().await;
        }
    }
    server.shutdown().await;
    for sockets in BOTH {
        let page = browser.page(sockets).await;
        let error = page.start_with(&at, json!({ "token": SECRET })).await;
        let error = error.expect_err("nobody is there");
        let expected = "the browser could not open ws://127.0.0.1";
        assert!(error.contains(expected), "{error}");
        for secret in [SECRET, "a%2Bvery%2Fsecret~token%3D%3D"] {
            assert!(!error.contains(secret), "{error}");
        }
        page.close().await;
    }
}
