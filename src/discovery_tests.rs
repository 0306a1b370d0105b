use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use super::*;
use crate::address::StarAddr;

const INTERVAL: Duration = Duration::from_secs(10);

fn peer(number: u32) -> PeerId {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    let hash = multiaddr::multihash::Multihash::wrap(0x12, &digest).expect("32 bytes fit");
    PeerId::from_multihash(hash).expect("SHA2-256")
}

fn address(number: u32) -> Multiaddr {
    let peer = peer(number);
    format!("/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/p2p/{peer}")
        .parse()
        .expect("a multiaddr")
}

fn here() -> Rendezvous {
    let here = StarAddr::try_from(&address(0)).expect("valid");
    here.rendezvous().clone()
}

fn announce(announcer: &Announcer, number: u32) {
    let place = Place {
        rendezvous: &here(),
        listening: true,
    };
    announcer.announce(place, peer(number), address(number));
}

/// Announces a peer often enough to show the pace. The last announcement is now.
async fn announce_in_rounds(announcer: &Announcer, number: u32) {
    for pause in [INTERVAL, INTERVAL, Duration::ZERO] {
        announce(announcer, number);
        tokio::time::advance(pause).await;
    }
}

fn discovered(number: u32) -> Event {
    Event::Discovered {
        peer: peer(number),
        address: address(number),
    }
}

fn expired(number: u32) -> Event {
    Event::Expired {
        peer: peer(number),
        address: address(number),
    }
}

fn small() -> (Announcer, Discovery) {
    channel(peer(u32::MAX), INTERVAL, 16)
}

