use std::{collections::HashMap, net::IpAddr};

use super::*;
use crate::rendezvous::origin::Weights;

const INTERVAL: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn claimant(ip: &str) -> Claimant {
    let ip: IpAddr = ip.parse().expect("an address");
    Weights::default().claimant(ip)
}

/// An audience of `links` links, all of which are paid for.
fn all(links: usize) -> Audience {
    Audience {
        links,
        paid: links,
        others: 0,
    }
}

fn one() -> Claimant {
    claimant("192.0.2.1")
}

/// The turns, with what has to be known of each peer.
struct Schedule {
    turns: Turns,
    peers: HashMap<Arc<str>, (Claimant, Turn)>,
    links: usize,
}

impl Schedule {
    fn new(rate: usize, links: usize) -> Self {
        Self {
            turns: Turns::new(INTERVAL, rate),
            peers: HashMap::new(),
            links,
        }
    }

    fn join(&mut self, claimant: &Claimant, address: &str, now: Instant) {
        let address: Arc<str> = address.into();
        let turn = self.turns.add_news(claimant, address.clone(), now);
        self.peers.insert(address, (*claimant, turn));
    }

    fn leave(&mut self, address: &str) {
        let (claimant, turn) = self.peers.remove(address).expect("joined");
        self.turns.remove(claimant.origin, turn);
    }

    fn poll(&mut self, now: Instant) -> Vec<Arc<str>> {
        let called = self.turns.poll(all(self.links), now);
        let addresses = called.into_iter().map(|Called { address, turn }| {
            let (claimant, next) = self.peers.get_mut(&address).expect("joined");
            let due = (turn.due + INTERVAL).max(now);
            *next = self.turns.again(claimant.origin, address.clone(), due);
            address
        });
        addresses.collect()
    }

    fn text(&mut self, now: Instant) -> String {
        self.poll(now).concat()
    }

    fn timeout(&self) -> Option<Instant> {
        self.turns.poll_timeout(self.links)
    }

    /// Returns how often the peers of each origin are called within `time`.
    fn run(&mut self, from: Instant, time: Duration) -> HashMap<Origin, usize> {
        let mut called = HashMap::new();
        while let Some(now) = self.timeout().filter(|at| *at < from + time) {
            let polled = self.poll(now);
            for address in polled {
                let (claimant, _) = self.peers[&address];
                *called.entry(claimant.origin).or_default() += 1;
            }
        }
        called
    }
}

#[test]
fn each_peer_is_repeated_every_interval_from_its_join_on() {
    let mut schedule = Schedule::new(usize::MAX, 2);
    let start = Instant::now();
    schedule.join(&one(), "a", start);
    assert_eq!(schedule.text(start), "a");
    schedule.join(&one(), "b", start + INTERVAL / 2);
    assert_eq!(schedule.text(start + INTERVAL / 2), "b");
    for round in 1..4 {
        let at = start + INTERVAL * round;
        assert_eq!(schedule.timeout(), Some(at));
        assert_eq!(schedule.text(at - SECOND / 20), "");
        assert_eq!(schedule.text(at), "a");
        assert_eq!(schedule.text(at + INTERVAL / 2), "b");
    }
}

#[test]
fn few_links_hear_of_each_newcomer_at_once_and_many_hear_of_several_together() {
    let start = Instant::now();
    let mut few = Schedule::new(usize::MAX, FEW);
    for address in ["a", "b"] {
        few.join(&one(), address, start);
        assert_eq!(few.text(start), address);
    }
    for (links, pause) in [(FEW + 1, NEWS_PAUSE), (20_000, SECOND)] {
        let mut many = Schedule::new(usize::MAX, links);
        many.join(&one(), "a", start);
        assert_eq!(many.timeout(), Some(start));
        assert_eq!(many.text(start), "a");
        for address in ["b", "c", "d"] {
            many.join(&one(), address, start);
        }
        many.leave("c");
        assert_eq!(many.text(start + pause / 2), "");
        assert_eq!(many.timeout(), Some(start + pause));
        assert_eq!(many.text(start + pause), "bd");
    }
}

#[test]
fn repeats_that_are_due_within_a_second_go_together_and_keep_their_pace() {
    let mut schedule = Schedule::new(usize::MAX, 1);
    let start = Instant::now();
    let after = |ms| start + Duration::from_millis(ms);
    for (n, address) in (0..).zip(["a", "b", "c"]) {
        schedule.join(&one(), address, after(n * 100));
        schedule.poll(after(n * 100));
    }
    for round in [10_000, 20_000, 30_000] {
        assert_eq!(schedule.timeout(), Some(after(round)));
        assert_eq!(schedule.text(after(round)), "a");
        assert_eq!(schedule.timeout(), Some(after(round + 1000)));
        assert_eq!(schedule.text(after(round + 1000)), "bc");
    }
}

#[test]
fn beyond_the_rate_every_peer_still_gets_its_turn_and_no_more_bytes_go_out() {
    // Each announcement takes a second of the rate.
    let mut schedule = Schedule::new(5, 1);
    let start = Instant::now();
    let peers: Vec<String> = ('a'..='z').map(String::from).collect();
    for peer in &peers {
        schedule.join(&one(), peer, start);
    }
    let (mut now, mut seen) = (start, String::new());
    while seen.len() < 4 * peers.len() {
        now = schedule.timeout().expect("scheduled");
        seen += &schedule.text(now);
    }
    for peer in &peers {
        let times = seen.matches(peer.as_str()).count();
        assert!((3..=5).contains(&times), "{peer} in {seen}");
    }
    let paid = SECOND * u32::try_from(seen.len() - 2).expect("few");
    assert!(now - start >= paid, "{:?} for {}", now - start, seen.len());
}

