//! When which peer is announced to the others.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long newcomers are gathered before they are announced: one write to each link tells of all of
/// them. A newcomer that comes alone is announced at once.
const NEWCOMER_PAUSE: Duration = Duration::from_millis(50);
/// How long repeats are gathered, for the same reason. That late a peer may be repeated.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
/// The part of the interval that repeats may be late at most, where the interval is short.
const LATENESS: u32 = 10;
/// So many repeats go together even if they use up the rate for a while: with thousands of links it
/// is the writes that cost, not the bytes.
const TOGETHER: usize = 32;
/// The time that repeats to very many may use up at most, so that a clock never overflows.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// What a frame takes beside its text.
const FRAME: usize = 4;

/// Whose turn it is: newcomers as soon as possible; and each peer once an interval from its join on,
/// as the npm server has it, as long as the rate of bytes allows. Beyond it the same order goes on
/// more slowly.
#[derive(Debug)]
pub(super) struct Announcements {
    interval: Duration,
    /// Bytes a second.
    rate: usize,
    /// The number of the next turn.
    next: u64,
    /// In the order of their joins.
    newcomers: BTreeMap<u64, Arc<str>>,
    /// When newcomers may be announced next.
    newcomers_at: Option<Instant>,
    /// All peers, by the time of the next repeat.
    repeats: BTreeMap<Turn, Arc<str>>,
    /// When repeats may go out next: the pause is over, and so is what the last ones used up.
    repeats_at: Option<Instant>,
}

/// When a peer is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    due: Instant,
    /// Of those that are due at the same time, who was scheduled first comes first.
    number: u64,
    /// The number of its first turn, which tells newcomers apart.
    join: u64,
}

/// A peer whose turn has come, and its next turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) address: Arc<str>,
    pub(super) turn: Turn,
}

impl Announcements {
    pub(super) fn new(interval: Duration, rate: usize) -> Self {
        Self {
            interval,
            rate,
            next: 0,
            newcomers: BTreeMap::new(),
            newcomers_at: None,
            repeats: BTreeMap::new(),
            repeats_at: None,
        }
    }

    /// Has a newcomer announced; gives its first turn to be repeated.
    pub(super) fn add(&mut self, address: Arc<str>, now: Instant) -> Turn {
        if self.newcomers.is_empty() {
            self.newcomers_at = self.newcomers_at.max(Some(now));
        }
        let join = self.next;
        let turn = self.turn(now + self.interval, join);
        self.newcomers.insert(join, address.clone());
        self.repeats.insert(turn, address);
        turn
    }

    fn turn(&mut self, due: Instant, join: u64) -> Turn {
        let number = self.next;
        self.next += 1;
        Turn { due, number, join }
    }

    /// Forgets a peer that has left.
    pub(super) fn remove(&mut self, turn: Turn) {
        self.newcomers.remove(&turn.join);
        self.repeats.remove(&turn);
    }

    /// The newcomers, if they have been gathered for long enough.
    pub(super) fn poll_newcomers(&mut self, now: Instant) -> Vec<Arc<str>> {
        if self.newcomers.is_empty() || self.newcomers_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.newcomers_at = Some(now + NEWCOMER_PAUSE);
        std::mem::take(&mut self.newcomers).into_values().collect()
    }

    /// The peers whose turn has come to be repeated to so many links.
    pub(super) fn poll_repeats(&mut self, links: usize, now: Instant) -> Vec<Repeat> {
        let mut repeats = Vec::new();
        if self.repeats_at.is_some_and(|at| at > now) {
            return repeats;
        }
        let pause = REPEAT_PAUSE.min(self.interval / LATENESS);
        let mut spent = Duration::ZERO;
        while (repeats.len() < TOGETHER || spent < pause)
            && let Some(first) = self.repeats.first_entry()
            && first.key().due <= now
        {
            let (last, address) = first.remove_entry();
            spent = (spent + self.price(&address, links)).min(MAX_PAUSE);
            // On time again if it was a little late, and behind all others if it was very late.
            let turn = self.turn((last.due + self.interval).max(now), last.join);
            repeats.push(Repeat { address, turn });
        }
        for Repeat { address, turn } in &repeats {
            self.repeats.insert(*turn, address.clone());
        }
        if !repeats.is_empty() {
            self.repeats_at = Some(now + spent.max(pause));
        }
        repeats
    }

    /// The time that the announcement of an address uses up.
    fn price(&self, address: &str, links: usize) -> Duration {
        let bytes = (address.len() + FRAME) as f64 * links as f64;
        Duration::try_from_secs_f64(bytes / self.rate as f64)
            .map_or(MAX_PAUSE, |p| p.min(MAX_PAUSE))
    }

