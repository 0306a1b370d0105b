use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::{
    super::{buckets::BURST, settings::Quota},
    *,
};
use crate::rendezvous::{origin::Weights, usage::Usage};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn claimant(ip: &str) -> Claimant {
    let mut weights = Weights::default();
    weights.insert("192.0.2.9".parse().expect("a network"), 3);
    weights.claimant(ip.parse().expect("an address"))
}

fn rate(bytes: u64) -> Quota {
    Quota::default().with_bytes_per_second(bytes)
}

fn day(bytes: u64) -> Quota {
    Quota::default().with_bytes_per_day(bytes)
}

/// A link that always has a next item.
struct Link {
    sender: Sender,
    size: u64,
    waits: Option<Ticket>,
    /// The item that has passed last, until the next one waits.
    turn: Option<Ticket>,
    sent: u64,
    spent: Option<Whose>,
}

/// A queue and its links on simulated time.
struct World {
    queue: Queue,
    usage: Usage,
    links: Vec<Link>,
    start: Instant,
    now: Instant,
    today: Day,
}

impl World {
    fn new(peer: Quota, origin: Quota, tenant: Quota) -> Self {
        let now = Instant::now();
        Self {
            queue: Queue::new(QuotaSettings {
                peer,
                origin,
                tenant,
            }),
            usage: Usage::default(),
            links: Vec::new(),
            start: now,
            now,
            today: Day::of(SystemTime::now()),
        }
    }

    /// Adds a link of a new peer; returns the link's number.
    fn peer(&mut self, ip: &str, size: u64) -> usize {
        let meter = self.usage.enter_unnamed().meter().clone();
        self.link(ip, meter, size)
    }

    /// Adds one more link of the same peer.
    fn again(&mut self, link: usize) -> usize {
        let Link { sender, size, .. } = &self.links[link];
        let (sender, size) = (sender.clone(), *size);
        self.add(sender, size)
    }

    /// Adds a link of a new peer in a tenant.
    fn peer_of(&mut self, tenant: Tenant, ip: &str, size: u64) -> usize {
        let meter = self.usage.enter_unnamed().meter().clone();
        self.add(Sender::new(tenant, &claimant(ip), meter), size)
    }

    fn link(&mut self, ip: &str, meter: Arc<Meter>, size: u64) -> usize {
        self.add(Sender::new(0, &claimant(ip), meter), size)
    }

    fn add(&mut self, sender: Sender, size: u64) -> usize {
        self.links.push(Link {
            sender,
            size,
            waits: None,
            turn: None,
            sent: 0,
            spent: None,
        });
        self.links.len() - 1
    }

    /// Has each link send what it may send now; returns whether any did.
    fn send(&mut self) -> bool {
        let mut has_sent = false;
        for link in &mut self.links {
            if link.waits.is_none() && link.spent.is_none() {
                let ticket = self.queue.enter(link.sender.clone(), link.size, self.today);
                link.waits = Some(ticket);
                if let Some(turn) = link.turn.take() {
                    self.queue.leave(turn);
                }
            }
        }
        while self.queue.run(self.now, self.today, &mut Vec::new()) {}
        for link in &mut self.links {
            let Some(ticket) = link.waits else { continue };
            match self.queue.poll(ticket, Waker::noop(), &mut Vec::new()) {
                Taken::Waits(_) => {}
                Taken::Passed(Ok(())) => {
                    link.waits = None;
                    link.turn = Some(ticket);
                    link.sent += link.size;
                    link.sender.meter().count(link.size, self.now, self.today);
                    has_sent = true;
                }
                Taken::Passed(Err(whose)) => {
                    link.waits = None;
                    link.spent = Some(whose);
                    self.queue.leave(ticket);
                }
            }
        }
        has_sent
    }

