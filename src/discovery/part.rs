//! What one rendezvous announces: who is listed there, and when they expire. Pure, `now` is passed in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use libp2p_identity::PeerId;
use web_time::Instant;

use super::table::Key;

/// How many rounds a peer may go without an announcement.
const ROUNDS: u32 = 3;
/// A peer counts as one that the rendezvous still repeats if it was announced in so many of the latest rounds.
const FRESH: u32 = 2;
/// How many of the peers that were announced last are looked at, to see whether the others were repeated.
const SAMPLE: usize = 64;
/// As long as a rendezvous has shown no pace, a round may take so many intervals: 20 minutes where they are 10 s.
const UNKNOWN: u32 = 120;
/// The longest time without an announcement.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The part of the peers that must have shown a pace before it counts as the rendezvous' own.
const QUORUM: usize = 4;
/// How many times as long as half of the peers a round may take.
const SKEW: u32 = 4;
/// To estimate the pace of more peers than these takes long: it is done at most once a second, and so often in a round.
const MANY: usize = 64;
const ESTIMATES: u32 = 16;
const ESTIMATE_PAUSE: Duration = Duration::from_secs(1);

/// The peers at one rendezvous.
///
/// A rendezvous repeats its peers in rounds, as fast as it can: each 10 s where there are few, in 20 minutes where there are
/// ten thousands. How long a round takes is seen from the times between two announcements of one peer: all but
/// the slowest tenth of the peers, or one, are repeated within it, so that neither a few that are repeated quickly or
/// rarely nor lost announcements hide it. It is not believed to take more than four times as long as half of the
/// peers take, so that no minority makes the others stay when they have left.
///
/// A peer that was itself repeated more slowly than the others may go without an announcement for three times that long,
/// though not for more than three unknown rounds: others that are announced quickly cannot make it expire.
///
/// A peer has expired after three rounds without it, if most of those that were announced lately came three times
/// meanwhile: a rendezvous that has become slower is late with all of them. Those that left as well say nothing, however
/// many they are. If none of the listed peers is announced for three rounds, all have expired. As long as the rendezvous
/// has not shown how long a round takes, only its silence counts: an hour, or less if a peer was repeated once.
#[derive(Debug)]
pub(super) struct Part {
    /// The shortest round that is believed.
    interval: Duration,
    /// Whether we listen there.
    pub(super) listening: bool,
    /// Since when there is no link any more, so that silence says nothing.
    closed: Option<Instant>,
    entries: HashMap<PeerId, Entry>,
    /// By the number of the last announcement: the first is the next to expire.
    by_age: BTreeMap<u64, PeerId>,
    /// Those that would have expired at the pace of the others and not at their own, by when they do; and by the number
    /// of the last announcement. They are not in `by_age`.
    spared: BTreeMap<(Instant, u64), PeerId>,
    /// When anything was announced last.
    heard: Instant,
    round: Option<Duration>,
    /// The longest time between two announcements of one peer so far.
    slowest: Duration,
    /// The times between announcements have changed since the round was estimated.
    changed: bool,
    estimate_at: Instant,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    /// The announcement that began the listing.
    listing: u64,
    /// The number of the last announcement, and when it was.
    last: u64,
    announced: Instant,
    /// When the last announcement was that did not follow another one in quick succession.
    counted: Instant,
    /// The two latest times between announcements that count. The first says nothing alone: the answer to the join names
    /// a peer at any moment of the round.
    gaps: [Option<Duration>; 2],
    /// When it expires, if it is spared.
    spared: Option<Instant>,
}

impl Entry {
    fn gap(&self) -> Option<Duration> {
        let [latest, previous] = self.gaps;
        Some(latest?.max(previous?))
    }

    /// How long a round takes for it, as far as it shows.
    fn pace(&self) -> Duration {
        let [latest, previous] = self.gaps.map(Option::unwrap_or_default);
        latest.max(previous)
    }

    /// Whether it was announced three times since then.
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

    /// Something was announced, whoever it was.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.closed = None;
    }

    /// Lists a peer, with the announcement of this number.
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

    /// The peer that was announced the longest ago.
    pub(super) fn oldest(&self) -> Option<PeerId> {
        let spared = self.spared.iter().map(|((_, last), peer)| (last, peer));
        let oldest = self.by_age.first_key_value().into_iter().chain(spared);
        oldest.min().map(|(_, peer)| *peer)
    }

    /// Prolongs the listing of a peer; `false` if it is not listed.
    pub(super) fn repeat(&mut self, peer: &PeerId, number: u64, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(peer) else {
            return false;
        };
        let gap = now.saturating_duration_since(entry.counted);
        // A peer is often named twice at once: by the answer to the join and as a newcomer, or because it has
        // joined anew. That is no pace.
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

    /// Takes a peer off; gives its key and the announcement that began its listing.
    pub(super) fn remove(&mut self, peer: &PeerId) -> Option<(u64, Arc<Key>)> {
        let entry = self.entries.remove(peer)?;
        match entry.spared {
            Some(at) => self.spared.remove(&(at, entry.last)),
            None => self.by_age.remove(&entry.last),
        };
        Some((entry.listing, entry.key))
    }

    /// Takes off a peer that has expired.
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

    /// Keeps a peer until it has expired at its own pace; `false` if it has.
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

    /// There is no link any more.
    pub(super) fn close(&mut self, now: Instant) {
        self.closed.get_or_insert(now);
        for ((_, last), peer) in std::mem::take(&mut self.spared) {
            self.by_age.insert(last, peer);
            if let Some(entry) = self.entries.get_mut(&peer) {
                entry.spared = None;
            }
        }
    }

    /// When the next peer may expire if nothing is announced before.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let spared = self.spared.first_key_value().map(|(&(at, _), _)| at);
        self.next_of_all(now).into_iter().chain(spared).min()
    }

    /// When the next peer may expire at the pace of all.
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
            // Strangers may have chosen this rendezvous, and the pace it has shown.
            at = at.min(closed + self.interval * ROUNDS);
        }
        let silent_at = self.youngest().unwrap_or(first).announced + lifetime;
        let is_silent = self.is_closed() || silent_at <= now || at_last <= now;
        if at > now || is_silent || self.were_others_repeated(first, round, now) {
            return Some(at);
        }
        Some(at_last.min(silent_at).min(now + round))
    }

    /// How long a rendezvous may say nothing that has not shown its pace. One time between announcements is not the round,
    /// as it may begin anywhere in it; but the round is hardly so many times as long.
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

    /// Whether the rendezvous went through its peers three times since it announced this one. Peers that left meanwhile
    /// are not announced any more; a few that join again and again are a minority.
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

    /// How long a round takes, as far as the peers have shown it.
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
    /// The keys by the announcement that began their listing, after a check that all agrees.
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