    /// When there is something to poll.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let newcomers = self.newcomers_at.filter(|_| !self.newcomers.is_empty());
        let repeats = self.repeats.first_key_value();
        let repeats =
            repeats.map(|(first, _)| self.repeats_at.map_or(first.due, |at| at.max(first.due)));
        newcomers.into_iter().chain(repeats).min()
    }

    /// All peers, the latest first: those that were announced last, and before them those that are
    /// about to be.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Arc<str>> {
        self.repeats.values().rev()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.repeats.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const PER_SECOND: usize = 1;

    fn repeated(announcements: &mut Announcements, links: usize, now: Instant) -> String {
        let repeats = announcements.poll_repeats(links, now).into_iter();
        repeats.map(|repeat| repeat.address.to_string()).collect()
    }

    #[test]
    fn each_peer_is_repeated_every_interval_from_its_join_on() {
        let mut announcements = Announcements::new(INTERVAL, usize::MAX);
        let start = Instant::now();
        announcements.add("a".into(), start);
        announcements.add("b".into(), start + INTERVAL / 2);
        assert_eq!(announcements.poll_newcomers(start).len(), 2);
        for round in 1..4 {
            let at = start + INTERVAL * round;
            assert_eq!(announcements.poll_timeout(), Some(at));
            assert_eq!(repeated(&mut announcements, 2, at - NEWCOMER_PAUSE), "");
            assert_eq!(repeated(&mut announcements, 2, at), "a");
            assert_eq!(repeated(&mut announcements, 2, at + INTERVAL / 2), "b");
        }
    }

    #[test]
    fn a_lone_newcomer_is_announced_at_once_and_several_are_gathered() {
        let mut announcements = Announcements::new(INTERVAL, usize::MAX);
        let start = Instant::now();
        announcements.add("a".into(), start);
        assert_eq!(announcements.poll_timeout(), Some(start));
        assert_eq!(announcements.poll_newcomers(start), ["a".into()]);
        announcements.add("b".into(), start);
        let left = announcements.add("c".into(), start);
        announcements.add("d".into(), start);
        announcements.remove(left);
        assert!(announcements.poll_newcomers(start).is_empty());
        let at = announcements.poll_timeout().expect("newcomers");
        assert_eq!(at, start + NEWCOMER_PAUSE);
        assert_eq!(announcements.poll_newcomers(at), ["b".into(), "d".into()]);
    }

    #[test]
    fn repeats_that_are_due_within_a_second_go_together_and_keep_their_pace() {
        let mut announcements = Announcements::new(INTERVAL, usize::MAX);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        for (n, address) in (0..).zip(["a", "b", "c"]) {
            announcements.add(address.into(), after(n * 100));
        }
        announcements.poll_newcomers(start);
        for round in [10_000, 20_000, 30_000] {
            assert_eq!(announcements.poll_timeout(), Some(after(round)));
            assert_eq!(repeated(&mut announcements, 1, after(round)), "a");
            assert_eq!(announcements.poll_timeout(), Some(after(round + 1000)));
            assert_eq!(repeated(&mut announcements, 1, after(round + 1000)), "bc");
        }
    }

    #[test]
    fn beyond_the_rate_every_peer_still_gets_its_turn() {
        // Each takes ten seconds of the rate, and they go by the dozens.
        let links = 2;
        let mut announcements = Announcements::new(INTERVAL, PER_SECOND);
        let start = Instant::now();
        let peers: Vec<String> = ('a'..='z').chain('A'..='Z').map(String::from).collect();
        for peer in &peers {
            announcements.add(peer.as_str().into(), start);
        }
        announcements.poll_newcomers(start);
        let (mut now, mut seen) = (start, String::new());
        while seen.len() < 4 * peers.len() {
            now = announcements.poll_timeout().expect("scheduled");
            seen += &repeated(&mut announcements, links, now);
        }
        assert_eq!(seen, peers.concat().repeat(5)[..seen.len()]);
        let paid = INTERVAL * u32::try_from(seen.len() - TOGETHER).expect("few");
        assert!(now - start >= paid, "{:?} for {}", now - start, seen.len());
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let mut announcements = Announcements::new(INTERVAL, usize::MAX);
        let start = Instant::now();
        let turns = [(); 2].map(|()| announcements.add("a".into(), start));
        announcements.remove(turns[0]);
        let repeats = announcements.poll_repeats(1, start + INTERVAL);
        assert_eq!(repeats.len(), 1);
        announcements.remove(repeats[0].turn);
        assert_eq!(announcements.len(), 0);
        assert_eq!(announcements.poll_timeout(), None);
    }
}
