use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::*;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the counters of a stream.
fn counted() -> OpenStream {
    Arc::<crate::metrics::Counts>::default()
        .open_link("ws://a".into())
        .open_stream()
}

/// Returns a closed channel with data, all of which the link has taken, and the wakes of its tasks.
fn closing() -> (Arc<Channel>, Arc<Wakes>) {
    let budgets = Budgets {
        receive: 1000,
        send: 1000,
        item: 100,
    };
    let channel = Channel::new(
        DialId::random(),
        Side::Dialer,
        budgets,
        Arc::default(),
        counted(),
    );
    let wakes = Arc::new(Wakes::default());
    channel.accepted(None);
    assert!(poll(&wakes, |cx| channel.poll_write(cx, b"data")).is_ready());
    assert!(poll(&wakes, |cx| channel.poll_close(cx)).is_pending());
    let transmit = || Some(channel.transmit(Turn::default())?.what);
    assert!(matches!(transmit(), Some(Transmit::Item(_))));
    assert_eq!(transmit(), Some(Transmit::End(End::Finished)));
    assert_eq!(transmit(), None);
    (channel, wakes)
}

fn poll<T>(wakes: &Arc<Wakes>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
    poll(&mut Context::from_waker(&wakes.clone().into()))
}

#[test]
fn a_close_is_over_when_the_socket_has_the_end_and_wakes_no_more_than_needed() {
    let (channel, wakes) = closing();
    let woken = wakes.0.load(Ordering::Relaxed);
    assert!(woken <= 1, "once by the item, which gives room: {woken}");
    assert!(poll(&wakes, |cx| channel.poll_close(cx)).is_pending());
    channel.flushed();
    assert_eq!(wakes.0.load(Ordering::Relaxed), woken + 1);
    for _ in 0..2 {
        let closed = poll(&wakes, |cx| channel.poll_close(cx));
        assert_eq!(closed, Poll::Ready(Ok(())));
    }
    // A link that is lost later does not undo the close.
    channel.reset(StreamError::LinkLost);
    let closed = poll(&wakes, |cx| channel.poll_close(cx));
    assert_eq!(closed, Poll::Ready(Ok(())));
}

#[test]
fn a_close_fails_when_the_link_is_lost_before_the_socket_has_the_end() {
    let (channel, wakes) = closing();
    channel.reset(StreamError::LinkLost);
    assert!(wakes.0.load(Ordering::Relaxed) > 0);
    for _ in 0..2 {
        let closed = poll(&wakes, |cx| channel.poll_close(cx));
        assert_eq!(closed, Poll::Ready(Err(StreamError::LinkLost)));
    }
}

/// Returns a channel whose peer knows credits.
fn opened(ready: &Arc<Ready<Channel>>) -> Arc<Channel> {
    let budgets = Budgets {
        receive: 1000,
        send: 1000,
        item: 100,
    };
    let channel = Channel::new(
        DialId::random(),
        Side::Dialer,
        budgets,
        ready.clone(),
        counted(),
    );
    channel.accepted(Some(Grant::FIRST));
    channel
}

/// Returns such a channel with unread data and a further grant.
fn busy(ready: &Arc<Ready<Channel>>, pledges: &mut Pledges) -> Arc<Channel> {
    let channel = opened(ready);
    let item = Bytes::from_static(&[0; 9000]);
    assert_eq!(channel.deliver(Instant::now(), item), Ok(()));
    let grant = channel.poll_grant(Instant::now(), pledges, u64::MAX);
    assert_eq!(grant, None, "the stream is not accepted yet");
    channel.accepting();
    let grant = channel.poll_grant(Instant::now(), pledges, u64::MAX);
    assert!(grant.is_some_and(|grant| grant.credit > 0));
    channel
}

#[test]
fn what_was_pledged_on_a_lost_link_is_free_once() {
    let ready = Arc::<Ready<Channel>>::default();
    let mut lost = Pledges::default();
    let channel = busy(&ready, &mut lost);
    let share = lock(&channel.state).share;
    assert_ne!(share, Share::default());
    channel.reset(StreamError::LinkLost);
    channel.forgotten(&mut lost);
    // The channel was in the ready, and the next link asks it for grants.
    let mut next = Pledges::default();
    assert_eq!(
        channel.poll_grant(Instant::now(), &mut next, u64::MAX),
        None
    );
    assert_eq!((lost.link(), next.link()), (0, 0));
}

#[test]
fn a_grant_that_was_not_to_be_had_is_asked_for_again() {
    let ready = Arc::<Ready<Channel>>::default();
    let mut pledges = Pledges::default();
    let channel = busy(&ready, &mut pledges);
    let item = Bytes::from_static(&[0; 12_000]);
    assert_eq!(channel.deliver(Instant::now(), item), Ok(()));
    let mut asked = VecDeque::new();
    ready.take(drop, &mut asked);
    assert_eq!(
        channel.poll_grant(Instant::now(), &mut pledges, FIRST),
        None
    );
    asked.clear();
    ready.take(drop, &mut asked);
    assert_eq!(asked.len(), 0);
    assert_eq!(channel.give_back(Instant::now(), &mut pledges), 0);
    ready.take(drop, &mut asked);
    assert_eq!(asked.len(), 1);
    let grant = channel.poll_grant(Instant::now(), &mut pledges, u64::MAX);
    assert!(grant.is_some());
}

/// Others wait for the credit that this peer keeps.
#[test]
fn a_peer_that_keeps_credit_for_nothing_loses_its_connection() {
    let (ready, wakes) = (Arc::<Ready<Channel>>::default(), Arc::new(Wakes::default()));
    let mut channels = Channels::default();
    let channel = opened(&ready);
    channel.accepting();
    channels.insert(channel.clone());
    for _ in 0..50 {
        let _ = poll(&wakes, |cx| channel.poll_read(cx, &mut [0; 100_000]));
        let item = Bytes::from_static(&[0; 9000]);
        assert_eq!(channel.deliver(Instant::now(), item), Ok(()));
        channels.take_ready(&ready);
        while channels.poll_grant(Instant::now(), u64::MAX).is_some() {}
    }
    assert!(lock(&channel.state).pair.source.kept().is_some());
    for _ in 0..10 {
        channels.give_back(Instant::now(), Some(10));
    }
    // The peer uses some credit, so its time starts again.
    let item = Bytes::from_static(&[0; 16_384]);
    assert_eq!(channel.deliver(Instant::now(), item), Ok(()));
    for _ in 0..10 {
        channels.give_back(Instant::now(), Some(10));
    }
    let read = poll(&wakes, |cx| channel.poll_read(cx, &mut [0; 100_000]));
    assert!(matches!(read, Poll::Ready(Ok(_))), "{read:?}");
    // Using a little does not start the time again.
    let item = Bytes::from_static(&[0; 100]);
    assert_eq!(channel.deliver(Instant::now(), item), Ok(()));
    channels.give_back(Instant::now(), Some(10));
    let read = poll(&wakes, |cx| channel.poll_read(cx, &mut [0; 100_000]));
    assert_eq!(read, Poll::Ready(Err(StreamError::CreditKept)));
}
