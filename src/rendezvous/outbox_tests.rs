use std::{
    ops::Bound,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::{flows::QUANTUM, parcel::OVERHEAD, *};
use crate::rendezvous::registry::Announced;

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (counter.clone(), counter.into())
    }

    fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A parcel that costs `cost` bytes.
fn parcel(cost: usize) -> Parcel {
    Parcel::One(message(cost))
}

fn message(cost: usize) -> Message {
    Message::Binary(vec![0; cost - OVERHEAD].into())
}

const LINK: LinkId = LinkId(1);
const FLOW: FlowId = FlowId(1);
const LIMIT: usize = 1024 * 1024;
/// More than what always finds room, in bytes.
const BIG: usize = 100_000;

/// Fills the queue with data of dials, until only small items find room.
fn fill(outbox: &Outbox) {
    while outbox.try_push(FLOW, parcel(BIG)).is_ok() {}
    while outbox.try_push(FlowId(2), parcel(BIG)).is_ok() {}
    while data(outbox) <= LIMIT {
        outbox.try_push(FlowId(3), parcel(LIMIT)).expect("room");
    }
}

/// Returns the number of queued bytes of dials, without the very first parcel, which is in the server's own queue.
fn data(outbox: &Outbox) -> usize {
    outbox.lock().flows.data()
}

/// Takes parcels until there is room again.
fn make_room(outbox: &Outbox) {
    while data(outbox) > LIMIT {
        take(outbox, 1);
    }
}

/// Announces a peer of another link.
fn announce(feed: &Feed<Outbox>) {
    feed.append(&[Announced {
        link: LinkId(2),
        hears: (Bound::Unbounded, Bound::Unbounded),
        text: "news".to_owned(),
    }]);
}

/// Returns an outbox whose link has joined.
fn reader(feed: &Feed<Outbox>, limit: usize) -> Arc<Outbox> {
    let outbox = outbox(limit);
    outbox.subscribe(feed.subscribe(LINK, outbox.clone(), 0));
    outbox
}

fn outbox(limit: usize) -> Arc<Outbox> {
    Arc::new(Outbox::new(limit))
}

fn costs(batch: &[Parcel]) -> Vec<usize> {
    batch.iter().map(Parcel::cost).collect()
}

/// Takes up to `max` bytes. Returns the cost of each parcel.
fn take(outbox: &Outbox, max: usize) -> Vec<usize> {
    take_with(outbox, &Feed::new(1), max, Waker::noop())
}

fn take_with(outbox: &Outbox, feed: &Feed<Outbox>, max: usize, waker: &Waker) -> Vec<usize> {
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(waker);
    let _ = outbox.poll_take(&mut cx, feed, LINK, &mut batch, max);
    costs(&batch)
}

/// Returns a push that waits for room for a parcel of a dial.
fn push(outbox: &Arc<Outbox>, flow: u64, cost: usize) -> Push {
    Push::new(outbox.clone(), FlowId(flow), parcel(cost))
}

fn poll(push: &mut Push, waker: &Waker) -> Poll<Result<(), Closed>> {
    Pin::new(push).poll(&mut Context::from_waker(waker))
}

#[test]
fn parcels_come_out_in_order_and_in_batches() {
    let outbox = outbox(10_000);
    for cost in [200, 300, 400, 500] {
        outbox.try_push(FLOW, parcel(cost)).expect("room");
    }
    assert_eq!(outbox.bytes(), 1400);
    assert_eq!(take(&outbox, 500), [200, 300]);
    assert_eq!(take(&outbox, 1), [400], "at least one");
    assert_eq!(take(&outbox, 10_000), [500]);
    assert_eq!(outbox.bytes(), 0);
}

#[test]
fn an_item_costs_both_its_messages_and_stays_together() {
    let outbox = outbox(10_000);
    let item = Parcel::Item(message(200), message(300));
    outbox.try_push(FLOW, item).expect("room");
    outbox.push_own(message(400));
    assert_eq!(take(&outbox, 1), [500]);
    assert_eq!(take(&outbox, 1), [400]);
}

#[test]
fn each_dial_has_a_share_of_the_room_and_one_parcel_of_any_size_fits() {
    let outbox = outbox(LIMIT);
    while outbox.try_push(FLOW, parcel(BIG)).is_ok() {}
    let alone = data(&outbox);
    assert!((LIMIT * 8 / 10..=LIMIT).contains(&alone), "{alone}");
    outbox.try_push(FlowId(2), parcel(LIMIT)).expect("room");
    assert_eq!(data(&outbox), alone + LIMIT);
    let full = outbox.try_push(FlowId(4), parcel(BIG));
    assert!(matches!(full, Err(TryPushError::Full(_))));
}

