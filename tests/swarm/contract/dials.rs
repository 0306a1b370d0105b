//! A dial is an independent future. Dropping it at any point leaves nothing behind, neither in the node nor at the
//! rendezvous.

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_websocket_star::{
    Error,
    error::{DialError, LinkError},
};
use serde_json::json;
use tokio_websockets::Message;

use super::{
    Echo, base, check, check_both, counts,
    node::{ByHand, Node},
    order::Kind::{Closed, Incoming, NewAddress},
    raw, settled, steps, tasks, transport,
};
use crate::support::{
    ed25519, embedded,
    scripted::{self, Frame, Scripted},
    within,
};

#[tokio::test]
async fn a_dial_that_is_never_polled_does_nothing() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    let mut node = raw();
    let dials: Vec<_> = (0..3).map(|_| node.dial(&echo.address)).collect();
    assert!(node.event_now().is_none());
    steps(50).await;
    let now = star.snapshot();
    assert_eq!((tasks(), now.links, now.counters.dials), (before, 1, 0));
    drop(dials);
    steps(50).await;
    let now = star.snapshot();
    assert_eq!((tasks(), now.links, now.counters.dials), (before, 1, 0));
    star.shutdown().await;
}

/// The dial opens the link, joins, and dials.
#[tokio::test]
async fn a_dial_that_is_dropped_at_any_step_leaves_nothing() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    let mut node = raw();
    for count in counts() {
        let mut dial = ByHand::new(node.dial(&echo.address));
        let dialled = dial.run(count).await;
        drop(dial);
        let succeeded = dialled.is_some();
        if let Some(connection) = dialled {
            check(connection.expect("dialled")).await;
        }
        settled(&star, 1, before).await;
        assert!(node.event_now().is_none());
        if succeeded {
            // The steps go from the TCP connection to the peer's answer.
            assert!(count > 5, "all in {count} steps");
            // Some dials were dropped before the rendezvous had received them, and some later.
            assert!((2..count as u64).contains(&star.snapshot().counters.dials));
            return star.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_dial_that_is_dropped_at_any_step_leaves_the_link_to_its_other_users() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let mut node = raw();
    let (id, address) = node.listen(&base(&star)).await;
    let other = node.dial(&echo.address).await.expect("dialled");
    let before = tasks();
    for count in counts() {
        let mut dial = ByHand::new(node.dial(&echo.address));
        let dialled = dial.run(count).await;
        let succeeded = dialled.is_some();
        drop((dialled, dial));
        super::until("the dial to be forgotten", || {
            star.snapshot().dials == 1 && tasks() <= before
        })
        .await;
        check(node.dial(&echo.address).await.expect("dialled")).await;
        if succeeded {
            assert!(count > 1, "all in {count} steps");
            break;
        }
    }
    check(other).await;
    let connection = raw().dial(&address).await.expect("dialled");
    check_both(connection, node.accept().await.1).await;
    // The link was never lost.
    assert_eq!(node.events_of(id), [NewAddress, Incoming]);
    star.shutdown().await;
}

/// The name of a listener's rendezvous must be looked up first, on another thread: the dial may mean the same
/// rendezvous.
#[tokio::test]
async fn a_dial_that_is_dropped_at_any_poll_leaves_nothing() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let before = tasks();
    let named: Multiaddr = base(&star)
        .replace(0, |_| Some(Protocol::Dns4("localhost".into())))
        .expect("a first part");
    for count in counts() {
        let mut node = raw();
        let id = node.listen_on(&named).expect("a good address");
        // The link's task looks the name up only after the dial has been polled.
        assert!(node.event_now().is_none());
        let mut dial = ByHand::new(node.dial(&echo.address));
        let dialled = node.during(dial.polls(count)).await;
        drop(dial);
        let succeeded = dialled.is_some();
        if let Some(connection) = dialled {
            check(connection.expect("dialled")).await;
        }
        if count > 0 {
            assert!(node.event().await.is_new_address());
        }
        assert!(node.remove(id));
        settled(&star, 1, before).await;
        if succeeded {
            assert!(count > 1, "all in {count} polls");
            return star.shutdown().await;
        }
    }
}

