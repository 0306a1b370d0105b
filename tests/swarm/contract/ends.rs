//! The transport is dropped while its dials, joins or connections are in progress.

use futures::AsyncReadExt as _;

use super::{
    Echo, MANY, base, check, check_both, counts, node::ByHand, raw, settled, steps, tasks,
};
use crate::support::{embedded, within};

#[tokio::test]
async fn a_dial_goes_on_without_its_transport_from_any_step() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    for count in counts() {
        let mut node = raw();
        let mut dial = ByHand::new(node.dial(&echo.address));
        let early = dial.run(count).await;
        drop(node);
        let done = early.is_some();
        let dialled = match early {
            Some(dialled) => dialled,
            None => dial.run(MANY).await.expect("an answer"),
        };
        check(dialled.expect("dialled")).await;
        drop(dial);
        settled(&star, 1, before).await;
        if done {
            return star.shutdown().await;
        }
    }
}

#[tokio::test]
async fn connections_outlive_their_transport() {
    let star = embedded().await;
    let before = tasks();
    let (mut node, mut dialer) = (raw(), raw());
    let (_, address) = node.listen(&base(&star)).await;
    let theirs = dialer.dial(&address).await.expect("dialled");
    let (_, ours) = node.accept().await;
    drop(node);
    drop(dialer);
    check_both(theirs, ours).await;
    settled(&star, 0, before).await;
    star.shutdown().await;
}

#[tokio::test]
async fn a_transport_that_is_dropped_at_any_step_of_a_join_leaves_nothing() {
    let star = embedded().await;
    let before = tasks();
    for count in counts() {
        let mut node = raw();
        node.listen_on(&base(&star)).expect("a good address");
        let mut joined = false;
        for _ in 0..count {
            joined |= node.event_now().is_some();
            steps(1).await;
        }
        drop(node);
        settled(&star, 0, before).await;
        if joined {
            assert!(count > 4, "joined in {count} steps");
            return star.shutdown().await;
        }
    }
}

#[tokio::test]
async fn connections_that_nobody_took_are_reset_with_the_transport() {
    let star = embedded().await;
    let before = tasks();
    let (mut node, mut dialer) = (raw(), raw());
    let (_, address) = node.listen(&base(&star)).await;
    // These are more connections than the queue between the links and the transport holds.
    let mut theirs = Vec::new();
    for _ in 0..30 {
        theirs.push(dialer.dial(&address).await.expect("dialled"));
    }
    drop(node);
    for mut connection in theirs {
        let error = within("the reset", connection.read(&mut [0]))
            .await
            .expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    settled(&star, 0, before).await;
    star.shutdown().await;
}
