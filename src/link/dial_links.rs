//! Links that only dials ask for: how many there may be, and how soon one follows the other.
//!
//! Addresses to dial come from strangers too, through identify or Kademlia. Without a bound, one peer with many
//! addresses could have a node open as many links, to hosts of the peer's choice. A rendezvous at which we listen
//! was chosen by the application, and is not counted.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::{Duration, Instant},
};

use libp2p_core::transport::ListenerId;

use super::lock;
use crate::address::Rendezvous;

/// The time between two links to rendezvous that are new to us.
const PACE: Duration = Duration::from_secs(1);

/// Where we listen, or are about to.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<HashMap<ListenerId, Rendezvous>>);

impl Listening {
    pub(super) fn add(&self, listener: ListenerId, rendezvous: &Rendezvous) {
        lock(&self.0).insert(listener, rendezvous.clone());
    }

    pub(super) fn remove(&self, listener: ListenerId) {
        lock(&self.0).remove(&listener);
    }

    pub(super) fn at(&self, rendezvous: &Rendezvous) -> bool {
        lock(&self.0).values().any(|at| at == rendezvous)
    }
}

/// The dials that wait for a link of their own. Pure: `now` is passed in.
#[derive(Debug, Default)]
pub(super) struct DialLinks {
    /// How many links there may be, those that are waited for included.
    most: usize,
    waiting: HashMap<Rendezvous, Turn>,
    /// Where links were opened last, and when the last one was. To come back there is nothing new.
    latest: VecDeque<Rendezvous>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Turn {
    at: Instant,
    dials: usize,
}

impl DialLinks {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Takes a place for a dial: gives when its link may be opened. Without a place, where `open` links are
    /// open, `None`. Each place that was taken must be [left](Self::leave).
    pub(super) fn take_place(
        &mut self,
        rendezvous: &Rendezvous,
        open: usize,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(turn) = self.waiting.get_mut(rendezvous) {
            turn.dials += 1;
            return Some(turn.at);
        }
        if open + self.waiting.len() >= self.most {
            return None;
        }
        let at = match self.latest.contains(rendezvous) {
            true => now,
            false => self.next_turn(now),
        };
        let turn = Turn { at, dials: 1 };
        self.waiting.insert(rendezvous.clone(), turn);
        Some(at)
    }

    /// The first time that keeps the distance to all others.
    fn next_turn(&self, now: Instant) -> Instant {
        let mut next = self.last.map_or(now, |last| now.max(last + PACE));
        let mut taken: Vec<_> = self.waiting.values().map(|turn| turn.at).collect();
        taken.sort_unstable();
        for at in taken {
            if at + PACE > next && next + PACE > at {
                next = at + PACE;
            }
        }
        next
    }

    /// A dial that had taken a place waits no more.
    pub(super) fn leave(&mut self, rendezvous: &Rendezvous) {
        if let Some(turn) = self.waiting.get_mut(rendezvous) {
            turn.dials -= 1;
            if turn.dials == 0 {
                self.waiting.remove(rendezvous);
            }
        }
    }

    /// A link is opened for a dial.
    pub(super) fn opened(&mut self, rendezvous: &Rendezvous, now: Instant) {
        match self.latest.iter().position(|known| known == rendezvous) {
            Some(known) => drop(self.latest.remove(known)),
            None => self.last = Some(now),
        }
        self.latest.push_front(rendezvous.clone());
        self.latest.truncate(self.most);
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;
    use crate::address::StarAddr;

    fn rendezvous(number: u16) -> Rendezvous {
        let peer = PeerId::random();
        let wire = format!("/dns4/star/tcp/{number}/ws/p2p-websocket-star/ipfs/{peer}");
        let addr = StarAddr::from_wire(&wire).expect("valid");
        addr.rendezvous().clone()
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn new_rendezvous_come_one_a_second_and_no_more_than_there_are_places() {
        let (mut links, now) = (DialLinks::new(4), Instant::now());
        for number in 1..=3 {
            let at = links.take_place(&rendezvous(number), 1, now);
            assert_eq!(at, Some(now + secs(u64::from(number) - 1)));
        }
        assert_eq!(links.take_place(&rendezvous(4), 1, now), None);
        // One more dial to the same rendezvous shares its place.
        assert_eq!(links.take_place(&rendezvous(2), 1, now), Some(now + PACE));
        links.leave(&rendezvous(2));
        assert_eq!(links.take_place(&rendezvous(4), 1, now), None);
        links.leave(&rendezvous(2));
        // The time that was given up is taken.
        let at = links.take_place(&rendezvous(4), 1, now);
        assert_eq!(at, Some(now + PACE));
    }

    #[test]
    fn the_pace_counts_from_the_link_that_was_opened_last() {
        let (mut links, now) = (DialLinks::new(8), Instant::now());
        links.opened(&rendezvous(1), now);
        let later = now + PACE / 4;
        assert_eq!(links.take_place(&rendezvous(2), 1, later), Some(now + PACE));
        assert_eq!(
            links.take_place(&rendezvous(3), 1, now + secs(9)),
            Some(now + secs(9))
        );
    }

    #[test]
    fn a_link_to_where_one_was_opened_lately_is_not_new() {
        let (mut links, now) = (DialLinks::new(2), Instant::now());
        links.opened(&rendezvous(1), now);
        assert_eq!(links.take_place(&rendezvous(1), 0, now), Some(now));
        links.leave(&rendezvous(1));
        for number in 2..=3 {
            links.opened(&rendezvous(number), now);
        }
        assert_eq!(links.latest.len(), 2);
        let at = links.take_place(&rendezvous(1), 0, now);
        assert_eq!(at, Some(now + PACE));
    }

    #[test]
    fn dials_that_are_given_up_do_not_put_off_the_others() {
        let (mut links, now) = (DialLinks::new(3), Instant::now());
        links.opened(&rendezvous(1), now);
        for number in 2..1000 {
            let at = links.take_place(&rendezvous(number), 0, now);
            assert!(at.is_some_and(|at| at <= now + PACE * 4));
            links.leave(&rendezvous(number - 1));
        }
        assert_eq!(links.waiting.len(), 1);
    }

    #[test]
    fn without_places_no_link_is_opened() {
        let mut links = DialLinks::new(0);
        assert_eq!(links.take_place(&rendezvous(1), 0, Instant::now()), None);
    }
}
