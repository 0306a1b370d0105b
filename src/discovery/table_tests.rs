use std::{collections::BTreeSet, ops::Range};

use super::*;
use crate::address::StarAddr;

const INTERVAL: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(20 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn rendezvous(number: usize) -> Rendezvous {
    let star = format!("/dns4/star{number}/tcp/80/ws/p2p-websocket-star");
    let star: StarAddr = star.parse().expect("valid");
    star.rendezvous().clone()
}

fn peer(number: usize) -> PeerId {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    let hash = multiaddr::multihash::Multihash::wrap(0x12, &digest).expect("32 bytes fit");
    PeerId::from_multihash(hash).expect("SHA2-256")
}

/// A table on simulated time, with rendezvous whose announcements the test controls.
struct World {
    table: Table,
    here: Rendezvous,
    now: Instant,
    discovered: usize,
    expired: Vec<PeerId>,
}

impl World {
    fn new(capacity: usize) -> Self {
        Self {
            table: Table::new(peer(usize::MAX), INTERVAL, capacity),
            here: rendezvous(0),
            now: Instant::now(),
            discovered: 0,
            expired: Vec::new(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let expired = self.table.expire(self.now);
        self.expired.extend(expired.iter().map(|key| key.peer));
    }

    /// Returns the number of addresses that gave way.
    fn announce_at(&mut self, number: usize, listening: bool, who: PeerId) -> usize {
        let place = Place {
            rendezvous: &rendezvous(number),
            listening,
        };
        let listed = self
            .table
            .announce(place, who, Multiaddr::empty(), self.now);
        self.discovered += usize::from(listed.is_some());
        listed.map_or(0, |listed| listed.gave_way.len())
    }

    /// Announces a peer at a rendezvous at which this node listens.
    fn announce(&mut self, number: usize) {
        let place = Place {
            rendezvous: &self.here,
            listening: true,
        };
        let address = Multiaddr::empty();
        let listed = self.table.announce(place, peer(number), address, self.now);
        self.discovered += usize::from(listed.is_some());
    }

    /// Announces the peers in turn, each once in `round`, for `count` rounds.
    fn rounds(&mut self, count: usize, round: Duration, peers: Range<usize>) {
        self.some_of_rounds(count, round, peers, |_| true);
    }

    fn some_of_rounds(
        &mut self,
        count: usize,
        round: Duration,
        peers: Range<usize>,
        mut is_announced: impl FnMut(usize) -> bool,
    ) {
        let pause = round / u32::try_from(peers.len()).expect("few");
        for number in std::iter::repeat_n(peers, count).flatten() {
            if is_announced(number) {
                self.announce(number);
            }
            self.wait(pause);
        }
    }

    /// Waits until an address expires. Returns how long that took, to the second.
    fn until_expired(&mut self) -> Duration {
        let (before, start) = (self.expired.len(), self.now);
        while self.expired.len() == before {
            assert!(self.now - start <= DAY, "it never expires");
            self.wait(secs(1));
        }
        self.now - start
    }

    fn listed(&self) -> usize {
        self.table.len()
    }
}

#[test]
fn an_address_is_listed_once_and_expires_three_rounds_after_its_last_announcement() {
    let mut world = World::new(4);
    for _ in 0..10 {
        world.announce(1);
        world.wait(INTERVAL);
    }
    assert_eq!((world.discovered, world.listed()), (1, 1));
    world.wait(INTERVAL * 2 - secs(1));
    assert_eq!(world.listed(), 1);
    let expiry = world.table.next_expiry(world.now);
    assert_eq!(expiry, Some(world.now + secs(1)));
    world.wait(secs(1));
    assert_eq!(world.expired, [peer(1)]);
    assert_eq!(world.table.next_expiry(world.now), None);
}

#[test]
fn the_local_peers_addresses_never_get_in() {
    let mut world = World::new(4);
    world.announce(usize::MAX);
    assert_eq!((world.discovered, world.listed()), (0, 0));
}

#[test]
fn whoever_is_announced_stays_and_whoever_left_expires_after_three_rounds() {
    for (round, peers) in [(INTERVAL, 100), (secs(60), 200), (SLOW, 1_000)] {
        let mut world = World::new(16_384);
        world.rounds(6, round, 0..peers);
        assert_eq!((world.discovered, world.expired.len()), (peers, 0));
        // The first peer has left. It was announced one round ago.
        world.rounds(1, round, 1..peers);
        assert_eq!(world.expired, []);
        world.rounds(1, round, 1..peers);
        world.wait(round / 100);
        assert_eq!(world.expired, [peer(0)], "{round:?}");
    }
}

#[test]
fn before_a_rendezvous_has_shown_its_pace_an_address_is_listed_for_a_day_at_most() {
    let mut world = World::new(4);
    world.announce(1);
    assert_eq!(world.until_expired(), SLOW * 3, "never repeated");

    let mut world = World::new(4);
    world.announce(1);
    // As with the answer to the join and the first announcement, this gap says nothing about the pace.
    world.wait(secs(7));
    world.announce(1);
    assert_eq!(world.until_expired(), secs(7 * 120), "repeated once");

    // Other peers come, but no round is completed.
    let mut world = World::new(1_000);
    world.rounds(1, DAY - secs(1), 0..100);
    assert_eq!(world.expired, []);
    world.rounds(1, SLOW, 100..200);
    assert_eq!(world.expired, [0, 1].map(peer));
}

#[test]
fn however_slow_the_pace_an_address_is_listed_for_a_day_at_most() {
    let mut world = World::new(1_000);
    world.rounds(4, DAY / 2, 0..100);
    assert_eq!(world.expired, []);
    world.rounds(1, DAY / 2, 1..100);
    world.wait(secs(1));
    assert_eq!(world.expired, [peer(0)]);
}

#[test]
fn a_repetition_at_once_is_no_pace() {
    let mut world = World::new(4);
    for pause in [60, 0, 0, 60, 0, 60] {
        world.announce(1);
        world.wait(secs(pause));
        world.announce(1);
        world.announce(1);
    }
    assert_eq!(world.until_expired(), secs(180));
}

#[test]
fn lost_announcements_and_lost_rounds_expire_nobody() {
    let mut world = World::new(1_000);
    world.rounds(4, INTERVAL, 0..100);
    // One announcement in five is lost, at random.
    let mut random = 1_u32;
    world.some_of_rounds(20, INTERVAL, 0..100, |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        !(random >> 16).is_multiple_of(5)
    });
    for _ in 0..5 {
        world.some_of_rounds(2, INTERVAL, 0..100, |_| false);
        world.rounds(2, INTERVAL, 0..100);
    }
    assert_eq!((world.discovered, world.expired.len()), (100, 0));
}

#[test]
fn what_a_rendezvous_cannot_repeat_in_time_any_more_does_not_expire() {
    let mut world = World::new(16_384);
    world.rounds(6, INTERVAL, 0..10);
    // Many peers come at once. From then on a round takes much longer.
    for number in 10..1_000 {
        world.announce(number);
        world.wait(Duration::from_millis(2));
    }
    world.rounds(4, SLOW, 0..1_000);
    assert_eq!((world.discovered, world.expired.len()), (1_000, 0));
    // Then the rounds become short again.
    world.rounds(4, INTERVAL, 0..10);
    assert_eq!(world.expired, []);
    world.rounds(500, INTERVAL, 0..10);
    assert_eq!(world.listed(), 10);
}

#[test]
fn however_many_leave_at_once_they_expire_after_three_rounds() {
    for stay in [1, 10, 500] {
        let mut world = World::new(16_384);
        world.rounds(4, INTERVAL, 0..1_000);
        world.some_of_rounds(3, INTERVAL, 0..1_000, |n| n < stay);
        assert_eq!((world.listed(), world.expired.len()), (stay, 1_000 - stay));
    }
}

#[test]
fn those_that_left_expire_while_only_newcomers_without_room_are_announced() {
    let mut world = World::new(100);
    world.rounds(4, INTERVAL, 0..100);
    world.rounds(4, INTERVAL, 100..200);
    assert_eq!(world.expired.len(), 100);
}

#[test]
fn a_slower_rendezvous_with_a_peer_that_joins_again_and_again_expires_nobody() {
    let mut world = World::new(1_000);
    world.rounds(4, INTERVAL, 0..100);
    // From now on a round takes six times as long.
    for second in 0..600 {
        for n in 0..100 {
            if n * 60 / 100 == second % 60 {
                world.announce(n);
            }
        }
        if second % 6 == 0 {
            world.announce(1_000);
        }
        world.wait(secs(1));
    }
    assert_eq!((world.discovered, world.expired.len()), (101, 0));
}

#[test]
fn when_a_rendezvous_falls_silent_all_expire() {
    let mut world = World::new(1_000);
    world.rounds(4, INTERVAL, 0..100);
    world.wait(INTERVAL * 2);
    assert_eq!(world.expired, []);
    world.wait(INTERVAL);
    assert_eq!((world.expired.len(), world.listed()), (100, 0));
}

#[test]
fn a_peer_that_joins_again_and_again_does_not_hide_the_pace_of_the_others() {
    let mut world = World::new(1_000);
    let mut next = 0;
    for second in 0..4 * SLOW.as_secs() {
        if second % 12 == 0 {
            world.announce(next % 100);
            next += 1;
        }
        world.announce(1_000);
        world.wait(secs(1));
    }
    assert_eq!((world.discovered, world.expired.len()), (101, 0));
}

/// A rendezvous that announces each honest peer once in `round` seconds. Other peers join again and again. Each element
/// of `flap` is such a peer's first pause in seconds, and the factor by which each pause grows, up to an hour.
fn with_flappers(
    world: &mut World,
    secs_in_all: usize,
    honest: Range<usize>,
    round: usize,
    flap: &[(usize, u32)],
) {
    let mut pauses: Vec<_> = flap
        .iter()
        .map(|&(pause, growth)| (0, pause, growth))
        .collect();
    for second in 0..secs_in_all {
        for n in honest.clone().filter(|n| n % round == second % round) {
            world.announce(n);
        }
        for (n, (next, pause, growth)) in pauses.iter_mut().enumerate() {
            if second == *next {
                world.announce(1_000 + n);
                *next += *pause;
                *pause = (*pause * *growth as usize).min(3_600);
            }
        }
        world.wait(secs(1));
    }
}

#[test]
fn peers_that_come_rarely_do_not_make_the_others_stay() {
    // One of four peers, and a third of thirty.
    for (honest, flappers, growth, time) in [(3, 1, 1, 45), (20, 10, 2, 130)] {
        let mut world = World::new(1_000);
        let flap = vec![(25, growth); flappers];
        with_flappers(&mut world, 6_000, 0..honest, 10, &flap);
        let before = world.expired.len();
        assert!(
            world
                .expired
                .iter()
                .all(|p| (0..honest).all(|n| peer(n) != *p))
        );
        // The first peer has left.
        with_flappers(&mut world, time, 1..honest, 10, &[]);
        assert!(world.expired[before..].contains(&peer(0)), "{honest}");
        assert!(!world.expired.contains(&peer(1)));
    }
}

#[test]
fn peers_that_come_quickly_do_not_make_slowly_repeated_ones_expire() {
    let mut world = World::new(1_000);
    with_flappers(&mut world, 600, 0..10, 60, &[]);
    with_flappers(&mut world, 3_600, 0..10, 60, &[(6, 1); 200]);
    assert_eq!(world.expired, []);
    // They still expire after they have left, after three of their own rounds.
    with_flappers(&mut world, 181, 1..10, 60, &[(6, 1); 200]);
    assert_eq!(world.expired, [peer(0)]);
}

#[test]
fn in_a_full_table_who_is_known_stays_and_newcomers_wait_for_room() {
    const ROOM: usize = 16_384;
    const PEERS: usize = 17_000;
    let mut world = World::new(ROOM);
    world.rounds(4, SLOW, 0..PEERS);
    assert_eq!((world.discovered, world.expired.len()), (ROOM, 0));
    // A hundred peers leave, and a hundred of the waiting ones take their places.
    world.rounds(4, SLOW, 100..PEERS);
    assert_eq!((world.discovered, world.expired.len()), (ROOM + 100, 100));
    let left: BTreeSet<_> = (0..100).map(peer).collect();
    assert_eq!(world.expired.drain(..).collect::<BTreeSet<_>>(), left);
}

#[test]
fn rendezvous_that_strangers_chose_take_no_room_from_others_and_little_in_all() {
    const ROOM: usize = 1_600;
    let mut world = World::new(ROOM);
    for n in 0..1_000 {
        world.announce(n);
    }
    for rogue in 1..20 {
        for n in 0..2_000 {
            world.announce_at(rogue, false, peer(10_000 * rogue + n));
        }
        assert_eq!(world.listed(), 1_000 + (rogue * ROOM / 16).min(ROOM / 4));
    }
    // Other rendezvous at which this node listens still have all of their room.
    for n in 1_000..2_000 {
        world.announce(n);
    }
    for n in 0..2_000 {
        world.announce_at(100, true, peer(n));
    }
    assert_eq!(world.listed(), ROOM + ROOM / 4 + ROOM);
    world.rounds(4, INTERVAL, 0..ROOM);
    // The rogues' peers may expire, because they are not repeated.
    assert!(
        !world
            .expired
            .iter()
            .any(|p| (0..ROOM).any(|n| peer(n) == *p))
    );
}

#[test]
fn guests_that_fill_their_room_give_way_to_those_with_fewer() {
    const ROOM: usize = 1_600;
    let mut world = World::new(ROOM);
    for rogue in 1..=4 {
        for n in 0..ROOM {
            world.announce_at(rogue, false, peer(10_000 * rogue + n));
        }
    }
    assert_eq!(world.listed(), ROOM / 4);
    let mut gave_way = 0;
    for n in 0..60 {
        gave_way += world.announce_at(5, false, peer(n));
    }
    assert_eq!((gave_way, world.listed()), (60, ROOM / 4));
    // In the end their shares are equal, and no guest takes room from another one.
    for n in 0..2_000 {
        world.announce_at(5, false, peer(n));
    }
    gave_way = 0;
    for (n, at) in (0..2_000).flat_map(|n| (1..=5).map(move |at| (n, at))) {
        gave_way += world.announce_at(at, false, peer(100_000 * at + n));
    }
    assert_eq!((gave_way, world.listed()), (0, ROOM / 4));
}

#[test]
fn a_guest_without_a_link_gives_way_and_is_forgotten_whatever_pace_it_showed() {
    const ROOM: usize = 1_600;
    let mut world = World::new(ROOM);
    for _ in 0..4 {
        for (n, at) in (0..100).flat_map(|n| (1..=4).map(move |at| (n, at))) {
            world.announce_at(at, false, peer(1_000 * at + n));
        }
        world.wait(SLOW * 2);
    }
    assert_eq!((world.listed(), world.expired.len()), (400, 0));
    world.table.close(&rendezvous(1), world.now);
    // Only the closed guest gives way, although the others become larger than it.
    for n in 0..100 {
        assert_eq!(world.announce_at(5, false, peer(n)), 1);
    }
    assert_eq!(world.table.retract(&rendezvous(1), &peer(1_000)), None);
    world.table.close(&rendezvous(2), world.now);
    world.wait(INTERVAL * 3 - secs(1));
    assert_eq!(world.expired, []);
    world.wait(secs(1));
    assert_eq!((world.listed(), world.expired.len()), (300, 100));
}

#[test]
fn a_peer_that_strangers_give_eight_addresses_takes_that_of_a_closed_guest() {
    let mut world = World::new(1_000);
    for rogue in 1..=MAX_ADDRESSES {
        world.announce_at(rogue, false, peer(1));
    }
    assert_eq!(world.announce_at(9, false, peer(1)), 0);
    world.table.close(&rendezvous(3), world.now);
    assert_eq!(world.announce_at(9, false, peer(1)), 1);
    assert_eq!(world.listed(), MAX_ADDRESSES);
    assert!(world.table.retract(&rendezvous(9), &peer(1)).is_some());
}

#[test]
fn strangers_can_give_a_peer_no_more_than_eight_addresses() {
    let mut world = World::new(1_000);
    for rogue in 1..20 {
        world.announce_at(rogue, false, peer(1));
    }
    assert_eq!(world.listed(), MAX_ADDRESSES);
    // At a rendezvous at which this node listens, the peer is listed in any case.
    world.announce(1);
    assert_eq!(world.listed(), MAX_ADDRESSES + 1);
}

#[test]
fn a_peer_that_is_not_found_is_taken_off_there_and_nowhere_else() {
    let mut world = World::new(4);
    for at in 0..2 {
        world.announce_at(at, true, peer(1));
    }
    let key = world.table.retract(&rendezvous(1), &peer(1));
    assert_eq!(key.map(|key| key.peer), Some(peer(1)));
    assert_eq!(world.listed(), 1);
    assert_eq!(world.table.retract(&rendezvous(1), &peer(1)), None);
    assert_eq!(world.table.retract(&rendezvous(2), &peer(1)), None);
}

#[test]
fn without_its_link_the_peers_of_a_rendezvous_expire_and_nothing_is_left_of_it() {
    let mut world = World::new(4);
    world.announce_at(1, false, peer(1));
    world.announce(2);
    world.table.close(&rendezvous(1), world.now);
    world.table.close(&rendezvous(2), world.now);
    assert_eq!(world.until_expired(), INTERVAL * 3);
    assert_eq!((world.listed(), world.table.parts()), (1, 1));
    // A rendezvous with a new link counts by its own announcements.
    world.table.close(&rendezvous(0), world.now);
    world.announce(2);
    assert_eq!(world.until_expired(), SLOW * 3);
}

#[test]
fn an_interval_of_zero_and_a_capacity_of_zero_count_as_little() {
    let mut table = Table::new(peer(0), Duration::ZERO, 0);
    assert_eq!(table.recheck(), INTERVALS[0]);
    let (place, now) = (rendezvous(1), Instant::now());
    for number in 1..3 {
        let place = Place {
            rendezvous: &place,
            listening: true,
        };
        table.announce(place, peer(number), Multiaddr::empty(), now);
    }
    assert_eq!(table.len(), 1);
    let forever = Table::new(peer(0), Duration::MAX, 1);
    assert_eq!(forever.recheck(), INTERVALS[1]);
}
