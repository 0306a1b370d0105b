//! Joins that a rendezvous refuses, and joins that the client itself refuses to complete.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use libp2p::identity::Keypair;
use libp2p_websocket_star::{
    Config,
    error::{DialError, Error, JoinError},
    rendezvous::Server,
};
use serde_json::{Value, json};
use tokio_websockets::{ClientBuilder, Message};

use super::{dial_error, dialled, join_error, js_listen, listening, url};
use crate::support::{
    address, ed25519, embedded, hasty,
    js::{Peer, Rendezvous, RendezvousOptions},
    raw::{Raw, check_echo, echo},
    scripted::{Link, NONCE, Scripted},
    within,
};

/// The stage at which a server answers a join wrongly.
enum Wrong {
    /// The answer to the first `ss-join` is wrong.
    Challenge(Value),
    /// The answer to the signature is wrong.
    Proof(Value),
}

impl Wrong {
    async fn serve(&self, link: &mut Link) {
        let challenge = link.expect("ss-join").await;
        match self {
            Self::Challenge(answer) => link.answer(&challenge, answer.clone()).await,
            Self::Proof(answer) => {
                link.answer(&challenge, json!([null, NONCE])).await;
                let proof = link.expect("ss-join").await;
                link.answer(&proof, answer.clone()).await;
            }
        }
    }
}

#[tokio::test]
async fn what_trying_again_cannot_mend_closes_the_listener() {
    for (wrong, reason) in [
        (Wrong::Challenge as fn(Value) -> Wrong, "Invalid multiaddr"),
        (Wrong::Challenge, "Id is not matching"),
        (
            Wrong::Challenge,
            "Crypto Challenge required but no Id provided",
        ),
        (Wrong::Proof, "Signature Invalid"),
        (Wrong::Proof, "Crypto error"),
    ] {
        let (server, mut node) = listening(hasty()).await;
        let mut link = server.link().await;
        wrong(json!([reason])).serve(&mut link).await;
        let error = node.listener_closed().await;
        match join_error(error, &server.url(), reason) {
            JoinError::Refused(found) => assert_eq!(found, reason),
            other => panic!("{other:?}"),
        }
        assert!(link.until_gone().await.is_empty());
    }
}

#[tokio::test]
async fn a_public_key_that_is_taken_for_a_signature_is_tried_again_on_another_link() {
    let (server, mut node) = listening(hasty()).await;
    for reason in ["Signature Invalid", "Crypto error"] {
        let mut link = server.link().await;
        Wrong::Challenge(json!([reason])).serve(&mut link).await;
        let error = node.listener_error().await;
        let error = join_error(error, &server.url(), "earlier challenge");
        assert_eq!(error, JoinError::StaleChallenge);
        let after = link.until_gone().await;
        assert!(after.is_empty(), "{after:?}");
    }
    server.serve(&mut node).await;
}

#[tokio::test]
async fn a_dial_hears_of_a_stale_challenge_before_the_link_is_opened_anew() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    let challenge = link.expect("ss-join").await;
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    // This event is not the answer to the join. It gives the dial time to reach the link.
    let unknown = link.ask(json!(["ss-incomming", "d", "nobody"])).await;
    link.answered(unknown).await;
    link.answer(&challenge, json!(["Crypto error"])).await;
    match dial_error(dialled(dial).await, &server.url(), "earlier challenge") {
        DialError::Join(JoinError::StaleChallenge) => {}
        other => panic!("{other:?}"),
    }
    let error = node.listener_error().await;
    join_error(error, &server.url(), "earlier challenge");
    Wrong::Challenge(json!(["Crypto error"]))
        .serve(&mut link)
        .await;
    let error = node.listener_error().await;
    join_error(error, &server.url(), "earlier challenge");
    server.serve(&mut node).await;
}

