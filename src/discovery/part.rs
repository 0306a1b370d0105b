//! The part of the table for one rendezvous: which peers it lists, and when they expire. Pure: the caller passes `now`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use libp2p_identity::PeerId;
use web_time::Instant;

use super::key::Key;

/// The number of rounds that a peer may go without an announcement.
const ROUNDS: u32 = 3;
/// A peer counts as still repeated if it was announced in this many of the latest rounds.
const FRESH: u32 = 2;
/// The number of most recently announced peers that are checked to see whether the others were repeated.
const SAMPLE: usize = 64;
/// The assumed length of a round, in intervals, before the rendezvous has shown it: 20 minutes for intervals of 10 s.
const UNKNOWN: u32 = 120;
/// The longest time that a peer may go without an announcement.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// At least one in this many peers must have shown a pace before it counts as the pace of the rendezvous.
const QUORUM: usize = 4;
/// A round takes at most this many times as long as the time in which half of the peers are repeated.
const SKEW: u32 = 4;
/// Estimating the pace of more than `MANY` peers takes long. So it is done at most once in `ESTIMATE_PAUSE`, and at
/// most `ESTIMATES` times in a round.
const MANY: usize = 64;
const ESTIMATES: u32 = 16;
const ESTIMATE_PAUSE: Duration = Duration::from_secs(1);

/// The peers at one rendezvous.
///
/// A rendezvous repeats its peers in rounds, as fast as it can: a round takes 10 s for few peers, and 20 minutes for
/// tens of thousands. Its length is measured from the times between two announcements of one peer. It is the time in
/// which all peers are repeated except the slowest tenth, which is at least one peer. So lost announcements, and a few
/// peers that are repeated very often or very rarely, do not distort it. It is at most four times as long as the time
/// in which half of the peers are repeated, so no minority can keep the others listed after they have left.
///
/// A peer that was repeated more slowly than the others may go without an announcement for three times its own pace,
/// but for at most three rounds of unknown length. Others that are announced quickly cannot make it expire.
///
/// A peer expires after three rounds without an announcement, if most of the recently announced peers were announced
/// three times in the meantime. A rendezvous that has become slower is late with all of its peers. Peers that left too
/// do not count, however many they are. If none of the listed peers is announced for three rounds, all of them expire.
/// Before the rendezvous has shown the length of its rounds, peers expire only when it announces nothing: for an hour,
/// or less if a peer was repeated once.
#[derive(Debug)]
pub(super) struct Part {
    /// The shortest believed round.
    interval: Duration,
    /// Whether this node listens there.
    pub(super) listening: bool,
    /// The time since which there is no link, so that silence means nothing.
    closed: Option<Instant>,
    entries: HashMap<PeerId, Entry>,
    /// The peers by the number of their last announcement. The first is the next to expire.
    by_age: BTreeMap<u64, PeerId>,
    /// Peers that would have expired at the pace of the others but not at their own. The keys are the time at which
    /// they expire and the number of the last announcement. They are not in `by_age`.
    spared: BTreeMap<(Instant, u64), PeerId>,
    /// The time of the last announcement of any peer.
    heard: Instant,
    round: Option<Duration>,
    /// The longest time between two announcements of one peer so far.
    slowest: Duration,
    /// Whether the times between announcements have changed since the round was estimated.
    changed: bool,
    estimate_at: Instant,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    /// The number of the announcement that began the listing.
    listing: u64,
    /// The number of the last announcement, followed by its time.
    last: u64,
    announced: Instant,
    /// The time of the last announcement that did not quickly follow another one.
    counted: Instant,
    /// The two latest counted times between announcements. The first one alone means nothing, because the answer to the
    /// join names a peer at any moment of the round.
    gaps: [Option<Duration>; 2],
    /// The time at which it expires, if it is in [`Part::spared`].
    spared: Option<Instant>,
}

impl Entry {
    fn gap(&self) -> Option<Duration> {
        let [latest, previous] = self.gaps;
        Some(latest?.max(previous?))
    }

    /// Returns the length of a round for this peer, as far as it is known.
    fn pace(&self) -> Duration {
        let [latest, previous] = self.gaps.map(Option::unwrap_or_default);
        latest.max(previous)
    }