#[test]
fn what_is_small_finds_room_beside_what_fills_the_queue() {
    let outbox = outbox(LIMIT);
    while outbox.try_push(FLOW, parcel(BIG)).is_ok() {}
    let mut small = 0;
    while outbox.try_push(FlowId(10 + small), parcel(QUANTUM)).is_ok() {
        let more = outbox.try_push(FlowId(10 + small), parcel(QUANTUM));
        assert!(more.is_err() || data(&outbox) <= LIMIT);
        small += 1;
    }
    // Small items take at most as much again as the limit.
    assert!(small > 50, "{small}");
    assert!(outbox.bytes() <= 2 * LIMIT + BIG + QUANTUM);
    let held = outbox.lock().held(LIMIT);
    assert!(data(&outbox) > LIMIT + CLOGGED && held <= LIMIT + BIG);
    assert!(!outbox.is_clogged() && outbox.takes_dials());
}

#[test]
fn the_writer_is_woken_by_the_first_parcel_only() {
    let outbox = outbox(10_000);
    let (counter, waker) = Counter::new();
    let mut batch = Vec::new();
    let mut cx = Context::from_waker(&waker);
    assert!(
        outbox
            .poll_take(&mut cx, &Feed::new(1), LINK, &mut batch, 1)
            .is_pending()
    );
    for _ in 0..5 {
        outbox.try_push(FLOW, parcel(200)).expect("room");
    }
    assert_eq!(counter.wakes(), 1);
}

#[test]
fn those_with_nothing_queued_are_served_in_the_order_of_asking() {
    let outbox = outbox(LIMIT);
    fill(&outbox);
    let (counter, waker) = Counter::new();
    let (other_counter, other) = Counter::new();
    let (mut first, mut second) = (push(&outbox, 5, LIMIT), push(&outbox, 6, BIG));
    assert!(poll(&mut first, &waker).is_pending());
    assert!(poll(&mut second, &other).is_pending());
    assert!(outbox.holds_up());
    make_room(&outbox);
    assert_eq!((counter.wakes(), other_counter.wakes()), (1, 0));
    // It is not its turn, and a third push cannot overtake either.
    assert!(poll(&mut second, &other).is_pending());
    let overtaking = outbox.try_push(FlowId(7), parcel(BIG));
    assert!(matches!(overtaking, Err(TryPushError::Full(_))));
    assert_eq!(poll(&mut first, &waker), Poll::Ready(Ok(())));
    assert_eq!(other_counter.wakes(), 0, "there is no room for it");
    make_room(&outbox);
    assert_eq!(other_counter.wakes(), 1);
    assert_eq!(poll(&mut second, &other), Poll::Ready(Ok(())));
    assert!(!outbox.holds_up());
}

#[test]
fn one_with_its_share_queued_is_woken_when_some_of_it_is_taken() {
    let outbox = outbox(LIMIT);
    let (counter, waker) = Counter::new();
    while outbox.try_push(FLOW, parcel(BIG)).is_ok() {}
    let mut waiting = push(&outbox, FLOW.0, BIG);
    assert!(poll(&mut waiting, &waker).is_pending());
    // The server's own message goes first, and data of another dial does not count for this dial.
    outbox.push_own(message(300));
    outbox.try_push(FlowId(2), parcel(300)).expect("room");
    assert_eq!(take(&outbox, 1), [BIG], "it came when the outbox was empty");
    assert_eq!(take(&outbox, 1), [300]);
    assert_eq!(take(&outbox, 1), [300]);
    assert_eq!(counter.wakes(), 0);
    assert!(outbox.holds_up());
    assert_eq!(take(&outbox, 1), [BIG]);
    assert_eq!(counter.wakes(), 1);
    assert!(
        outbox.holds_up(),
        "the sender has not put its parcel in yet"
    );
    assert_eq!(poll(&mut waiting, &waker), Poll::Ready(Ok(())));
    assert!(!outbox.holds_up());
}

#[test]
fn one_who_gives_up_waiting_lets_the_next_one_go() {
    let outbox = outbox(LIMIT);
    fill(&outbox);
    let (counter, waker) = Counter::new();
    let (mut first, mut second) = (push(&outbox, 5, BIG), push(&outbox, 6, BIG));
    assert!(poll(&mut first, Waker::noop()).is_pending());
    assert!(poll(&mut second, &waker).is_pending());
    make_room(&outbox);
    assert_eq!(counter.wakes(), 0);
    drop(first);
    assert_eq!(counter.wakes(), 1);
    assert_eq!(poll(&mut second, &waker), Poll::Ready(Ok(())));
    assert!(!outbox.holds_up());
}

