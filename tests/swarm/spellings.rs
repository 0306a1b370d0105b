//! Dials to peers that the rendezvous does not find under one spelling, while it announces another one.

use std::time::{Duration, Instant};

use libp2p_websocket_star::{Config, Error, error::DialError};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{
    ed25519,
    raw::Raw,
    scripted::{Call, Link, Scripted},
    within,
};

const TIMEOUT: Duration = Duration::from_secs(3);

type Dial = JoinHandle<Result<libp2p_websocket_star::Connection, Error>>;

/// Starts a dial, and waits until its first spelling is asked for.
async fn dialling(star: &Scripted, to: &str) -> (Link, Call, Dial) {
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_dial_timeout(TIMEOUT);
    let node = Raw::with(&ed25519(), config);
    let dial = tokio::spawn(node.start_dial(to));
    let mut link = star.link().await;
    link.join(&[]).await;
    let call = link.expect("ss-dial").await;
    (link, call, dial)
}

/// Announces another spelling of `to`, with that many zeros before the port, and answers that the last spelling is
/// not known.
async fn not_found(link: &mut Link, call: &Call, to: &str, port: u16, zeros: usize) {
    let number = format!("/tcp/{}{port}/", "0".repeat(zeros));
    let spelling = to.replace(&format!("/tcp/{port}/"), &number);
    link.event(json!(["ws-peer", spelling])).await;
    link.answer(call, json!(["Peer not found"])).await;
}

#[tokio::test]
async fn a_rendezvous_that_always_tells_another_spelling_is_asked_eight_times() {
    let star = Scripted::start().await;
    let to = star.somebody();
    let (mut link, mut call, dial) = dialling(&star, &to).await;
    for zeros in 1..8 {
        not_found(&mut link, &call, &to, star.port(), zeros).await;
        call = link.expect("ss-dial").await;
        let number = format!("/tcp/{}{}/", "0".repeat(zeros), star.port());
        assert!(call.arg(1).contains(&number), "{}", call.arg(1));
    }
    not_found(&mut link, &call, &to, star.port(), 8).await;
    let error = within("the end", dial).await.expect("no panic").err();
    let found = matches!(
        error,
        Some(Error::Dial {
            error: DialError::PeerNotFound,
            ..
        })
    );
    assert!(found, "{error:?}");
}

#[tokio::test]
async fn another_spelling_does_not_prolong_a_dial() {
    let star = Scripted::start().await;
    let to = star.somebody();
    let (mut link, call, dial) = dialling(&star, &to).await;
    let began = Instant::now();
    // The rendezvous answers late.
    tokio::time::sleep(TIMEOUT / 2).await;
    not_found(&mut link, &call, &to, star.port(), 1).await;
    link.expect("ss-dial").await;
    let error = within("the end", dial).await.expect("no panic").err();
    let took = began.elapsed();
    let timed_out = matches!(
        error,
        Some(Error::Dial {
            error: DialError::TimedOut(_),
            ..
        })
    );
    assert!(timed_out, "{error:?}");
    assert!(took < TIMEOUT * 5 / 4, "{took:?}");
}