    /// Lets the links send for `time`, in steps of a millisecond, as timers do.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while self.send() {}
            self.now += Duration::from_millis(1);
        }
    }

    fn sent(&self) -> Vec<u64> {
        self.links.iter().map(|link| link.sent).collect()
    }

    fn all(&self) -> u64 {
        self.sent().iter().sum()
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Asserts that `sent` is the expected number of bytes, apart from the burst and a little that timers take.
#[track_caller]
fn assert_near(sent: u64, expected: u64, tolerance: u64) {
    assert!(
        sent.abs_diff(expected) <= tolerance,
        "{sent} is not {expected}"
    );
}

#[test]
fn a_peer_has_its_rate_on_however_many_links() {
    let mut world = World::new(rate(MIB), Quota::default(), Quota::default());
    let first = world.peer("192.0.2.1", 16 * KIB);
    world.again(first);
    world.again(first);
    let other = world.peer("192.0.2.1", 16 * KIB);
    world.run(10 * SECOND);
    let sent = world.sent();
    assert_near(sent[..3].iter().sum(), 10 * MIB, MIB / 4);
    assert_near(sent[other], 10 * MIB, MIB / 4);
}

#[test]
fn each_tenant_has_a_rate_of_its_own_and_an_origin_one_in_all_of_them() {
    let mut world = World::new(Quota::default(), Quota::default(), rate(MIB));
    for (tenant, ip) in [(0, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.2")] {
        world.peer_of(tenant, ip, 16 * KIB);
    }
    world.peer_of(2, "192.0.2.1", 16 * KIB);
    world.run(5 * SECOND);
    let sent = world.sent();
    for (link, expected) in [
        (0, 5 * MIB),
        (1, 5 * MIB),
        (2, 5 * MIB / 2),
        (3, 5 * MIB / 2),
    ] {
        assert_near(sent[link], expected, MIB / 4);
    }

    let mut world = World::new(Quota::default(), rate(MIB), Quota::default());
    world.peer_of(0, "192.0.2.1", KIB);
    world.peer_of(1, "192.0.2.1", 64 * KIB);
    world.peer_of(1, "192.0.2.2", 64 * KIB);
    world.run(5 * SECOND);
    let sent = world.sent();
    assert_near(sent[0], 5 * MIB / 2, MIB / 4);
    assert_near(sent[1], 5 * MIB / 2, MIB / 4);
    assert_near(sent[2], 5 * MIB, MIB / 4);
}

#[test]
fn an_origin_gains_nothing_by_sending_here_and_there_in_turns() {
    let mut world = World::new(Quota::default(), rate(MIB), Quota::default());
    let senders: Vec<_> = (0..50)
        .map(|tenant| {
            let meter = world.usage.enter_unnamed().meter().clone();
            Sender::new(tenant, &claimant("192.0.2.1"), meter)
        })
        .collect();
    let mut sent = 0;
    let end = world.now + 5 * SECOND;
    while world.now < end {
        // Only one tenant at a time has an item of this origin.
        for sender in &senders {
            let ticket = world.queue.enter(sender.clone(), 16 * KIB, world.today);
            while world.queue.run(world.now, world.today, &mut Vec::new()) {}
            if let Taken::Passed(Ok(())) = world.queue.poll(ticket, Waker::noop(), &mut Vec::new())
            {
                sent += 16 * KIB;
            }
            world.queue.leave(ticket);
        }
        world.now += Duration::from_millis(1);
    }
    assert_near(sent, 5 * MIB, MIB / 4);
}

#[test]
fn whoever_sends_single_bytes_does_not_have_all_turns() {
    let mut world = World::new(Quota::default(), Quota::default(), rate(MIB));
    let bytes = world.peer("192.0.2.1", 1);
    let large = world.peer("192.0.2.2", 16 * KIB);
    world.run(5 * SECOND);
    let sent = world.sent();
    assert!(
        sent[large] > 4 * MIB,
        "{} beside {}",
        sent[large],
        sent[bytes]
    );
    assert!(sent[bytes] > 1000, "{}", sent[bytes]);
}

#[test]
fn nothing_waits_for_a_rate_that_may_not_pass_today() {
    let quota = rate(KIB).with_bytes_per_day(KIB);
    let mut world = World::new(Quota::default(), quota, Quota::default());
    let link = world.peer("192.0.2.1", 64 * KIB);
    for _ in 0..3 {
        world.send();
    }
    assert_eq!(world.links[link].spent, Some(Whose::Origin));
    assert_eq!(world.links[link].sent, 64 * KIB);
    assert_eq!(world.now, world.start);
}

#[test]
fn a_tenant_that_has_spent_its_day_stops_no_other() {
    let mut world = World::new(Quota::default(), Quota::default(), day(MIB));
    let links = [0, 0, 1].map(|tenant| world.peer_of(tenant, "192.0.2.1", 64 * KIB));
    for _ in 0..12 {
        world.send();
    }
    let spent = links.map(|link| world.links[link].spent);
    assert_eq!(spent, [Some(Whose::Tenant), Some(Whose::Tenant), None]);
    let Link { sender, .. } = &world.links[0];
    let (claimant, meter) = (*sender.claimant(), sender.meter().clone());
    let spent = |tenant| {
        world
            .queue
            .spent(&claimant, Some(&meter), tenant, world.today)
    };
    assert_eq!([spent(0), spent(1)], [Some(Whose::Tenant), None]);
}

#[test]
fn a_peer_has_one_rate_wherever_it_comes_from() {
    let mut world = World::new(rate(MIB), Quota::default(), Quota::default());
    let first = world.peer("192.0.2.1", 16 * KIB);
    let meter = world.links[first].sender.meter().clone();
    world.link("192.0.2.2", meter, 16 * KIB);
    world.run(10 * SECOND);
    assert_near(world.all(), 10 * MIB, MIB / 4);
}

#[test]
fn the_peers_of_an_origin_share_its_rate_by_bytes_and_not_by_links_or_items() {
    for per_second in [128 * KIB, MIB, 100 * MIB] {
        let mut world = World::new(Quota::default(), rate(per_second), Quota::default());
        let small = world.peer("192.0.2.1", KIB);
        let large = world.peer("192.0.2.1", 64 * KIB);
        for _ in 0..9 {
            world.again(large);
        }
        world.run(5 * SECOND);
        let sent = world.sent();
        let half = 5 * per_second / 2;
        assert_near(sent[small], half, half / 8 + 64 * KIB);
        assert_near(sent[large..].iter().sum(), half, half / 8 + 64 * KIB);
    }
}

#[test]
fn origins_share_the_rate_of_all_by_weight_and_a_48_is_one_of_them() {
    for size in [KIB, 64 * KIB] {
        let mut world = World::new(Quota::default(), Quota::default(), rate(10 * MIB));
        let light = world.peer("192.0.2.1", size);
        world.peer("192.0.2.1", 64 * KIB);
        let heavy = world.peer("192.0.2.9", KIB);
        world.run(5 * SECOND);
        let sent = world.sent();
        assert_near(sent[heavy], 50 * MIB * 3 / 4, 5 * MIB);
        assert_near(sent[light], 50 * MIB / 8, MIB);
    }
    let mut world = World::new(Quota::default(), rate(MIB), Quota::default());
    for n in 0..50 {
        world.peer(&format!("2001:db8:0:{n}::1"), 4 * KIB);
    }
    let other = world.peer("2001:db8:1::1", 4 * KIB);
    world.run(5 * SECOND);
    let sent = world.sent();
    assert_near(sent[..50].iter().sum(), 20 * MIB, MIB);
    assert_near(sent[other], 5 * MIB, MIB / 4);
}

#[test]
fn what_one_does_not_use_the_others_have() {
    let mut world = World::new(rate(MIB), rate(4 * MIB), Quota::default());
    let first = world.peer("192.0.2.1", 8 * KIB);
    world.run(2 * SECOND);
    assert_near(world.links[first].sent, 2 * MIB, MIB / 4);
    for _ in 0..7 {
        world.peer("192.0.2.1", 8 * KIB);
    }
    let before = world.all();
    world.run(4 * SECOND);
    assert_near(world.all() - before, 16 * MIB, MIB);
}

#[test]
fn a_small_item_need_not_wait_for_the_large_ones_of_another_peer() {
    let mut world = World::new(Quota::default(), rate(MIB), Quota::default());
    for _ in 0..20 {
        world.peer("192.0.2.1", MIB);
    }
    world.run(3 * SECOND);
    let small = world.peer("192.0.2.1", KIB);
    // It waits at most as long as one item takes.
    world.run(SECOND + 10 * Duration::from_millis(1));
    assert!(world.links[small].sent > 0);
}

#[test]
fn the_day_of_a_peer_of_an_origin_and_of_all_is_spent_apart() {
    let none = Quota::default();
    for (quotas, whose) in [
        ([day(10 * KIB), none, none], Whose::Peer),
        ([none, day(10 * KIB), none], Whose::Origin),
        ([none, none, day(10 * KIB)], Whose::Tenant),
    ] {
        let mut world = World::new(quotas[0], quotas[1], quotas[2]);
        let first = world.peer("192.0.2.1", KIB);
        world.run(SECOND / 100);
        assert_eq!(world.links[first].spent, Some(whose));
        // The quota stays spent for the rest of the day, for those to whom it applies.
        let same = world.again(first);
        let neighbour = world.peer("192.0.2.1", KIB);
        let other = world.peer("192.0.2.2", KIB);
        world.run(SECOND / 100);
        let sent = world.sent();
        assert_eq!((sent[first], sent[same]), (10 * KIB, 0));
        let is_free = |link: usize| sent[link] == 10 * KIB;
        assert_eq!(is_free(neighbour), whose == Whose::Peer);
        assert_eq!(is_free(other), whose != Whose::Tenant);
        let sender = &world.links[first].sender;
        let (claimant, meter) = (*sender.claimant(), sender.meter().clone());
        let spent = |today| world.queue.spent(&claimant, Some(&meter), 0, today);
        assert_eq!(spent(world.today), Some(whose));
        let tomorrow = Day::of(SystemTime::now() + 24 * 60 * 60 * SECOND);
        assert_eq!(spent(tomorrow), None);
    }
}

#[test]
fn an_origin_may_send_as_much_a_day_as_it_weighs() {
    let mut world = World::new(Quota::default(), day(10 * KIB), Quota::default());
    world.peer("192.0.2.9", KIB);
    for n in 0..10 {
        world.peer(&format!("2001:db8:0:{n}::1"), KIB);
    }
    world.run(SECOND / 100);
    let sent = world.sent();
    assert_eq!(sent[0], 30 * KIB);
    assert_eq!(sent[1..].iter().sum::<u64>(), 40 * KIB);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn one_has_the_timer_and_another_takes_it_over() {
    let mut world = World::new(rate(KIB), Quota::default(), Quota::default());
    for _ in 0..3 {
        let link = world.peer("192.0.2.1", 10 * KIB);
        world.again(link);
    }
    while world.send() {}
    let waiting: Vec<_> = world.links.iter().filter_map(|link| link.waits).collect();
    assert_eq!(waiting.len(), 6);
    let wakers: Vec<_> = waiting.iter().map(|_| Arc::<Woken>::default()).collect();
    let poll = |queue: &mut Queue| {
        let mut timers = Vec::new();
        for (ticket, waker) in waiting.iter().zip(&wakers) {
            let mut woken = Vec::new();
            let waker = Waker::from(waker.clone());
            if let Taken::Waits(Some(at)) = queue.poll(*ticket, &waker, &mut woken) {
                timers.push((*ticket, at));
            }
            woken.into_iter().for_each(Waker::wake);
        }
        timers
    };
    let timers = poll(&mut world.queue);
    let [(keeper, at)] = timers[..] else {
        panic!("{timers:?}")
    };
    assert!(at > world.now);
    world.queue.leave(keeper);
    let mut woken = Vec::new();
    assert!(!world.queue.run(world.now, world.today, &mut woken));
    woken.into_iter().for_each(Waker::wake);
    let woken = wakers.iter().map(|waker| waker.0.load(Ordering::Relaxed));
    assert_eq!(
        woken.sum::<usize>(),
        1,
        "the next one is woken to take it over"
    );
    let timers = poll(&mut world.queue);
    let [(next, again)] = timers[..] else {
        panic!("{timers:?}")
    };
    assert_ne!(next, keeper);
    assert_eq!(again, at);
}

#[test]
fn whoever_is_gone_with_its_turn_holds_up_nobody() {
    let mut world = World::new(Quota::default(), rate(MIB), rate(MIB));
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let link = world.peer("192.0.2.1", KIB);
        let sender = world.links[link].sender.clone();
        tickets.push(world.queue.enter(sender, KIB, world.today));
    }
    world.links.clear();
    world.queue.run(world.now, world.today, &mut Vec::new());
    let passed = |queue: &mut Queue, ticket| {
        let taken = queue.poll(ticket, Waker::noop(), &mut Vec::new());
        taken == Taken::Passed(Ok(()))
    };
    for (n, ticket) in tickets.iter().enumerate() {
        assert!(passed(&mut world.queue, *ticket), "{n}");
        world.queue.leave(*ticket);
        while world.queue.run(world.now, world.today, &mut Vec::new()) {}
    }
}

#[derive(Debug, Clone)]
enum Op {
    Enter(usize, u64),
    Leave(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..12usize, 1..300 * KIB).prop_map(|(link, size)| Op::Enter(link, size)),
        3 => (0..1000usize).prop_map(Op::Leave),
        3 => (0..500u64).prop_map(Op::Wait),
    ]
}

fn quota() -> impl Strategy<Value = Quota> {
    prop_oneof![
        Just(Quota::default()),
        (64 * KIB..4 * MIB).prop_map(rate),
        (MIB..100 * MIB).prop_map(day),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever enters and leaves in whatever order, every item that waits has its turn in the end, and nothing is left
    /// of items that are gone.
    #[test]
    fn nobody_waits_for_ever_and_nothing_is_left(
        quotas in [quota(), quota(), quota()],
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let mut world = World::new(quotas[0], quotas[1], quotas[2]);
        let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1"];
        for n in 0..12 {
            world.peer(ips[n % ips.len()], KIB);
        }
        let senders: Vec<_> = world.links.drain(..).map(|link| link.sender).collect();
        let mut open: Vec<Ticket> = Vec::new();
        for op in ops {
            match op {
                Op::Enter(n, size) => open.push(world.queue.enter(senders[n].clone(), size, world.today)),
                Op::Leave(n) if !open.is_empty() => {
                    let ticket = open.swap_remove(n % open.len());
                    world.queue.leave(ticket);
                }
                Op::Leave(_) => {}
                Op::Wait(ms) => world.now += Duration::from_millis(ms),
            }
            while world.queue.run(world.now, world.today, &mut Vec::new()) {}
        }
        // An item that has its turn leaves, and its sender sends nothing more.
        for _ in 0..10_000 {
            if open.is_empty() && world.queue.parked.is_empty() {
                break;
            }
            let mut passed = HashSet::new();
            for ticket in &open {
                let taken = world.queue.poll(*ticket, Waker::noop(), &mut Vec::new());
                if let Taken::Passed(_) = taken {
                    passed.insert(*ticket);
                    world.queue.leave(*ticket);
                }
            }
            open.retain(|ticket| !passed.contains(ticket));
            world.now += Duration::from_millis(100);
            while world.queue.run(world.now, world.today, &mut Vec::new()) {}
        }
        prop_assert!(open.is_empty(), "{} wait", open.len());
        let Queue { items, waiting, parked, lanes, places, .. } = &world.queue;
        prop_assert!(items.is_empty() && waiting.is_empty() && parked.is_empty());
        prop_assert!(places.0.is_empty());
        let left: usize = lanes.values().map(Lane::left).sum();
        prop_assert!(left <= senders.len(), "{left}");
    }

    /// No more passes than the rate, a burst and an item, and no less than the rate where there is always more to send.
    #[test]
    fn a_rate_is_never_exceeded_and_always_used(
        per_second in 64 * KIB..4 * MIB,
        sizes in proptest::collection::vec(1..256 * KIB, 1..6),
        level in 0..3usize,
        seconds in 1..8u32,
    ) {
        let mut quotas = [Quota::default(); 3];
        quotas[level] = rate(per_second);
        let mut world = World::new(quotas[0], quotas[1], quotas[2]);
        let first = world.peer("192.0.2.1", sizes[0]);
        for size in &sizes[1..] {
            let meter = world.links[first].sender.meter().clone();
            world.link("192.0.2.1", meter, *size);
        }
        world.run(SECOND * seconds);
        let time = world.now - world.start;
        let longest = *sizes.iter().max().expect("one");
        let most = (per_second as f64 * (time + BURST).as_secs_f64()) as u64 + longest;
        let least = (per_second as f64 * time.as_secs_f64()) as u64;
        prop_assert!(world.all() <= most, "{} of {most}", world.all());
        prop_assert!(world.all() + per_second / 100 >= least, "{} of {least}", world.all());
    }
}
