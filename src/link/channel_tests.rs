use std::{
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

/// A channel with data that is closed, and all of it taken by the link.
fn closing() -> (Arc<Channel>, Arc<Wakes>) {
    let budgets = Budgets {
        receive: 1000,
        send: 1000,
        item: 100,
    };
    let channel = Channel::new(DialId::random(), Side::Dialer, budgets, Arc::default());
    let wakes = Arc::new(Wakes::default());
    channel.accepted(None);
    assert!(poll(&wakes, |cx| channel.poll_write(cx, b"data")).is_ready());
    assert!(poll(&wakes, |cx| channel.poll_close(cx)).is_pending());
    assert!(matches!(channel.transmit(), Some(Transmit::Item(_))));
    let end = channel.transmit();
    assert_eq!(end, Some(Transmit::End(End::Finished)));
    assert_eq!(channel.transmit(), None);
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
    // A link that is lost later takes nothing back.
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
