//! Wakes: an event wakes the task that polled last, and no other task.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use libp2p::core::{Transport, transport::TransportEvent};
use libp2p_websocket_star::WebSocketStarTransport;

use super::{
    Echo, base, check_both,
    node::{Event, Node},
    raw, until,
};
use crate::support::{counter::Counter, ed25519, embedded, within};

struct Watch {
    first: Arc<Counter>,
    second: Arc<Counter>,
}

impl Watch {
    /// Has two tasks poll a node that has no event.
    fn on<T: Transport + Unpin>(node: &mut Node<T>) -> Self
    where
        T::Error: std::fmt::Debug,
    {
        let watch = Self {
            first: Arc::default(),
            second: Arc::default(),
        };
        for counter in [&watch.first, &watch.second] {
            let waker = Waker::from(counter.clone());
            assert!(node.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!((watch.first.wakes(), watch.second.wakes()), (0, 0));
        watch
    }

    /// Waits for the wake, and returns the event that caused it.
    async fn woken<T: Transport + Unpin>(self, node: &mut Node<T>, what: &str) -> Event<T>
    where
        T::Error: std::fmt::Debug,
    {
        until(what, || self.second.wakes() > 0).await;
        assert_eq!(self.first.wakes(), 0, "{what} woke who polled earlier");
        // Once the tasks that caused the wake have finished, there is an event.
        node.event_now().unwrap_or_else(|| panic!("no {what}"))
    }
}

#[tokio::test]
async fn every_event_wakes_who_polled_last() {
    let star = embedded().await;
    let mut node = raw();

    let watch = Watch::on(&mut node);
    let id = node.listen_on(&base(&star)).expect("a good address");
    // It is woken at once, without waiting for anything else.
    assert_eq!((watch.first.wakes(), watch.second.wakes()), (0, 1));
    assert!(node.event_now().is_none());

    let watch = Watch::on(&mut node);
    let event = watch.woken(&mut node, "new address").await;
    let TransportEvent::NewAddress { listen_addr, .. } = event else {
        panic!("{event:?}")
    };

    let watch = Watch::on(&mut node);
    let theirs = raw().dial(&listen_addr).await.expect("dialled");
    let event = watch.woken(&mut node, "connection").await;
    let TransportEvent::Incoming { upgrade, .. } = event else {
        panic!("{event:?}")
    };
    check_both(theirs, upgrade.await.expect("accepted")).await;

    let watch = Watch::on(&mut node);
    assert!(node.remove(id));
    assert_eq!((watch.first.wakes(), watch.second.wakes()), (0, 1));
    let event = watch.woken(&mut node, "end").await;
    assert!(
        matches!(event, TransportEvent::ListenerClosed { .. }),
        "{event:?}"
    );

    node.listen(&base(&star)).await;
    let watch = Watch::on(&mut node);
    star.shutdown().await;
    let event = watch.woken(&mut node, "expiry").await;
    assert!(event.is_address_expired(), "{event:?}");
    assert!(node.event().await.is_listener_error());
}

#[tokio::test]
async fn a_dial_wakes_who_polled_it_last() {
    let star = embedded().await;
    let echo = Echo::at(&star).await;
    let mut dial = raw().dial(&echo.address);
    let (first, second) = (Arc::<Counter>::default(), Arc::<Counter>::default());
    for counter in [&first, &second] {
        let waker = Waker::from(counter.clone());
        assert!(
            dial.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    until("the dial to be woken", || second.wakes() > 0).await;
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    let waker = Waker::from(second.clone());
    let Poll::Ready(dialled) = dial.as_mut().poll(&mut Context::from_waker(&waker)) else {
        panic!("woken for nothing")
    };
    super::check(dialled.expect("dialled")).await;
    star.shutdown().await;
}

/// These tasks run on threads of their own: one task polls and is aborted while it waits, and the next one continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_survives_the_task_that_polled_it() {
    let star = embedded().await;
    let node = Arc::new(Mutex::new(Node::<WebSocketStarTransport>::new(
        super::transport(&ed25519()),
    )));
    let lock = |node: &Mutex<Node<WebSocketStarTransport>>, cx: &mut Context<'_>| {
        node.lock().expect("no panic").poll(cx)
    };
    node.lock()
        .expect("no panic")
        .listen_on(&base(&star))
        .expect("a good address");
    for round in 0..5 {
        let polled = node.clone();
        let (report, reported) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut report = Some(report);
            poll_fn(|cx| {
                let event = lock(&polled, cx);
                if let Some(report) = report.take() {
                    // The test may have ended.
                    let _ = report.send(event.is_pending());
                }
                event
            })
            .await
        });
        let waits = within("the poll", reported).await.expect("polled");
        if round == 0 {
            // The first task stays until there is an address.
            let event = within("the join", task).await.expect("no panic");
            assert!(event.is_new_address(), "{event:?}");
            continue;
        }
        assert!(waits);
        task.abort();
        assert!(task.await.expect_err("ended").is_cancelled());
    }
    let address = star.snapshot().peers[0].parse().expect("a multiaddr");
    let polled = node.clone();
    let accepts = tokio::spawn(poll_fn(move |cx| lock(&polled, cx)));
    let theirs = raw().dial(&address).await.expect("dialled");
    match within("the connection", accepts).await.expect("no panic") {
        TransportEvent::Incoming { upgrade, .. } => {
            check_both(theirs, upgrade.await.expect("accepted")).await;
        }
        other => panic!("{other:?}"),
    }
    star.shutdown().await;
}