/// Each dial is dropped at its own stage: not connected, not upgraded, not open, not joined, not answered.
#[tokio::test]
async fn a_dial_that_is_dropped_while_the_rendezvous_is_silent_closes_the_link() {
    let star = Scripted::start().await;
    let before = tasks();
    let mut node = raw();
    let to: Multiaddr = star.somebody().parse().expect("a multiaddr");
    for stage in 0..6 {
        let mut dial = Box::pin(node.dial(&to));
        assert!((&mut dial).now_or_never().is_none());
        if stage == 0 {
            let tcp = star.tcp().await;
            drop(dial);
            super::until("the link's task to end", || tasks() == before).await;
            drop(tcp);
            continue;
        }
        let mut link = star.upgraded().await;
        if stage > 1 {
            link.text(scripted::OPEN).await;
            link.text("40").await;
        }
        match stage {
            3 => drop(link.expect("ss-join").await),
            4 => drop(link.join(&[]).await),
            5 => {
                link.join(&[]).await;
                link.expect("ss-dial").await;
            }
            _ => {}
        }
        assert!((&mut dial).now_or_never().is_none());
        drop(dial);
        let calls = link.until_gone().await;
        assert!(
            calls.iter().all(|call| call.name != "ss-dial") || stage == 4,
            "{calls:?}"
        );
        drop(link);
        super::until("the link's task to end", || tasks() == before).await;
    }
    assert!(node.event_now().is_none());
}

#[tokio::test]
async fn dials_work_while_nobody_polls_the_transport() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let mut node = raw();
    // A dial does not need the listener, which has not even started.
    let id = node.listen_on(&base(&star)).expect("a good address");
    for _ in 0..3 {
        check(node.dial(&echo.address).await.expect("dialled")).await;
    }
    // Dials at the same time share a link.
    let dials = (0..5).map(|_| node.dial(&echo.address));
    let connections = futures::future::join_all(dials).await;
    assert_eq!(star.snapshot().links, 2);
    futures::future::join_all(connections.into_iter().map(|c| check(c.expect("dialled")))).await;
    assert_eq!(node.events_of(id), []);
    assert!(node.event().await.is_new_address());
    star.shutdown().await;
}

#[tokio::test]
async fn connections_that_come_while_nobody_polls_the_transport_wait_in_their_order() {
    const COUNT: usize = 40;
    let star = embedded().await;
    let key = ed25519();
    let mut node = Node::new(transport(&key));
    let (id, address) = node.listen(&base(&star)).await;
    let mut dialers: Vec<_> = (0..COUNT).map(|_| raw()).collect();
    let mut theirs = Vec::new();
    // These are more connections than the queue between the links and the transport holds.
    for dialer in &mut dialers {
        theirs.push(dialer.dial(&address).await.expect("dialled"));
    }
    for connection in theirs {
        let (by, ours) = node.accept().await;
        assert_eq!(by, id);
        check_both(connection, ours).await;
    }
    assert!(node.event_now().is_none());
    star.shutdown().await;
}

#[tokio::test]
async fn a_dial_that_fails_leaves_nothing_and_its_error_comes_to_it_alone() {
    let star = embedded().await;
    let before = tasks();
    let mut node = raw();
    let nobody = base(&star)
        .with_p2p(ed25519().public().to_peer_id())
        .expect("no peer yet");
    match node.dial(&nobody).await {
        Err(Error::Dial {
            error: DialError::PeerNotFound,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    settled(&star, 0, before).await;
    star.shutdown().await;
    match node.dial(&nobody).await {
        Err(Error::Link {
            error: LinkError::Connect(_),
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    assert!(node.event_now().is_none());
    super::until("the link's task to end", || tasks() < before).await;
}

/// The rendezvous sends the dial and its end at once.
#[tokio::test]
async fn a_dial_to_us_that_is_over_before_we_answer_ends_its_connection() {
    let star = Scripted::start().await;
    let mut node = raw();
    let id = node
        .listen_on(&star.addr().parse().expect("a multiaddr"))
        .expect("a good address");
    let mut link = node.during(star.joined()).await;
    assert!(node.event().await.is_new_address());
    for (number, dialer_is_first) in [(0, true), (1, false)] {
        let dial = format!("over-{number}");
        let incoming = json!(["ss-incomming", dial, star.somebody()]);
        assert!(
            link.feed(Message::text(format!("42{number}{incoming}")))
                .await
        );
        let mut ends = [format!("{dial}.dialer"), format!("{dial}.listener")];
        if !dialer_is_first {
            ends.reverse();
        }
        for stream in &ends {
            let end = json!([scripted::error(stream), true]);
            assert!(link.feed(Message::text(format!("42{end}"))).await);
        }
        // A heartbeat is answered after everything that was sent before it.
        link.text("2").await;
        let answered = async { while !matches!(link.next().await, Frame::Pong(_)) {} };
        node.during(answered).await;
        let (by, mut connection) = node.accept().await;
        assert_eq!(by, id);
        let mut heard = Vec::new();
        let read = within("the end", connection.read_to_end(&mut heard)).await;
        assert_eq!((read.ok(), heard), (Some(0), vec![]));
        let written = async {
            connection.write_all(b"anybody there?").await?;
            connection.flush().await
        };
        let error = within("the reset", written).await.expect_err("nobody is");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    // None of these connections keeps the link open.
    assert!(node.remove(id));
    node.during(link.until_gone()).await;
    assert_eq!(node.events_of(id), [NewAddress, Incoming, Incoming, Closed]);
}
