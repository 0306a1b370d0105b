//! When each peer is announced to the others.
//!
//! A peer is announced when it joins, and from then on once an interval, as in the npm server. All announcements
//! together have a rate of bytes. Beyond it they go out more slowly, in an order that is fair among origins: an origin
//! with very many peers, or with peers that come and go all the time, has a share like any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::rendezvous::{
    fair::Fair,
    origin::{Claimant, Origin},
};

/// Up to this number of joined links, a newcomer is announced at once, before its own join is answered.
pub(crate) const FEW: usize = 256;
/// With more links, newcomers are gathered for at least this long.
const NEWS_PAUSE: Duration = Duration::from_millis(50);
/// The least time of gathering for each link, because telling all links costs a write for each.
const NEWS_PAUSE_PER_LINK: Duration = Duration::from_micros(50);
/// Newcomers that have to wait for the rate are gathered like repeats, but for no longer than this, unless the number
/// of links requires it anyway.
const LONGEST_NEWS_PAUSE: Duration = Duration::from_secs(5);
/// How long repeats are gathered, for the same reason. A peer may be repeated that late.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
const REPEAT_PAUSE_PER_LINK: Duration = Duration::from_micros(300);
/// Where the interval is short, repeats are late by the interval divided by this at most.
const LATENESS: u32 = 10;
/// How much of the rate may be used at once after a rest, as time.
const BURST: Duration = Duration::from_secs(1);
/// Up to this number of links, the rate of bytes is the configured one. With more links the rate grows with them, so
/// that each link is still told as much.
const LINKS_OF_RATE: usize = 5_000;
/// The largest factor by which the rate grows.
const MOST_RATES: f64 = 3.0;
/// At least one link of this many is paid for, however many links one origin has.
const MOST_UNPAID: f64 = 4.0;
/// The number of peers that are announced without letting others use the registry.
const AT_ONCE: usize = 64;
/// The longest time that one announcement to very many links may use up, so that no clock overflows.
const MAX_PRICE: Duration = Duration::from_secs(3600);
/// The bytes that a frame takes beside its text.
const FRAME: usize = 4;

/// The links that are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Audience {
    /// The number of links.
    pub(super) links: usize,
    /// The number of links that an announcement is paid for. Where one origin has far more links than others, these
    /// links are told anyway, but they do not make announcements rarer for all.
    pub(super) paid: usize,
    /// The number of links of other tenants, which have their parts of the rate.
    pub(super) others: usize,
}

/// The turn in which a peer is announced next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) due: Instant,
    /// Orders turns that are due at the same time: the one that was scheduled first comes first.
    number: u64,
    /// Whether the peer is a newcomer, of which some links have not heard.
    is_news: bool,
}

/// A peer whose turn has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) address: Arc<str>,
    /// The turn that it has just had.
    pub(super) turn: Turn,
}

/// The number of newcomers of an origin that are announced for each of its repeats, when both wait.
const NEWS_IN_A_ROW: u8 = 2;

#[derive(Debug, Default)]
struct Waiting {
    /// Newcomers, in the order of their joins.
    news: BTreeMap<Turn, Arc<str>>,
    /// Peers to be repeated, by the time of the next repeat.
    repeats: BTreeMap<Turn, Arc<str>>,
    /// When the origin is to be woken, as long as it wants nothing.
    asleep: Option<Instant>,
    /// The number of newcomers that were announced in a row.
    in_a_row: u8,
}

impl Waiting {
    fn of(&mut self, turn: Turn) -> &mut BTreeMap<Turn, Arc<str>> {
        match turn.is_news {
            true => &mut self.news,
            false => &mut self.repeats,
        }
    }

    /// Returns when the first peer of this origin is due.
    fn due(&self) -> Option<Instant> {
        let first = [self.news.first_key_value(), self.repeats.first_key_value()];
        let due = first.into_iter().flatten().map(|(turn, _)| turn.due);
        due.min()
    }

    /// Returns the origin's next turn. Newcomers go first, because some links have not heard of them, but they do not
    /// hold up the repeats.
    fn next(&mut self, now: Instant) -> Option<Turn> {
        let is_due = |turn: &Turn| turn.due <= now;
        let news = self.news.first_key_value().map(|(turn, _)| *turn);
        let repeat = self.repeats.first_key_value().map(|(turn, _)| *turn);
        let (news, repeat) = (news.filter(is_due), repeat.filter(is_due));
        match news {
            Some(news) if self.in_a_row < NEWS_IN_A_ROW || repeat.is_none() => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                Some(news)
            }
            _ => {
                self.in_a_row = 0;
                repeat
            }
        }
    }
}