#[test]
fn one_who_waits_is_woken_where_it_was_polled_last() {
    // One push waits in the line, the other in its flow.
    for flow in [5, FLOW.0] {
        let outbox = outbox(LIMIT);
        fill(&outbox);
        let (old, old_waker) = Counter::new();
        let (new, new_waker) = Counter::new();
        let mut push = push(&outbox, flow, BIG);
        assert!(poll(&mut push, &old_waker).is_pending());
        assert!(poll(&mut push, &new_waker).is_pending());
        make_room(&outbox);
        assert_eq!((old.wakes(), new.wakes()), (0, 1));
    }
}

#[test]
fn a_dial_that_is_reset_gives_its_room_to_others_and_keeps_what_is_said_of_it() {
    let outbox = outbox(LIMIT);
    fill(&outbox);
    let (counter, waker) = Counter::new();
    let mut waiting = push(&outbox, 5, BIG);
    assert!(poll(&mut waiting, &waker).is_pending());
    outbox.push_notice(FLOW, Message::text("an answer"));
    for flow in 1..4 {
        outbox.reset(FlowId(flow));
    }
    outbox.push_notice(FLOW, Message::text("the end"));
    assert!(counter.wakes() > 0);
    assert_eq!(poll(&mut waiting, &waker), Poll::Ready(Ok(())));
    let left = take(&outbox, usize::MAX);
    let (answer, end) = (9 + OVERHEAD, 7 + OVERHEAD);
    assert_eq!(left, [BIG, answer, end, BIG], "the first was not in turn");
    assert_eq!((outbox.bytes(), outbox.lock().waiting), (0, 0));
}

#[test]
fn the_servers_own_messages_do_not_wait_until_the_reserve_is_used_up() {
    let outbox = outbox(1000);
    outbox.try_push(FLOW, parcel(1000)).expect("room");
    let own = RESERVE / 1024;
    for n in 0..own {
        assert!(!outbox.lock().is_closing());
        match n % 2 {
            0 => outbox.push_own(message(1024)),
            _ => outbox.push_notice(FLOW, message(1024)),
        }
    }
    assert_eq!(outbox.bytes(), 1000 + RESERVE);
    assert!(outbox.is_clogged());
    let (counter, waker) = Counter::new();
    let mut cx = Context::from_waker(&waker);
    assert!(outbox.poll_urgent(&mut cx).is_pending());
    outbox.push_own(message(1024));
    assert_eq!(counter.wakes(), 1);
    assert!(outbox.poll_urgent(&mut cx).is_ready());
    let mut batch = Vec::new();
    let closing = outbox.poll_take(&mut cx, &Feed::new(1), LINK, &mut batch, 1);
    assert!(matches!(
        closing,
        Poll::Ready(Take::Close(CloseReason::Overflow))
    ));
}

#[test]
fn announcements_are_read_when_the_queue_is_at_most_half_full() {
    let feed = Feed::new(1);
    let outbox = reader(&feed, 1000);
    outbox.push_own(message(300));
    announce(&feed);
    assert_eq!(take_with(&outbox, &feed, 1, Waker::noop()), [0, 300]);
    for _ in 0..3 {
        outbox.push_own(message(300));
    }
    announce(&feed);
    assert_eq!(take_with(&outbox, &feed, 1, Waker::noop()), [300]);
    assert_eq!(take_with(&outbox, &feed, 1, Waker::noop()), [300]);
    assert_eq!(take_with(&outbox, &feed, 1, Waker::noop()), [0, 300]);
    outbox.unsubscribe();
    announce(&feed);
    assert!(take_with(&outbox, &feed, 1, Waker::noop()).is_empty());
}

#[test]
fn a_gated_message_and_all_behind_it_wait_until_the_others_have_written_the_news() {
    let feed = Feed::new(1);
    let (newcomer, other) = (outbox(1000), reader(&feed, 1000));
    let (counter, waker) = Counter::new();
    announce(&feed);
    let (gate, token) = Gate::new(&newcomer);
    other.hold(token.clone());
    newcomer.push_welcome(Welcome::default(), Some(gate));
    newcomer.push_own(message(300));
    drop(token);
    assert!(take_with(&newcomer, &feed, 1000, &waker).is_empty());
    assert_eq!(take(&other, 1), [0; 0], "another feed has nothing");
    // The second take shows that the first batch is written.
    let other = reader(&feed, 1000);
    announce(&feed);
    let (gate, token) = Gate::new(&newcomer);
    other.hold(token);
    assert_eq!(take_with(&other, &feed, 1000, Waker::noop()), [0]);
    assert!(!gate.is_open());
    assert!(take_with(&other, &feed, 1000, Waker::noop()).is_empty());
    assert!(gate.is_open());
    assert_eq!(counter.wakes(), 1);
    assert_eq!(take_with(&newcomer, &feed, 1000, &waker), [OVERHEAD, 300]);
}