#[tokio::test]
async fn an_error_that_lost_its_text_closes_the_listener() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    Wrong::Challenge(json!([{}])).serve(&mut link).await;
    match join_error(node.listener_closed().await, &server.url(), "{}") {
        JoinError::Refused(found) => assert_eq!(found, "{}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_listener_that_was_closed_can_be_started_again() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    Wrong::Proof(json!(["Signature Invalid"]))
        .serve(&mut link)
        .await;
    node.listener_closed().await;
    node.listen_on(&server.addr())
        .expect("not listening any more");
    server.serve(&mut node).await;
}

#[tokio::test]
async fn what_may_pass_is_tried_again_on_the_same_link() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    for reason in ["Try again later", "Not authorized for this address"] {
        Wrong::Challenge(json!([reason])).serve(&mut link).await;
        match join_error(node.listener_error().await, &server.url(), reason) {
            JoinError::Refused(found) => assert_eq!(found, reason),
            other => panic!("{other:?}"),
        }
    }
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_malformed_answer_to_a_join_is_tried_again() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    for wrong in [
        Wrong::Challenge(json!([null, 7])),
        Wrong::Challenge(json!([null, {}])),
        Wrong::Challenge(json!([null, [NONCE]])),
        Wrong::Challenge(json!([null, true])),
        Wrong::Challenge(json!([0, null, "peers"])),
        Wrong::Challenge(json!([null, null, 7])),
        Wrong::Challenge(json!([null, null, [7]])),
        Wrong::Challenge(json!([1, 2, 3, 4, 5, 6, 7, 8, 9])),
    ] {
        wrong.serve(&mut link).await;
        let error = node.listener_error().await;
        match join_error(error, &server.url(), "malformed answer to the join") {
            JoinError::Malformed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_malformed_answer_to_a_signature_is_tried_again() {
    let (server, mut node) = listening(hasty()).await;
    let mut link = server.link().await;
    for wrong in [
        Wrong::Proof(json!([null, NONCE])),
        Wrong::Proof(json!([null, 7])),
        Wrong::Proof(json!([null, null, {}])),
        Wrong::Proof(json!([null, null, [null]])),
    ] {
        wrong.serve(&mut link).await;
        match join_error(
            node.listener_error().await,
            &server.url(),
            "malformed answer to the join",
        ) {
            JoinError::Malformed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn a_join_that_is_not_answered_is_given_up_in_time_and_tried_again() {
    let timeout = Duration::from_secs(1);
    let (server, mut node) = listening(hasty().with_join_timeout(timeout)).await;
    let mut link = server.link().await;
    let timed_out = |error: Error| match join_error(error, &server.url(), "did not answer") {
        JoinError::TimedOut(found) => assert_eq!(found, timeout),
        other => panic!("{other:?}"),
    };

    let late = link.expect("ss-join").await;
    timed_out(node.listener_error().await);
    let again = link.expect("ss-join").await;
    // A late answer to one question must not count as the answer to the next.
    link.answer(&late, json!(["Signature Invalid"])).await;
    link.answer(&again, json!([null, NONCE])).await;
    link.expect("ss-join").await;
    timed_out(node.listener_error().await);
    futures::future::join(link.join(&[]), node.joined()).await;
    link.check(&mut node).await;
}

#[tokio::test]
async fn nothing_but_a_nonce_of_two_uuids_is_ever_signed() {
    let uuid = &NONCE[..36];
    for nonce in [
        String::new(),
        uuid.to_owned(),
        uuid.repeat(3),
        "x".repeat(72),
        "0".repeat(72),
        NONCE.replace('-', "0"),
        format!("{} ", &NONCE[..71]),
        format!("{NONCE}\n"),
        format!("{}é", &NONCE[..70]),
        format!("noise-libp2p-static-key:{}", "k".repeat(32)),
        format!("noise-libp2p-static-key:{}", "k".repeat(48)),
        format!("noise-libp2p-static-key:{NONCE}"),
        // UUIDs of versions 5 and 7, and one of version 8 beside one of version 4.
        NONCE.replace("-4", "-5"),
        NONCE.replace("-4", "-7"),
        NONCE.replacen("-4b", "-8b", 1),
    ] {
        let (server, mut node) = listening(hasty()).await;
        let mut link = server.link().await;
        Wrong::Challenge(json!([null, nonce]))
            .serve(&mut link)
            .await;
        let error = join_error(node.listener_closed().await, &server.url(), "two UUIDs");
        assert_eq!(error, JoinError::InvalidNonce);
        let after = link.until_gone().await;
        assert!(after.is_empty(), "{after:?}");
    }
}

/// Returns the answer of our rendezvous to the first `ss-join` of a client with that key.
async fn nonce_at(star: &Server, key: &Keypair) -> Value {
    let address = format!("{}/ipfs/{}", address(star), key.public().to_peer_id());
    let public = hex::encode(key.public().encode_protobuf());
    let url = format!(
        "ws://{}/socket.io/?EIO=3&transport=websocket",
        star.local_addr()
    );
    let builder = ClientBuilder::new().uri(&url).expect("a URI");
    let (mut link, _) = within("an upgrade", builder.connect())
        .await
        .expect("a link");
    let join = json!(["ss-join", address, public]);
    let message = Message::text(format!("420{join}"));
    link.send(message).await.expect("sent");
    within("a nonce", async {
        loop {
            let message = link.next().await.expect("open").expect("open");
            let text = message.as_text().expect("a text");
            if let Some(answer) = text.strip_prefix("430") {
                return serde_json::from_str::<Value>(answer).expect("JSON");
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_nonce_that_is_passed_on_from_another_rendezvous_is_not_signed() {
    let star = embedded().await;
    let rogue = Scripted::start().await;
    let key = ed25519();
    let mut node = Raw::with(&key, hasty());
    node.listen_on(&rogue.addr()).expect("a good address");
    let mut link = rogue.link().await;
    let passed_on = nonce_at(&star, &key).await;
    assert_eq!(passed_on[1].as_str().map(str::len), Some(72));
    Wrong::Challenge(passed_on).serve(&mut link).await;
    let error = node.listener_closed().await;
    let error = join_error(error, &rogue.url(), "for another address");
    assert_eq!(error, JoinError::ForeignNonce);
    let after = link.until_gone().await;
    assert!(after.is_empty(), "{after:?}");

    // The real rendezvous gets a signature.
    let (_, addr) = node.listen(&address(&star)).await;
    assert!(star.snapshot().peers[0].ends_with(&key.public().to_peer_id().to_string()));
    assert!(addr.to_string().starts_with(&address(&star)));
}

#[tokio::test]
async fn a_dial_does_not_sign_another_nonce_either() {
    let server = Scripted::start().await;
    let node = Raw::with(&ed25519(), hasty());
    let dial = tokio::spawn(node.start_dial(&server.somebody()));
    let mut link = server.link().await;
    Wrong::Challenge(json!([null, "noise-libp2p-static-key:"]))
        .serve(&mut link)
        .await;
    match dial_error(dialled(dial).await, &server.url(), "two UUIDs") {
        DialError::Join(JoinError::InvalidNonce) => {}
        other => panic!("{other:?}"),
    }
    let after = link.until_gone().await;
    assert!(after.iter().all(|call| call.name != "ss-join"), "{after:?}");
}

async fn without_challenge() -> Rendezvous {
    let options = RendezvousOptions {
        crypto_challenge: false,
        ..RendezvousOptions::default()
    };
    Rendezvous::start(options).await
}

#[tokio::test]
async fn a_rendezvous_with_its_challenge_off_is_refused() {
    let star = without_challenge().await;
    let mut node = Raw::new();
    node.listen_on(&star.addr()).expect("a good address");
    let error = node.listener_closed().await;
    let error = join_error(error, &url(&star), "allow_join_with_disabled_challenge");
    assert_eq!(error, JoinError::ChallengeDisabled);

    let js = Peer::start();
    let to = js_listen(&js, &star).await;
    match dial_error(node.try_dial(&to).await, &url(&star), "allow_join") {
        DialError::Join(JoinError::ChallengeDisabled) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rendezvous_with_its_challenge_off_works_where_that_is_allowed() {
    let star = without_challenge().await;
    let config = Config::default()
        .with_allow_local_rendezvous(true)
        .with_allow_join_with_disabled_challenge(true);
    let mut node = Raw::with(&ed25519(), config);
    let (_, own) = node.listen(&star.addr()).await;
    let js = Peer::start();
    let to = js_listen(&js, &star).await;
    check_echo(node.dial(&to).await, 100_000, 1000).await;
    let own = own.to_string().replace("/p2p/", "/ipfs/");
    let answer = async { echo(node.accept().await.0).await.expect("no reset") };
    futures::future::join(js.echo(&own, 100_000), answer).await;
}
