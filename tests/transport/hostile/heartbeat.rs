//! Heartbeats at odd intervals, and heartbeats that are not answered.

use std::time::Duration;

use libp2p_websocket_star::error::LinkError;

use super::{listening, loss};
use crate::support::{
    hasty,
    raw::Raw,
    scripted::{Frame, Link, Scripted},
};

/// Returns the next link after its join. The server's open packet has this ping interval and timeout.
async fn joined(server: &Scripted, node: &mut Raw, interval: &str, timeout: &str) -> Link {
    let open = format!(
        r#"0{{"sid":"a","upgrades":[],"pingInterval":{interval},"pingTimeout":{timeout}}}"#
    );
    let mut link = server.opened(&open).await;
    futures::future::join(link.join(&[]), node.joined()).await;
    link
}

async fn heartbeats(link: &mut Link, count: usize) {
    for _ in 0..count {
        match link.next().await {
            Frame::Heartbeat => {}
            other => panic!("no heartbeat: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_never_answers_a_heartbeat_is_lost() {
    let (server, mut node) = listening(hasty()).await;
    let _link = joined(&server, &mut node, "50", "200").await;
    match loss(&server, &mut node).await {
        LinkError::Heartbeat(timeout) => assert_eq!(timeout, Duration::from_millis(200)),
        other => panic!("{other}"),
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn anything_that_comes_is_a_sign_of_life() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = joined(&server, &mut node, "50", "1000").await;
    link.pong = "6";
    heartbeats(&mut link, 30).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn an_interval_of_nothing_does_not_spin() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = joined(&server, &mut node, "0", "20000").await;
    heartbeats(&mut link, 3).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn an_interval_of_ages_does_no_harm() {
    let (server, mut node) = listening(hasty()).await;
    let ages = u64::MAX.to_string();
    let mut link = joined(&server, &mut node, &ages, &ages).await;
    link.check(&mut node).await;
}