/// The order of announcements.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Duration,
    /// The rate in bytes a second.
    rate: usize,
    next: u64,
    fair: Fair,
    origins: BTreeMap<Origin, Waiting>,
    /// The origins that want nothing yet, by the time at which they are woken.
    asleep: BTreeSet<(Instant, Origin)>,
    /// The number of newcomers that wait.
    news: usize,
    /// The time since which newcomers wait.
    news_since: Option<Instant>,
    /// The time of the last poll.
    polled: Option<Instant>,
    /// The time from which on announcements are gathered again; `None` if the next ones need not be.
    gathers_from: Option<Instant>,
    /// The time until which the rate is used up.
    spent: Option<Instant>,
    /// How long it takes at present until a peer is announced again.
    round: Duration,
    /// Whether newcomers had to wait for the rate at the last poll. Then they are gathered for longer, because telling
    /// all links of a few costs as many writes as telling them of many.
    is_behind: bool,
}

impl Turns {
    pub(super) fn new(interval: Duration, rate: usize) -> Self {
        let interval = interval.min(MAX_PRICE * 24 * 365);
        Self {
            round: interval,
            interval,
            rate,
            next: 0,
            fair: Fair::default(),
            origins: BTreeMap::new(),
            asleep: BTreeSet::new(),
            news: 0,
            news_since: None,
            polled: None,
            gathers_from: None,
            spent: None,
            is_behind: false,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns how long it takes at present until a peer is announced again. This is longer than the interval if the
    /// rate is used up.
    pub(super) fn round(&self) -> Duration {
        self.round
    }

    /// Schedules a newcomer, or a peer that is back and of which some links have not heard.
    pub(super) fn add_news(
        &mut self,
        claimant: &Claimant,
        address: Arc<str>,
        now: Instant,
    ) -> Turn {
        self.fair.add(claimant);
        self.schedule(claimant.origin, address, now, true)
    }

    /// Schedules a peer that others know already, at `due` for the first time.
    pub(super) fn add_known(
        &mut self,
        claimant: &Claimant,
        address: Arc<str>,
        due: Instant,
    ) -> Turn {
        self.fair.add(claimant);
        self.schedule(claimant.origin, address, due, false)
    }

    /// Schedules a peer again that was just called.
    pub(super) fn again(&mut self, origin: Origin, address: Arc<str>, due: Instant) -> Turn {
        self.schedule(origin, address, due, false)
    }

    fn schedule(&mut self, origin: Origin, address: Arc<str>, due: Instant, is_news: bool) -> Turn {
        let turn = Turn {
            due,
            number: self.next,
            is_news,
        };
        self.next += 1;
        if is_news {
            self.news_since = self.news_since.filter(|_| self.news > 0).or(Some(due));
            self.news += 1;
        }
        let waiting = self.origins.entry(origin).or_default();
        waiting.of(turn).insert(turn, address);
        self.settle(origin);
        turn
    }

    /// Forgets a peer that has left.
    pub(super) fn remove(&mut self, origin: Origin, turn: Turn) {
        self.take(origin, turn);
        self.settle(origin);
        self.fair.remove(origin);
    }

    fn take(&mut self, origin: Origin, turn: Turn) -> Option<Arc<str>> {
        let address = self.origins.get_mut(&origin)?.of(turn).remove(&turn)?;
        self.news -= usize::from(turn.is_news);
        Some(address)
    }

    /// Puts an origin to sleep until its first peer is due, and forgets an origin without peers. An origin that is
    /// awake stays awake: it is looked at in its turn.
    fn settle(&mut self, origin: Origin) {
        let Some(waiting) = self.origins.get_mut(&origin) else {
            return;
        };
        let due = waiting.due();
        if let Some(before) = waiting.asleep
            && due != Some(before)
        {
            self.asleep.remove(&(before, origin));
            waiting.asleep = None;
        }
        match due {
            None => {
                self.fair.rest(origin);
                self.origins.remove(&origin);
            }
            Some(due) if waiting.asleep.is_none() && !self.fair.wants(origin) => {
                waiting.asleep = Some(due);
                self.asleep.insert((due, origin));
            }
            Some(_) => {}
        }
    }

    /// Wakes origins whose time has come, up to a number.
    fn wake(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some((due, origin)) = self.asleep.first().copied().filter(|(due, _)| *due <= now)
            else {
                return;
            };
            self.asleep.remove(&(due, origin));
            if let Some(waiting) = self.origins.get_mut(&origin) {
                waiting.asleep = None;
            }
            self.fair.want(origin);
        }
    }

    /// Returns the peers whose turn has come, for this audience. Each must be scheduled [`again`](Self::again).
    pub(super) fn poll(&mut self, audience: Audience, now: Instant) -> Vec<Called> {
        let mut called = Vec::new();
        let links = audience.links;
        if self.poll_timeout(links).is_none_or(|at| at > now) {
            return called;
        }
        self.wake(now);
        let burst = BURST.max(repeat_pause(self.interval, links));
        while called.len() < AT_ONCE
            && self.spent.is_none_or(|spent| spent <= now + burst)
            && let Some(origin) = self.fair.first()
        {
            let next = self.origins.get_mut(&origin).and_then(|w| w.next(now));
            let Some(turn) = next else {
                self.fair.rest(origin);
                self.settle(origin);
                continue;
            };
            if let Some(address) = self.take(origin, turn) {
                let bytes = address.len() + FRAME;
                self.fair.charge(origin, bytes as u64);
                let price = self.price(bytes, audience);
                self.spent = Some(self.spent.map_or(now, |spent| spent.max(now)) + price);
                if !turn.is_news {
                    self.round = self.interval + now.saturating_duration_since(turn.due);
                }
                called.push(Called { address, turn });
            }
        }
        self.polled = Some(now);
        self.is_behind = self.news > 0 && self.spent.is_some_and(|spent| spent > now + burst);
        // If more were due than may go at once, the rest goes on without a pause.
        self.gathers_from = (called.len() < AT_ONCE).then_some(now);
        called
    }

    /// Returns the time that an announcement of `bytes` bytes uses up.
    ///
    /// Each tenant has a part of the rate in proportion to its links: the price is that of an announcement to the links
    /// of all tenants.
    fn price(&self, bytes: usize, audience: Audience) -> Duration {
        let Audience {
            links,
            paid,
            others,
        } = audience;
        let links = (paid as f64).max(links as f64 / MOST_UNPAID) + others as f64;
        let rates = (links / LINKS_OF_RATE as f64).clamp(1.0, MOST_RATES);
        let seconds = bytes as f64 * links / (self.rate as f64 * rates);
        Duration::try_from_secs_f64(seconds).map_or(MAX_PRICE, |price| price.min(MAX_PRICE))
    }

    /// Returns when there is something to poll, with this number of links to tell.
    pub(super) fn poll_timeout(&self, links: usize) -> Option<Instant> {
        let pause = repeat_pause(self.interval, links);
        let gathered = |pause| self.gathers_from.map(|from| from + pause);
        let news = self.news_since.filter(|_| self.news > 0);
        let news = news.map(|since| {
            let gathering = match self.is_behind && links > FEW {
                true => news_pause(links).max(pause.min(LONGEST_NEWS_PAUSE)),
                false => news_pause(links),
            };
            Some(since).max(gathered(gathering))
        });
        let repeats = match self.fair.first() {
            // The origin was due when it was woken.
            Some(_) => self.polled,
            None => self.asleep.first().map(|(due, _)| *due),
        };
        let repeats = repeats.map(|due| Some(due).max(gathered(pause)));
        let first = news.into_iter().chain(repeats).min()?;
        let spent = self
            .spent
            .and_then(|spent| spent.checked_sub(BURST.max(pause)));
        first.max(spent)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let waiting = self.origins.values();
        waiting.map(|w| w.news.len() + w.repeats.len()).sum()
    }
}

fn news_pause(links: usize) -> Duration {
    match links {
        0..=FEW => Duration::ZERO,
        _ => NEWS_PAUSE.max(per_link(NEWS_PAUSE_PER_LINK, links)),
    }
}

fn repeat_pause(interval: Duration, links: usize) -> Duration {
    REPEAT_PAUSE
        .min(interval / LATENESS)
        .max(per_link(REPEAT_PAUSE_PER_LINK, links))
}

fn per_link(pause: Duration, links: usize) -> Duration {
    pause.saturating_mul(u32::try_from(links).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
