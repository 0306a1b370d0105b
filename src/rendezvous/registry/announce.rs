//! When which peer is announced again.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The time that one announcement to very many may use up at most, so that a clock never overflows.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The repeats of `ws-peer`: each peer once an interval from its join on, as the npm server has it,
/// as long as the rate of bytes allows; beyond it the same order goes on more slowly.
#[derive(Debug)]
pub(super) struct Announcements {
    interval: Duration,
    /// Bytes a second.
    rate: usize,
    /// In the order of time: the interval is the same for all.
    queue: VecDeque<Entry>,
    /// Until when the bytes announced so far use up the rate.
    spent_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    address: Arc<str>,
    /// Which join of the address this belongs to; an entry of an earlier one is passed over.
    join: u64,
}

impl Announcements {
    pub(super) fn new(interval: Duration, rate: usize) -> Self {
        Self {
            interval,
            rate,
            queue: VecDeque::new(),
            spent_until: None,
        }
    }

    /// Has `address` announced again an interval from `now`.
    pub(super) fn schedule(&mut self, address: Arc<str>, join: u64, now: Instant) {
        self.queue.push_back(Entry {
            due: now + self.interval,
            address,
            join,
        });
    }

    /// The next address whose turn has come; the caller schedules it again if it is still joined.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Arc<str>, u64)> {
        if self.poll_timeout()? > now {
            return None;
        }
        let entry = self.queue.pop_front()?;
        Some((entry.address, entry.join))
    }

    /// Accounts for an announcement.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) {
        let pause = Duration::from_secs_f64(bytes as f64 / self.rate as f64).min(MAX_PAUSE);
        let from = self.spent_until.map_or(now, |until| until.max(now));
        self.spent_until = Some(from + pause);
    }

    /// When [`poll`](Self::poll) has something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.queue.front()?.due;
        Some(self.spent_until.map_or(due, |until| until.max(due)))
    }

    /// The addresses, those announced last first; some may have left.
    pub(super) fn latest(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let entries = self.queue.iter().rev();
        entries.map(|entry| (&entry.address, entry.join))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn poll_all(announcements: &mut Announcements, now: Instant, bytes: usize) -> Vec<Arc<str>> {
        let mut addresses = Vec::new();
        while let Some((address, join)) = announcements.poll(now) {
            announcements.spend(bytes, now);
            announcements.schedule(address.clone(), join, now);
            addresses.push(address);
        }
        addresses
    }

    #[test]
    fn each_peer_is_repeated_an_interval_after_it_joined() {
        let mut announcements = Announcements::new(INTERVAL, usize::MAX);
        let start = Instant::now();
        announcements.schedule("a".into(), 0, start);
        announcements.schedule("b".into(), 1, start + INTERVAL / 2);
        assert_eq!(announcements.poll_timeout(), Some(start + INTERVAL));
        assert_eq!(announcements.poll(start), None);
        for round in 1..4 {
            let at = start + INTERVAL * round;
            assert_eq!(poll_all(&mut announcements, at, 1), ["a".into()]);
            let at = at + INTERVAL / 2;
            assert_eq!(poll_all(&mut announcements, at, 1), ["b".into()]);
        }
    }

    #[test]
    fn beyond_the_rate_every_peer_still_gets_its_turn() {
        let mut announcements = Announcements::new(INTERVAL, 10);
        let start = Instant::now();
        for address in ["a", "b", "c"] {
            announcements.schedule(address.into(), 0, start);
        }
        let mut now = start;
        let mut seen = Vec::new();
        for _ in 0..6 {
            now = announcements.poll_timeout().expect("scheduled");
            seen.extend(poll_all(&mut announcements, now, 100));
        }
        assert_eq!(seen.join(""), "abcabc");
        // 100 bytes at 10 bytes a second take 10 seconds each.
        assert_eq!(now - start, INTERVAL * 6);
    }
}