/// Returns all events that are available now.
fn drain(discovery: &mut Discovery) -> Vec<Event> {
    std::iter::from_fn(|| discovery.next().now_or_never().flatten()).collect()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn poll(self: &Arc<Self>, discovery: &mut Discovery) -> Poll<Option<Event>> {
        discovery.poll_next_unpin(&mut Context::from_waker(&Arc::clone(self).into()))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_discovered_once_and_expires_three_intervals_after_its_last_announcement() {
    let (announcer, mut discovery) = small();
    for _ in 0..5 {
        announce(&announcer, 1);
        tokio::time::advance(INTERVAL).await;
    }
    assert_eq!(discovery.next().await, Some(discovered(1)));
    let before = now();
    assert_eq!(discovery.next().await, Some(expired(1)));
    // One interval had already passed. Tokio's timers are late by up to a millisecond.
    let waited = now() - before;
    assert!(waited >= INTERVAL * 2 && waited <= INTERVAL * 2 + Duration::from_millis(2));
    assert_eq!(drain(&mut discovery), []);
}

#[tokio::test(start_paused = true)]
async fn a_peer_announced_at_a_slow_pace_stays() {
    let (announcer, mut discovery) = small();
    let announcing = tokio::spawn(async move {
        for _ in 0..20 {
            announce(&announcer, 1);
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    });
    let events: Vec<_> = discovery.by_ref().collect().await;
    announcing.await.expect("no panic");
    assert_eq!(events, [discovered(1)]);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_was_brought_forward_is_reported_in_time() {
    let (announcer, mut discovery) = small();
    let start = now();
    let announcing = announcer.clone();
    tokio::spawn(async move {
        // A gap of 25 s is followed by a quick pace. The listing would have ended at 105 s, and now ends at 65 s.
        for pause in [25, 5, 5, 0] {
            announce(&announcing, 1);
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
    });
    assert_eq!(discovery.next().await, Some(discovered(1)));
    assert_eq!(discovery.next().await, Some(expired(1)));
    let expiry = now() - start;
    assert!(expiry >= Duration::from_secs(65) && expiry < Duration::from_secs(66));
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_between_two_polls_is_left_out() {
    let (announcer, mut discovery) = small();
    announce_in_rounds(&announcer, 1).await;
    tokio::time::advance(INTERVAL * 4).await;
    assert_eq!(drain(&mut discovery), []);

    announce(&announcer, 2);
    assert_eq!(drain(&mut discovery), [discovered(2)]);
    announcer.retract(&here(), &peer(2));
    announce(&announcer, 2);
    assert_eq!(drain(&mut discovery), []);
}

#[tokio::test]
async fn a_peer_that_is_not_found_expires_at_once_and_the_others_do_not() {
    let (announcer, mut discovery) = small();
    announce(&announcer, 1);
    announce(&announcer, 2);
    assert_eq!(drain(&mut discovery), [discovered(1), discovered(2)]);
    announcer.retract(&here(), &peer(1));
    announcer.retract(&here(), &peer(3));
    assert_eq!(drain(&mut discovery), [expired(1)]);
}

#[tokio::test]
async fn memory_is_bounded_when_nobody_polls() {
    const CAPACITY: usize = 1_000;
    let (announcer, mut discovery) = channel(peer(u32::MAX), INTERVAL, CAPACITY);
    for number in 0..500 {
        announce(&announcer, number);
    }
    assert_eq!(drain(&mut discovery).len(), 500);

    for number in 0..100_000 {
        announce(&announcer, number % 20_000);
    }
    {
        let shared = lock(&discovery.shared);
        assert_eq!(shared.table.listed().len(), CAPACITY);
        let mut subscribers = shared.subscribers.iter();
        let (_, subscriber) = subscribers
            .find(|(id, _)| *id == discovery.id)
            .expect("there");
        assert_eq!((subscriber.told.len(), subscriber.gone.len()), (500, 0));
    }
    let newcomers: Vec<_> = (500..1000).map(discovered).collect();
    assert_eq!(drain(&mut discovery), newcomers);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_rendezvous_without_a_link_when_nobody_polls() {
    let (announcer, discovery) = small();
    for number in 1..1_000 {
        let star = format!("/dns4/star{number}/tcp/80/ws/p2p-websocket-star");
        let star: StarAddr = star.parse().expect("valid");
        let rendezvous = star.rendezvous();
        let place = Place {
            rendezvous,
            listening: number % 2 == 0,
        };
        // The first announcement is ignored, like one for which there is no room. The others are listed.
        announcer.announce(place, peer(u32::MAX), address(u32::MAX));
        announcer.announce(place, peer(number), address(number));
        announcer.announce(place, peer(number + 1), address(number + 1));
        announcer.retract(rendezvous, &peer(number));
        announcer.close(rendezvous);
        tokio::time::advance(Duration::from_secs(1)).await;
        // The rendezvous of three intervals, and the present one.
        let shared = lock(&discovery.shared);
        assert!(shared.table.parts() <= 31, "{}", shared.table.parts());
    }
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_a_closed_link_finds_is_told() {
    let (announcer, mut discovery) = small();
    announce_in_rounds(&announcer, 1).await;
    assert_eq!(drain(&mut discovery), [discovered(1)]);
    let wakes = Arc::new(Wakes::default());
    assert!(wakes.poll(&mut discovery).is_pending());
    // Without a turn of the runtime, no timer fires.
    let at = now() + INTERVAL * 3;
    let wakers = lock(&discovery.shared).lose(&here(), at);
    wakers.into_iter().for_each(Waker::wake);
    assert_eq!(wakes.count(), 1);
    assert_eq!(drain(&mut discovery), [expired(1)]);
}

#[tokio::test]
async fn the_local_peer_is_not_discovered() {
    let (announcer, mut discovery) = small();
    announce(&announcer, u32::MAX);
    assert_eq!(drain(&mut discovery), []);
}

#[tokio::test(start_paused = true)]
async fn a_clone_hears_of_everything_that_is_known() {
    let (announcer, mut discovery) = small();
    announce_in_rounds(&announcer, 1).await;
    announce(&announcer, 2);
    assert_eq!(drain(&mut discovery), [discovered(1), discovered(2)]);
    assert_eq!(
        drain(&mut discovery.clone()),
        [discovered(1), discovered(2)]
    );
    for _ in 0..3 {
        tokio::time::advance(INTERVAL).await;
        announce(&announcer, 2);
    }
    assert_eq!(drain(&mut announcer.subscribe()), [discovered(2)]);
    assert_eq!(drain(&mut discovery), [expired(1)]);
}

#[tokio::test]
async fn a_dropped_subscription_leaves_nothing_behind() {
    let (announcer, discovery) = small();
    drop(discovery.clone());
    drop(announcer.subscribe());
    assert_eq!(lock(&discovery.shared).subscribers.len(), 1);
}

#[tokio::test]
async fn a_new_peer_wakes_once_until_polled_and_a_known_one_wakes_nobody() {
    let (announcer, mut discovery) = small();
    let wakes = Arc::new(Wakes::default());
    assert!(wakes.poll(&mut discovery).is_pending());
    announce(&announcer, 1);
    assert_eq!(wakes.count(), 1);
    announce(&announcer, 2);
    announce(&announcer, 1);
    assert_eq!(wakes.count(), 1);

    assert_eq!(wakes.poll(&mut discovery), Poll::Ready(Some(discovered(1))));
    announce(&announcer, 3);
    assert_eq!(wakes.count(), 1, "nobody waits");
    assert_eq!(wakes.poll(&mut discovery), Poll::Ready(Some(discovered(2))));
    assert_eq!(wakes.poll(&mut discovery), Poll::Ready(Some(discovered(3))));
    assert!(wakes.poll(&mut discovery).is_pending());
    for number in [1, 2, 3, u32::MAX] {
        announce(&announcer, number);
    }
    assert_eq!(wakes.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_wakes_the_others_and_not_the_subscription_that_finds_it() {
    let (announcer, mut first) = small();
    let mut second = first.clone();
    announce_in_rounds(&announcer, 1).await;
    let (one, two) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    for (wakes, discovery) in [(&one, &mut first), (&two, &mut second)] {
        assert!(wakes.poll(discovery).is_ready());
        assert!(wakes.poll(discovery).is_pending());
    }
    // Without a turn of the runtime, no timer fires.
    let at = now() + INTERVAL * 3;
    let (_, others) = lock(&first.shared).poll(first.id, at, &Arc::clone(&one).into());
    others.into_iter().for_each(Waker::wake);
    assert_eq!((one.count(), two.count()), (0, 1));
}

#[tokio::test]
async fn the_latest_waker_is_the_one_that_is_woken() {
    let (announcer, mut discovery) = small();
    let (earlier, later) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    assert!(earlier.poll(&mut discovery).is_pending());
    assert!(later.poll(&mut discovery).is_pending());
    announce(&announcer, 1);
    assert_eq!((earlier.count(), later.count()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_after_what_was_announced_before_the_last_announcer_went() {
    let (announcer, mut discovery) = small();
    let wakes = Arc::new(Wakes::default());
    announce(&announcer, 1);
    assert!(wakes.poll(&mut discovery).is_ready());
    assert!(wakes.poll(&mut discovery).is_pending());
    drop(announcer.clone());
    assert_eq!(wakes.count(), 0);
    drop(announcer);
    assert_eq!(wakes.count(), 1);

    let clone = discovery.clone();
    tokio::time::advance(INTERVAL * 10).await;
    assert_eq!(wakes.poll(&mut discovery), Poll::Ready(None));
    assert_eq!(wakes.poll(&mut discovery), Poll::Ready(None));
    assert_eq!(clone.collect::<Vec<_>>().await, [discovered(1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost_between_an_announcing_thread_and_a_waiting_one() {
    let (announcer, discovery) = channel(peer(u32::MAX), INTERVAL, 10_000);
    let hearing = tokio::spawn(discovery.take(5_000).count());
    let announcing = tokio::task::spawn_blocking(move || {
        for number in 0..5_000 {
            announce(&announcer, number);
            std::thread::yield_now();
        }
        announcer
    });
    let _announcer = announcing.await.expect("no panic");
    let heard = tokio::time::timeout(Duration::from_secs(30), hearing).await;
    assert_eq!(heard.expect("no wake is lost").expect("no panic"), 5_000);
}

const CAPACITY: usize = 4;

/// A subscription, and the set of peers that results from its events.
struct Listener {
    discovery: Discovery,
    told: BTreeSet<PeerId>,
}

impl Listener {
    /// Returns whether there was an event.
    fn poll(&mut self) -> bool {
        let event = self.discovery.next().now_or_never().flatten();
        match &event {
            Some(Event::Discovered { peer, .. }) => assert!(self.told.insert(*peer)),
            Some(Event::Expired { peer, .. }) => assert!(self.told.remove(peer)),
            None => {}
        }
        assert!(self.told.len() <= CAPACITY);
        event.is_some()
    }
}

fn listed(announcer: &Announcer) -> BTreeSet<PeerId> {
    let listed = lock(&announcer.0.0).table.listed();
    listed.into_iter().map(|key| key.peer).collect()
}

#[derive(Debug, Clone)]
enum Operation {
    Announce(u32),
    Retract(u32),
    Close,
    Advance(u64),
    Poll(usize),
    Drain(usize),
    Clone(usize),
    Drop(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0..7u32).prop_map(Operation::Announce),
        1 => (0..7u32).prop_map(Operation::Retract),
        1 => Just(Operation::Close),
        2 => (1..50u64).prop_map(Operation::Advance),
        1 => (1_000..1_400u64).prop_map(Operation::Advance),
        6 => any::<usize>().prop_map(Operation::Poll),
        3 => any::<usize>().prop_map(Operation::Drain),
        1 => any::<usize>().prop_map(Operation::Clone),
        1 => any::<usize>().prop_map(Operation::Drop),
    ]
}

async fn agree_with_the_table(operations: Vec<Operation>) {
    let (announcer, discovery) = channel(peer(u32::MAX), INTERVAL, CAPACITY);
    let told = BTreeSet::new();
    let mut listeners = vec![Listener { discovery, told }];
    for operation in operations {
        match operation {
            Operation::Announce(number) => {
                announce(&announcer, number);
            }
            Operation::Retract(number) => announcer.retract(&here(), &peer(number)),
            Operation::Close => announcer.close(&here()),
            Operation::Advance(secs) => tokio::time::advance(Duration::from_secs(secs)).await,
            Operation::Poll(index) => {
                let index = index % listeners.len();
                listeners[index].poll();
            }
            Operation::Drain(index) => {
                let index = index % listeners.len();
                while listeners[index].poll() {}
                assert_eq!(listeners[index].told, listed(&announcer));
            }
            Operation::Clone(index) if listeners.len() < 4 => {
                let discovery = listeners[index % listeners.len()].discovery.clone();
                let told = BTreeSet::new();
                listeners.push(Listener { discovery, told });
            }
            Operation::Drop(index) if listeners.len() > 1 => {
                listeners.swap_remove(index % listeners.len());
            }
            Operation::Clone(_) | Operation::Drop(_) => {}
        }
        assert!(listed(&announcer).len() <= CAPACITY);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn in_any_order_the_events_add_up_to_what_is_listed(
        operations in proptest::collection::vec(operation(), 1..120)
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(agree_with_the_table(operations));
    }
}
