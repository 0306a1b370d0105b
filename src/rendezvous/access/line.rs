//! A line with a fixed number of places: for verdicts about joins, and for guesses of the admin token. Work in progress
//! holds a place. The rest waits, in an order that is fair among origins.
//!
//! Work in progress cannot be taken back, so no group of origins gets all places. A group gets a further place only
//! while enough places stay free: it may hold three times as many, for each unit of its weight, as are then left. Of 64
//! places, an address that wants all gets 48, the next address gets 12, and a third one gets 3.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::rendezvous::{
    fair::Fair,
    origin::{Claimant, Group, Origin},
};

/// The number of places that a group may hold for each place that stays free, for each unit of its weight.
const SHARE: u64 = 3;

#[derive(Debug)]
pub(crate) struct Line(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The number of free places.
    free: usize,
    /// The number of places that each group holds.
    at_work: BTreeMap<Group, u64>,
    /// The groups that have enough places for now. There are never more of them than places in use.
    held: BTreeSet<Group>,
    fair: Fair,
    /// The turns that wait, by origin and in the order of arrival, with their wakers.
    waiting: BTreeMap<Origin, BTreeMap<u64, Option<Waker>>>,
    /// The turns that have been given a place and have not been polled since.
    called: BTreeSet<u64>,
    next: u64,
}

impl State {
    /// Gives the free places to the next turns. Returns the wakers to call when the lock is released.
    #[must_use]
    fn call(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while self.free > 0
            && let Some(origin) = self.fair.first()
        {
            let group = origin.group();
            if !self.may_have_more(group) {
                self.fair.hold(group);
                self.held.insert(group);
                continue;
            }
            let waiting = self.waiting.get_mut(&origin);
            let Some((number, waker)) = waiting.and_then(BTreeMap::pop_first) else {
                self.fair.rest(origin);
                continue;
            };
            self.free -= 1;
            *self.at_work.entry(group).or_default() += 1;
            self.fair.charge(origin, 1);
            self.called.insert(number);
            woken.extend(waker);
            self.rest_if_done(origin);
        }
        woken
    }

    /// Returns whether a group may take a further place, so that enough are left for others.
    fn may_have_more(&self, group: Group) -> bool {
        let Some(has) = self.at_work.get(&group) else {
            return true;
        };
        let left = (self.free as u64).saturating_sub(1);
        let share = SHARE.saturating_mul(self.fair.weight(group));
        *has < share.saturating_mul(left)
    }

    /// Frees a place of an origin. The groups that had enough are considered again.
    fn done(&mut self, origin: Origin) {
        self.free += 1;
        let group = origin.group();
        if let Some(has) = self.at_work.get_mut(&group) {
            *has = has.saturating_sub(1);
            if *has == 0 {
                self.at_work.remove(&group);
            }
        }
        for group in std::mem::take(&mut self.held) {
            self.fair.release(group);
        }
    }

    /// Notes that an origin wants nothing if none of its turns waits.
    fn rest_if_done(&mut self, origin: Origin) {
        if self.waiting.get(&origin).is_none_or(BTreeMap::is_empty) {
            self.waiting.remove(&origin);
            self.fair.rest(origin);
        }
    }
}

impl Line {
    /// Creates a line with this many places, at least one.
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: places.max(1),
            at_work: BTreeMap::new(),
            held: BTreeSet::new(),
            fair: Fair::default(),
            waiting: BTreeMap::new(),
            called: BTreeSet::new(),
            next: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics halfway through a change of the state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the line: waits for a place on behalf of a claimant.
    pub(crate) fn enter(self: &Arc<Self>, claimant: &Claimant) -> Turn {
        let origin = claimant.origin;
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.fair.add(claimant);
        let waiting = state.waiting.entry(origin).or_default();
        waiting.insert(number, None);
        state.fair.want(origin);
        let woken = state.call();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Turn {
            line: self.clone(),
            origin,
            number,
            has_come: false,
        }
    }
}

/// A turn. It waits in the line, and then holds a place until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    origin: Origin,
    number: u64,
    has_come: bool,
}