    /// Returns whether it was announced three times since this time.
    fn came_three_times_since(&self, then: Instant) -> bool {
        match self.gaps {
            [Some(latest), Some(previous)] => self.counted > then + latest + previous,
            _ => false,
        }
    }
}

impl Part {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            listening: false,
            closed: None,
            entries: HashMap::new(),
            by_age: BTreeMap::new(),
            spared: BTreeMap::new(),
            heard: now,
            round: None,
            slowest: Duration::ZERO,
            changed: false,
            estimate_at: now,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.entries.contains_key(peer)
    }

    /// Notes that a peer was announced, whether it is listed or not.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.closed = None;
    }

    /// Lists a peer that was announced with this number.
    pub(super) fn list(&mut self, key: &Arc<Key>, number: u64, now: Instant) {
        let entry = Entry {
            key: Arc::clone(key),
            listing: number,
            last: number,
            announced: now,
            counted: now,
            gaps: [None; 2],
            spared: None,
        };
        self.by_age.insert(number, key.peer);
        self.entries.insert(key.peer, entry);
    }

    /// Returns the peer whose last announcement is the oldest.
    pub(super) fn oldest(&self) -> Option<PeerId> {
        let spared = self.spared.iter().map(|((_, last), peer)| (last, peer));
        let oldest = self.by_age.first_key_value().into_iter().chain(spared);
        oldest.min().map(|(_, peer)| *peer)
    }

    /// Prolongs the listing of a peer. Returns `false` if it is not listed.
    pub(super) fn repeat(&mut self, peer: &PeerId, number: u64, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(peer) else {
            return false;
        };
        let gap = now.saturating_duration_since(entry.counted);
        // A peer is often named twice in a row: by the answer to the join and as a newcomer, or because it has joined
        // again. These times say nothing about the pace.
        if gap >= self.interval / 2 {
            entry.counted = now;
            self.slowest = self.slowest.max(gap);
            entry.gaps = [Some(gap), entry.gaps[0]];
            self.changed = true;
        }
        match entry.spared.take() {
            Some(at) => self.spared.remove(&(at, entry.last)),
            None => self.by_age.remove(&entry.last),
        };
        self.by_age.insert(number, *peer);
        (entry.last, entry.announced) = (number, now);
        true
    }

    /// Removes a peer. Returns the number of the announcement that began its listing, and its key.
    pub(super) fn remove(&mut self, peer: &PeerId) -> Option<(u64, Arc<Key>)> {
        let entry = self.entries.remove(peer)?;
        match entry.spared {
            Some(at) => self.spared.remove(&(at, entry.last)),
            None => self.by_age.remove(&entry.last),
        };
        Some((entry.listing, entry.key))
    }

    /// Removes and returns one peer that has expired.
    pub(super) fn expire_one(&mut self, now: Instant) -> Option<(u64, Arc<Key>)> {
        self.estimate(now);
        while self.next_of_all(now).is_some_and(|at| at <= now) {
            let (_, peer) = self.by_age.first_key_value()?;
            let peer = *peer;
            if !self.spare(&peer, now) {
                return self.remove(&peer);
            }
        }
        while let Some((&(at, _), &peer)) = self.spared.first_key_value() {
            if at > now {
                break;
            }
            if !self.spare(&peer, now) {
                return self.remove(&peer);
            }
        }
        None
    }

    /// Keeps a peer until it has expired at its own pace. Returns `false` if it has expired.
    fn spare(&mut self, peer: &PeerId, now: Instant) -> bool {
        let (round, most) = (self.round.unwrap_or_default(), self.interval * UNKNOWN);
        let Some(entry) = self.entries.get_mut(peer) else {
            return false;
        };
        let lifetime = entry.pace().min(most).max(round) * ROUNDS;
        let at = entry.announced + lifetime.min(LONGEST);
        if self.closed.is_some() || at <= now {
            return false;
        }
        match entry.spared.replace(at) {
            Some(at) => self.spared.remove(&(at, entry.last)),
            None => self.by_age.remove(&entry.last),
        };
        self.spared.insert((at, entry.last), *peer);
        true
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Notes that there is no link any more.
    pub(super) fn close(&mut self, now: Instant) {
        self.closed.get_or_insert(now);
        for ((_, last), peer) in std::mem::take(&mut self.spared) {
            self.by_age.insert(last, peer);
            if let Some(entry) = self.entries.get_mut(&peer) {
                entry.spared = None;
            }
        }
    }

    /// Returns when the next peer may expire if nothing is announced before that.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let spared = self.spared.first_key_value().map(|(&(at, _), _)| at);
        self.next_of_all(now).into_iter().chain(spared).min()
    }

    /// Returns when the next peer may expire at the common pace.
    fn next_of_all(&self, now: Instant) -> Option<Instant> {
        let (_, peer) = self.by_age.first_key_value()?;
        let first = self.entries.get(peer)?;
        let at_last = first.announced + LONGEST;
        let Some(round) = self.round.or(self.closed.and(Some(self.interval))) else {
            return Some(at_last.min(self.heard + self.longest_silence()));
        };
        let lifetime = round * ROUNDS;
        let mut at = at_last.min(first.announced + lifetime);
        if let (Some(closed), false) = (self.closed, self.listening) {
            // Strangers may have chosen this rendezvous, and thereby the pace it has shown.
            at = at.min(closed + self.interval * ROUNDS);
        }
        let silent_at = self.youngest().unwrap_or(first).announced + lifetime;
        let is_silent = self.is_closed() || silent_at <= now || at_last <= now;
        if at > now || is_silent || self.were_others_repeated(first, round, now) {
            return Some(at);
        }
        Some(at_last.min(silent_at).min(now + round))
    }

    /// Returns how long a rendezvous that has not shown its pace may announce nothing. A single time between
    /// announcements is not the length of a round, because it may begin anywhere in the round. But a round is hardly
    /// 120 times as long.
    fn longest_silence(&self) -> Duration {
        let longest = self.interval * UNKNOWN * ROUNDS;
        match self.slowest {
            Duration::ZERO => longest,
            slowest => longest.min(slowest.saturating_mul(UNKNOWN)),
        }
    }

    fn youngest(&self) -> Option<&Entry> {
        let (_, peer) = self.by_age.last_key_value()?;
        self.entries.get(peer)
    }

    /// Returns whether the rendezvous repeated its peers three times since it announced this one. Peers that left in
    /// the meantime are no longer announced. A few peers that join again and again are a minority.
    fn were_others_repeated(&self, first: &Entry, round: Duration, now: Instant) -> bool {
        let youngest = self.by_age.values().rev().take(SAMPLE);
        let fresh = youngest
            .filter_map(|peer| self.entries.get(peer))
            .take_while(|entry| entry.announced + round * FRESH > now);
        let (mut all, mut repeated) = (0, 0);
        for entry in fresh {
            all += 1;
            repeated += usize::from(entry.came_three_times_since(first.announced));
        }
        repeated * 2 > all
    }

    /// Estimates the length of a round from the peers that have shown it.
    fn estimate(&mut self, now: Instant) {
        if !self.changed || self.entries.len() > MANY && now < self.estimate_at {
            return;
        }
        let pause = self.round.unwrap_or_default() / ESTIMATES;
        (self.changed, self.estimate_at) = (false, now + pause.max(ESTIMATE_PAUSE));
        let mut gaps: Vec<_> = self.entries.values().filter_map(Entry::gap).collect();
        if gaps.is_empty() || gaps.len() * QUORUM < self.entries.len() {
            return;
        }
        let tenth = (gaps.len() / 10).max(1);
        let slowest_but_a_tenth = (gaps.len() - 1).saturating_sub(tenth);
        let middle = (gaps.len() - 1) / 2;
        let (_, &mut gap, _) = gaps.select_nth_unstable(slowest_but_a_tenth);
        let (_, &mut of_half, _) = gaps.select_nth_unstable(middle);
        self.round = Some(gap.min(of_half * SKEW).max(self.interval));
    }
}

#[cfg(test)]
impl Part {
    /// Returns the numbers of the announcements that began the listings, and the keys, after checking that the indices
    /// agree.
    pub(super) fn listed(&self) -> impl Iterator<Item = (u64, &Arc<Key>)> {
        assert_eq!(self.by_age.len() + self.spared.len(), self.entries.len());
        self.entries.iter().map(|(peer, entry)| {
            let at_its_place = match entry.spared {
                Some(at) => self.spared.get(&(at, entry.last)),
                None => self.by_age.get(&entry.last),
            };
            assert_eq!(at_its_place, Some(peer));
            assert_eq!(entry.key.peer, *peer);
            (entry.listing, &entry.key)
        })
    }
}
