//! Text from a rogue server is shown in one line, with control characters escaped.

use futures::AsyncReadExt as _;
use libp2p::core::transport::TransportEvent;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_websockets::{CloseCode, Message};

use super::{linked, listening};
use crate::support::{hasty, raw::Raw, within};

const ROGUE: &str = "no\r\n\u{1b}[2J 2031-01-01 INFO forged \u{202e}\u{7}";

/// Returns the next error of a listener as text.
async fn shown(node: &mut Raw) -> String {
    loop {
        match node.event().await {
            TransportEvent::ListenerError { error, .. } => return error.to_string(),
            TransportEvent::ListenerClosed { reason, .. } => {
                return reason.expect_err("refused").to_string();
            }
            _ => {}
        }
    }
}

fn assert_tame(shown: &str) {
    assert!(shown.contains("INFO forged"), "{shown:?}");
    let is_tame = |c: char| !c.is_control() && c != '\u{202e}';
    assert!(shown.chars().all(is_tame), "{shown:?}");
}

#[tokio::test]
async fn an_http_refusal_with_escapes_is_shown_without() {
    let (server, mut node) = listening(hasty()).await;
    for rogue in [ROGUE.replace("\r\n", "\r"), ROGUE.replace("\r\n", "\u{b}")] {
        let mut tcp = server.tcp().await;
        let answer = format!("HTTP/1.1 503 Unavailable\r\n\r\n{rogue}");
        tcp.write_all(answer.as_bytes()).await.expect("taken");
        assert_tame(&shown(&mut node).await);
    }
}

#[tokio::test]
async fn the_reasons_of_closes_and_packets_are_shown_without_escapes() {
    let (server, mut node) = listening(hasty()).await;
    for message in [
        Message::close(Some(CloseCode::GOING_AWAY), ROGUE),
        Message::text(format!("x{ROGUE}")),
        Message::text(format!("40{ROGUE}")),
        Message::text(format!("0{{\"{ROGUE}\":1}}")),
    ] {
        let mut link = server.upgraded().await;
        link.try_send(message.clone()).await;
        let shown = shown(&mut node).await;
        let is_tame = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(shown.chars().all(is_tame), "{shown:?}");
        if message.is_close() {
            assert_tame(&shown);
        }
    }
}

#[tokio::test]
async fn the_reasons_of_refusals_and_resets_are_shown_without_escapes() {
    let (server, mut node, mut link) = linked(hasty()).await;
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let call = link.expect("ss-dial").await;
    link.answer(&call, json!([ROGUE])).await;
    let refused = within("the dial", dial).await.expect("no panic");
    assert_tame(&refused.expect_err("refused").to_string());

    let (_, (mut connection, _)) = futures::future::join(link.dial("a"), node.accept()).await;
    link.end("a.dialer", json!(ROGUE)).await;
    let reset = within("the reset", connection.read(&mut [0; 8])).await;
    assert_tame(&reset.expect_err("reset").to_string());

    drop(link);
    let mut link = server.link().await;
    let call = link.expect("ss-join").await;
    link.answer(&call, json!([ROGUE])).await;
    node.event().await;
    let lost = shown(&mut node).await;
    assert!(!lost.contains("forged"), "{lost}");
    assert_tame(&shown(&mut node).await);
}