#[test]
fn nobody_waits_twice_for_a_link_that_writes_nothing() {
    let feed = Feed::new(1);
    let (newcomer, stalled) = (outbox(1000), reader(&feed, 1000));
    let (gate, token) = Gate::new(&newcomer);
    stalled.hold(token);
    assert!(!gate.is_open());
    gate.open();
    let (gate, token) = Gate::new(&newcomer);
    stalled.hold(token);
    assert!(gate.is_open(), "the link has missed a gate before");
    stalled.discard();
    let (gate, token) = Gate::new(&newcomer);
    stalled.hold(token);
    assert!(gate.is_open(), "the link is gone");
}

#[test]
fn a_closing_queue_takes_nothing_more_and_gives_what_it_has() {
    let outbox = outbox(LIMIT);
    fill(&outbox);
    let queued = outbox.bytes();
    let (counter, waker) = Counter::new();
    let mut waiting = [5, FLOW.0].map(|flow| push(&outbox, flow, BIG));
    for waiting in &mut waiting {
        assert!(poll(waiting, &waker).is_pending());
    }
    outbox.close(CloseReason::Shutdown);
    outbox.close(CloseReason::Idle);
    assert_eq!(counter.wakes(), 2);
    for waiting in &mut waiting {
        assert_eq!(poll(waiting, &waker), Poll::Ready(Err(Closed)));
    }
    outbox.push_own(message(200));
    outbox.push_notice(FLOW, message(200));
    let late = outbox.try_push(FLOW, parcel(200));
    assert!(matches!(late, Err(TryPushError::Closed)));
    assert_eq!(take(&outbox, usize::MAX).iter().sum::<usize>(), queued);
    let mut cx = Context::from_waker(Waker::noop());
    let end = outbox.poll_take(&mut cx, &Feed::new(1), LINK, &mut Vec::new(), 1);
    assert!(matches!(
        end,
        Poll::Ready(Take::Close(CloseReason::Shutdown))
    ));
}

#[test]
fn a_link_that_is_gone_lets_go_of_what_it_had_and_of_those_who_wait() {
    let outbox = outbox(LIMIT);
    fill(&outbox);
    let (counter, waker) = Counter::new();
    let mut waiting = [5, FLOW.0].map(|flow| push(&outbox, flow, BIG));
    for waiting in &mut waiting {
        assert!(poll(waiting, &waker).is_pending());
    }
    outbox.discard();
    assert_eq!((outbox.bytes(), counter.wakes()), (0, 2));
    for waiting in &mut waiting {
        assert_eq!(poll(waiting, &waker), Poll::Ready(Err(Closed)));
    }
    assert!(take(&outbox, 1).is_empty());
}

#[test]
fn a_long_queue_gives_its_memory_back() {
    let outbox = outbox(usize::MAX / 2);
    for n in 0..10_000 {
        outbox.try_push(FlowId(n % 100), parcel(200)).expect("room");
        outbox.push_own(message(200));
    }
    for _ in 0..20_000usize.div_ceil(BATCH) {
        assert!(take(&outbox, usize::MAX).len() <= BATCH);
    }
    assert_eq!(outbox.bytes(), 0);
    let inner = outbox.lock();
    assert_eq!(inner.own.capacity(), 0);
    assert!(inner.flows.slots() <= 2 * KEPT_SLOTS);
}

/// Many threads push and one takes. The test hangs if a push is never woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten_among_many() {
    const SENDERS: usize = 20;
    const PARCELS: usize = 500;
    // Small enough that even small items fill it.
    let outbox = outbox(50_000);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let outbox = outbox.clone();
            tokio::spawn(async move {
                for n in 0..PARCELS {
                    let cost = OVERHEAD + (sender * 1009 + n * 101) % (2 * QUANTUM);
                    let flow = sender as u64;
                    // Some pushes give up and ask again.
                    if n % 7 == 0 {
                        let mut impatient = push(&outbox, flow, cost);
                        let polled = futures::poll!(&mut impatient);
                        drop(impatient);
                        if polled.is_ready() {
                            continue;
                        }
                    }
                    push(&outbox, flow, cost).await.expect("open");
                }
            })
        })
        .collect();
    let mut taken = 0;
    let feed = Feed::new(1);
    let mut batch = Vec::new();
    while taken < SENDERS * PARCELS {
        std::future::poll_fn(|cx| outbox.poll_take(cx, &feed, LINK, &mut batch, 30_000)).await;
        taken += batch.drain(..).len();
    }
    for sender in senders {
        sender.await.expect("no panic");
    }
    assert_eq!((outbox.bytes(), outbox.lock().waiting), (0, 0));
}