impl Turn {
    /// Polls for a place. Once it is ready, it stays ready.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_come {
            return Poll::Ready(());
        }
        let mut state = self.line.lock();
        if state.called.remove(&self.number) {
            self.has_come = true;
            return Poll::Ready(());
        }
        let waiting = state.waiting.get_mut(&self.origin);
        if let Some(waker) = waiting.and_then(|waiting| waiting.get_mut(&self.number)) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        if self.has_come || state.called.remove(&self.number) {
            state.done(self.origin);
        } else if let Some(waiting) = state.waiting.get_mut(&self.origin) {
            waiting.remove(&self.number);
            state.rest_if_done(self.origin);
        }
        state.fair.remove(self.origin);
        let woken = state.call();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::rendezvous::origin::Weights;

    fn claimant(text: &str) -> Claimant {
        Weights::default().claimant(text.parse().expect("an address"))
    }

    fn is_ready(turn: &mut Turn) -> bool {
        turn.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    fn ready(turns: &mut [Turn]) -> Vec<bool> {
        turns.iter_mut().map(is_ready).collect()
    }

    fn check_empty(line: &Line, places: usize) {
        let state = line.lock();
        assert_eq!(state.free, places);
        assert!(state.waiting.is_empty() && state.called.is_empty());
        assert!(state.at_work.is_empty() && state.held.is_empty());
    }

    #[test]
    fn so_many_are_worked_on_and_the_others_wait() {
        let line = Line::new(2);
        let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(claimant);
        let mut turns: Vec<_> = all.iter().map(|who| line.enter(who)).collect();
        assert_eq!(ready(&mut turns), [true, true, false, false]);
        drop(turns.remove(1));
        assert_eq!(ready(&mut turns), [true, true, false]);
        // A turn that waits may give up.
        drop(turns.remove(2));
        drop(turns);
        check_empty(&line, 2);
    }

    #[test]
    fn nobody_has_all_places_and_whoever_comes_next_need_not_wait() {
        let line = Line::new(64);
        let whole = [("192.0.2.1", 48), ("192.0.2.2", 12), ("192.0.2.3", 3)];
        let mut turns = Vec::new();
        for (address, expected) in whole {
            let who = claimant(address);
            let mut of_one: Vec<_> = (0..100).map(|_| line.enter(&who)).collect();
            let at_work = ready(&mut of_one).into_iter().filter(|ready| *ready);
            assert_eq!(at_work.count(), expected, "{address}");
            turns.push(of_one);
        }
        // When each of them frees a place, a newcomer gets a place all the same.
        for of_one in &mut turns {
            let first = of_one.iter_mut().position(is_ready).expect("at work");
            drop(of_one.remove(first));
        }
        let mut last = line.enter(&claimant("192.0.2.4"));
        assert!(is_ready(&mut last));
        drop((turns, last));
        check_empty(&line, 64);
        // A single place is open to every origin.
        let line = Line::new(1);
        assert!(is_ready(&mut line.enter(&claimant("192.0.2.1"))));
    }

    #[test]
    fn the_networks_of_a_48_have_no_more_places_than_four_addresses() {
        let line = Line::new(64);
        let networks = (0..100).map(|n| claimant(&format!("2001:db8:0:{n:x}::1")));
        let mut flood: Vec<_> = networks.map(|who| line.enter(&who)).collect();
        let at_work = ready(&mut flood).into_iter().filter(|ready| *ready);
        assert!(at_work.count() <= 60);
        assert!(is_ready(&mut line.enter(&claimant("192.0.2.1"))));
        drop(flood);
        check_empty(&line, 64);
    }

    #[test]
    fn all_get_their_turn_though_some_had_enough_before() {
        let line = Line::new(8);
        let mut turns: Vec<_> = (0..500)
            .map(|n| line.enter(&claimant(&format!("192.0.2.{}", n % 3))))
            .collect();
        let mut done = 0;
        while let Some(at_work) = turns.iter_mut().position(is_ready) {
            drop(turns.swap_remove(at_work));
            done += 1;
        }
        assert_eq!(done, 500);
        check_empty(&line, 8);
    }

    #[test]
    fn an_origin_with_a_thousand_keys_is_one_among_the_others() {
        let line = Line::new(2);
        let (many, few) = (claimant("192.0.2.1"), claimant("192.0.2.2"));
        let mut flood: Vec<_> = (0..1000).map(|_| line.enter(&many)).collect();
        let mut honest = [line.enter(&few), line.enter(&few)];
        assert_eq!(ready(&mut honest), [true, false], "one is served at once");
        drop(flood.remove(0));
        assert_eq!(ready(&mut honest), [true, false], "it is the others' turn");
        let at_work = ready(&mut flood).into_iter().filter(|ready| *ready);
        assert_eq!(at_work.count(), 1);
    }

    #[test]
    fn the_networks_of_a_48_are_one_customer() {
        let line = Line::new(1);
        let mut at_work = Some(line.enter(&claimant("192.0.2.9")));
        let networks = (0..100).map(|n| claimant(&format!("2001:db8:0:{n:x}::1")));
        let mut flood: Vec<_> = networks.map(|who| line.enter(&who)).collect();
        let mut honest: Vec<_> = (1..5)
            .map(|n| line.enter(&claimant(&format!("192.0.2.{n}"))))
            .collect();
        let mut served = 0;
        while !honest.is_empty() {
            drop(at_work.take());
            served += 1;
            assert!(served < 30, "the others wait for ever");
            let mut all = honest.iter_mut().chain(&mut flood);
            let ready = all.position(is_ready).expect("one is next");
            at_work = Some(match ready.checked_sub(honest.len()) {
                None => honest.remove(ready),
                Some(n) => flood.remove(n),
            });
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_is_next_is_woken_once_and_nobody_else_is() {
        let line = Line::new(1);
        let who = claimant("192.0.2.1");
        let first = line.enter(&who);
        let mut others = [line.enter(&who), line.enter(&who)];
        let counts: [Arc<Count>; 2] = Default::default();
        for (turn, count) in others.iter_mut().zip(&counts) {
            let waker = count.clone().into();
            assert!(turn.poll(&Context::from_waker(&waker)).is_pending());
        }
        drop(first);
        let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 0]);
    }
}
