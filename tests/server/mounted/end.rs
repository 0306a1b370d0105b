//! The end of a rendezvous that is mounted in an application. The application goes on.

use std::net::SocketAddr;

use libp2p_websocket_star::rendezvous::Config;
use tokio::io::AsyncReadExt as _;
use tokio_websockets::CloseCode;

use super::{get_path, joined, link_status, mounted};
use crate::{
    client::{Eio, dial, soon, stream_event},
    upgrade::{HEADERS, QUERY, request, send},
};

/// Checks that the rendezvous' routes refuse everything, and that the application still serves its own.
async fn only_the_application_serves(addr: SocketAddr) {
    let health = get_path(addr, "/health").await;
    assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
    assert!(health.contains(r#""status":"stopping""#), "{health}");
    assert_eq!(link_status(addr).await, 503);
    let hello = get_path(addr, "/hello").await;
    assert!(hello.starts_with("HTTP/1.1 200 "), "{hello}");
}

#[tokio::test]
async fn a_shutdown_tells_all_links_why_and_leaves_the_application_alone() {
    let (rendezvous, addr) = mounted(Config::default()).await;
    let mut dialer = joined(addr, Eio::V3).await;
    let mut listener = joined(addr, Eio::V3).await;
    dial(&mut dialer, &mut listener, "d").await;
    let shutdown = tokio::spawn(rendezvous.shutdown());
    let reason = "\"the rendezvous is shutting down\"";
    let mut cut = [listener.text().await, listener.text().await];
    cut.sort();
    let expected = ["d.dialer", "d.listener"].map(|stream| stream_event(reason, stream));
    assert_eq!(cut, expected);
    for mut client in [dialer, listener] {
        let (code, _) = client.closed().await.expect("a reason");
        assert_eq!(code, CloseCode::GOING_AWAY);
    }
    soon("the end", shutdown).await.expect("no panic");
    only_the_application_serves(addr).await;
}

#[tokio::test]
async fn a_shutdown_refuses_links_from_its_begin_on() {
    let (rendezvous, addr) = mounted(Config::default()).await;
    // This link does not answer the close, and so delays the end.
    let (_, mut lingering) = send(addr, request(QUERY, &HEADERS).as_bytes()).await;
    let shutdown = tokio::spawn(rendezvous.shutdown());
    soon("503", async { while link_status(addr).await != 503 {} }).await;
    only_the_application_serves(addr).await;
    let mut rest = Vec::new();
    let _ = soon("its end", lingering.read_to_end(&mut rest)).await;
    soon("the end", shutdown).await.expect("no panic");
}

#[tokio::test]
async fn a_rendezvous_that_is_dropped_is_gone_with_its_links() {
    let (rendezvous, addr) = mounted(Config::default()).await;
    let mut client = joined(addr, Eio::V3).await;
    drop(rendezvous);
    assert_eq!(client.closed().await, None);
    only_the_application_serves(addr).await;
}