/// There are 5,000 peers of 50 origins, with and without 16,000 peers of one address.
#[test]
fn an_origin_with_very_many_peers_hardly_delays_the_others() {
    let start = Instant::now();
    let honest = |schedule: &mut Schedule| {
        for n in 0..5000 {
            let claimant = claimant(&format!("192.0.2.{}", n % 50));
            let address = format!("{n:0140}");
            schedule.join(&claimant, &address, start);
        }
    };
    let all = |called: &HashMap<Origin, usize>| -> usize {
        let mine = claimant("203.0.113.1").origin;
        called
            .iter()
            .filter(|(o, _)| **o != mine)
            .map(|(_, n)| n)
            .sum()
    };
    let rate = 16 * 1024 * 1024;
    let mut alone = Schedule::new(rate, 5000);
    honest(&mut alone);
    let before = all(&alone.run(start, SECOND * 1000));
    let mut attacked = Schedule::new(rate, 6000);
    for n in 0..16_000 {
        let address = format!("{n:0139}x");
        attacked.join(&claimant("203.0.113.1"), &address, start);
    }
    honest(&mut attacked);
    let after = all(&attacked.run(start, SECOND * 1000));
    let slower = before as f64 / after as f64;
    assert!((0.9..1.15).contains(&slower), "{slower}");
}

#[test]
fn newcomers_of_one_origin_do_not_hold_up_those_of_another() {
    // The rate allows ten announcements a second.
    let mut schedule = Schedule::new(144 * 1000 * 10, 1000);
    let start = Instant::now();
    for n in 0..10_000 {
        schedule.join(&claimant("203.0.113.1"), &format!("{n:0140}"), start);
    }
    schedule.run(start, SECOND * 60);
    let now = start + SECOND * 60;
    let newcomer = format!("{:0140}", 1_000_000);
    schedule.join(&claimant("192.0.2.1"), &newcomer, now);
    let called = schedule.run(now, SECOND);
    assert_eq!(called.get(&claimant("192.0.2.1").origin), Some(&1));
}

#[test]
fn newcomers_of_an_origin_do_not_stop_the_repeats_of_their_neighbours() {
    // The rate allows ten announcements a second.
    let mut schedule = Schedule::new(144 * 1000 * 10, 1000);
    let start = Instant::now();
    let neighbour = format!("{:0140}", 1_000_000);
    schedule.join(&one(), &neighbour, start);
    for n in 0..10_000 {
        schedule.join(&one(), &format!("{n:0140}"), start);
    }
    let (mut now, mut repeats) = (start, 0);
    while now < start + SECOND * 60 {
        let called = schedule.poll(now);
        repeats += called
            .iter()
            .filter(|address| ***address == *neighbour)
            .count();
        now = schedule.timeout().expect("scheduled");
    }
    // It is announced as a newcomer first. Later, the newcomers that have become repeats take turns with it.
    assert!(repeats >= 2, "{repeats}");
}

#[test]
fn nothing_is_left_of_those_who_left() {
    let mut schedule = Schedule::new(usize::MAX, 1);
    let start = Instant::now();
    schedule.join(&one(), "a", start);
    schedule.join(&claimant("192.0.2.2"), "b", start);
    schedule.leave("a");
    assert_eq!(schedule.text(start), "b");
    schedule.leave("b");
    assert_eq!(schedule.turns.len(), 0);
    assert_eq!(schedule.timeout(), None);
    assert!(schedule.turns.origins.is_empty() && schedule.turns.asleep.is_empty());
    assert!(schedule.turns.fair.is_empty());
}

#[test]
fn no_interval_and_no_number_of_links_overflows() {
    let start = Instant::now();
    for (interval, links) in [(Duration::MAX, 1), (Duration::ZERO, usize::MAX)] {
        let mut turns = Turns::new(interval, 1);
        turns.add_news(&one(), "a".into(), start);
        assert_eq!(turns.poll(all(links), start).len(), 1);
        turns.again(one().origin, "a".into(), start + turns.interval());
        assert!(turns.poll_timeout(links) > Some(start));
    }
}

#[test]
fn newcomers_beyond_the_rate_are_gathered_as_repeats_are_and_others_at_once() {
    let start = Instant::now();
    // The rate allows 20 announcements a second.
    let mut schedule = Schedule::new(200_000, 1000);
    for n in 100..400 {
        schedule.join(&one(), &format!("/a/{n}"), start);
    }
    let (mut times, mut told) = (0, 0);
    while let Some(now) = schedule.timeout().filter(|at| *at < start + 10 * SECOND) {
        times += 1;
        told += schedule.poll(now).len();
    }
    assert!((200..=240).contains(&told), "{told}");
    assert!(times <= 12, "{times}");
    // When the rate suffices again, no newcomer waits.
    let mut schedule = Schedule::new(200_000, 1000);
    schedule.join(&one(), "/a/100", start);
    assert_eq!(schedule.timeout(), Some(start));
    schedule.poll(start);
    schedule.join(&one(), "/a/101", start);
    assert_eq!(schedule.timeout(), Some(start + NEWS_PAUSE));
}
