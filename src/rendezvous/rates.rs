//! Rate limits for each origin. No IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    origin::{Claimant, Group, Origin},
    rate::Rate,
};

/// The number of entries that are forgotten at once. It is more than are added meanwhile, and small enough not to hold
/// a lock for long.
const FORGOTTEN_AT_ONCE: usize = 16;

/// The holder of a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spender {
    Origin(Origin),
    Group(Group),
}

/// A number of times a second in the long run, and a number of times at once. Both apply to each unit of weight of an
/// origin, and within the limit of its group.
///
/// Only origins and groups that have not recovered their whole rate yet are remembered.
#[derive(Debug)]
pub(super) struct Rates {
    /// The rate of an origin of weight 1.
    rate: Rate,
    /// The time until which each holder has used up its rate.
    spent: BTreeMap<Spender, Instant>,
    rested: BTreeSet<(Instant, Spender)>,
}

impl Rates {
    /// Creates the limits, with this rate for each origin.
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            spent: BTreeMap::new(),
            rested: BTreeSet::new(),
        }
    }

    /// Returns whether the rate of an origin allows an action at `now`. If so, counts the action.
    pub(super) fn try_spend(&mut self, claimant: &Claimant, now: Instant) -> bool {
        self.forget_rested(now);
        let origin = Spender::Origin(claimant.origin);
        let group = Spender::Group(claimant.origin.group());
        let of_origin = self.spent_until(origin, claimant.weight, now);
        let of_group = self.spent_until(group, claimant.group_limit, now);
        let (Some(of_origin), Some(of_group)) = (of_origin, of_group) else {
            return false;
        };
        self.set(origin, of_origin);
        if levels(claimant.origin) > 1 {
            self.set(group, of_group);
        }
        true
    }

    /// Returns whether the rate of an origin allows an action at `now`, without counting it.
    #[cfg(feature = "rendezvous")]
    pub(super) fn may_spend(&self, claimant: &Claimant, now: Instant) -> bool {
        let origin = Spender::Origin(claimant.origin);
        let group = Spender::Group(claimant.origin.group());
        self.spent_until(origin, claimant.weight, now).is_some()
            && self.spent_until(group, claimant.group_limit, now).is_some()
    }

    /// Counts an action of an origin at `now`, whether its rate allows it or not. Returns how long the origin has to
    /// wait before its next action, at most `longest`.
    pub(super) fn spend(
        &mut self,
        claimant: &Claimant,
        now: Instant,
        longest: Duration,
    ) -> Duration {
        self.forget_rested(now);
        let mut pause = Duration::ZERO;
        let spenders = [
            (Spender::Origin(claimant.origin), claimant.weight),
            (
                Spender::Group(claimant.origin.group()),
                claimant.group_limit,
            ),
        ];
        for (spender, weight) in spenders.into_iter().take(levels(claimant.origin)) {
            let latest = now + self.rate.longest() + longest;
            let until = self.with_one_more(spender, weight, now).min(latest);
            self.set(spender, until);
            let free_until = now + self.rate.longest();
            pause = pause.max(until.saturating_duration_since(free_until));
        }
        pause
    }

    /// Returns until when `spender` would have used up its rate after one more action; `None` if its rate does not
    /// allow it.
    fn spent_until(&self, spender: Spender, weight: u32, now: Instant) -> Option<Instant> {
        let until = self.with_one_more(spender, weight, now);
        let fits = until.saturating_duration_since(now) <= self.rate.longest();
        fits.then_some(until)
    }

    fn with_one_more(&self, spender: Spender, weight: u32, now: Instant) -> Instant {
        let spent = self.spent.get(&spender);
        let before = spent.map_or(now, |until| now.max(*until));
        before + self.rate.cost() / weight.max(1)
    }

    fn set(&mut self, spender: Spender, until: Instant) {
        if let Some(before) = self.spent.insert(spender, until) {
            self.rested.remove(&(before, spender));
        }
        self.rested.insert((until, spender));
    }

    fn forget_rested(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((until, spender)) = self.rested.first().copied() else {
                return;
            };
            if until > now {
                return;
            }
            self.rested.pop_first();
            self.spent.remove(&spender);
        }
    }
}

/// Returns the number of rates that an action of an origin counts for. It is one for an IPv4 address, which is its own
/// group.
fn levels(origin: Origin) -> usize {
    match origin {
        #[cfg(feature = "cluster")]
        Origin::Node(_) => 1,
        Origin::V4(_) => 1,
        Origin::V6(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{super::origin::Weights, *};

    fn claimant(text: &str) -> Claimant {
        let ip: IpAddr = text.parse().expect("an address");
        let mut weights = Weights::default();
        weights.insert("192.0.2.9".parse().expect("a network"), 3);
        weights.insert("2001:db8:2:1::/64".parse().expect("a network"), 4);
        weights.claimant(ip)
    }

    fn at_once(rates: &mut Rates, text: &str, now: Instant) -> usize {
        let who = claimant(text);
        (0..1000).filter(|_| rates.try_spend(&who, now)).count()
    }

    #[test]
    fn each_origin_has_a_burst_of_its_own_and_then_so_many_a_second() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let start = Instant::now();
        assert_eq!(at_once(&mut rates, "192.0.2.1", start), 5);
        assert_eq!(at_once(&mut rates, "192.0.2.2", start), 5);
        let who = claimant("192.0.2.1");
        let second = (1..=1000).filter(|ms| {
            let now = start + Duration::from_millis(*ms);
            rates.try_spend(&who, now)
        });
        assert_eq!(second.count(), 10);
    }

    #[test]
    fn a_weight_counts_and_a_48_has_four_times_what_an_address_has() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let start = Instant::now();
        assert_eq!(at_once(&mut rates, "192.0.2.9", start), 15);
        let networks = (0..100).map(|n| format!("2001:db8:0:{n:x}::1"));
        let all: usize = networks
            .map(|address| at_once(&mut rates, &address, start))
            .sum();
        assert_eq!(all, 20);
        assert_eq!(at_once(&mut rates, "2001:db8:1::1", start), 5);
    }

    #[test]
    fn what_the_heaviest_network_of_a_48_has_spent_its_others_have_not() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let start = Instant::now();
        assert_eq!(at_once(&mut rates, "2001:db8:2:1::1", start), 20);
        assert_eq!(at_once(&mut rates, "2001:db8:2:2::1", start), 0);
        assert_eq!(at_once(&mut rates, "2001:db8:3:2::1", start), 5);
    }

    #[test]
    fn whoever_does_it_too_often_all_the_same_waits_the_longer() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let (start, longest) = (Instant::now(), Duration::from_secs(2));
        let who = claimant("192.0.2.1");
        let mut pauses = (0..100).map(|_| rates.spend(&who, start, longest).as_millis());
        assert_eq!(pauses.by_ref().take(5).sum::<u128>(), 0);
        assert_eq!(pauses.by_ref().take(3).collect::<Vec<_>>(), [100, 200, 300]);
        assert_eq!(pauses.last(), Some(2000));
        let later = start + Duration::from_secs(1);
        assert_eq!(rates.spend(&who, later, longest).as_millis(), 1100);
        let another = claimant("192.0.2.2");
        assert_eq!(rates.spend(&another, later, longest), Duration::ZERO);
    }

    #[test]
    fn the_networks_of_a_48_wait_for_each_other() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let (now, longest) = (Instant::now(), Duration::from_secs(2));
        let networks = (0..21).map(|n| claimant(&format!("2001:db8:0:{n:x}::1")));
        let pauses: Vec<_> = networks
            .map(|who| rates.spend(&who, now, longest))
            .collect();
        assert!(pauses[..20].iter().all(Duration::is_zero), "{pauses:?}");
        assert_eq!(pauses[20].as_millis(), 25);
    }

    #[test]
    fn whoever_has_rested_is_forgotten() {
        let mut rates = Rates::new(Rate::new(10, 5));
        let start = Instant::now();
        for n in 0..100 {
            at_once(&mut rates, &format!("192.0.3.{n}"), start);
            at_once(&mut rates, &format!("2001:db8:{n:x}::1"), start);
        }
        assert!(rates.spent.len() > 200);
        let rested = start + Duration::from_secs(1);
        assert_eq!(at_once(&mut rates, "192.0.3.1", rested), 5);
        assert_eq!((rates.spent.len(), rates.rested.len()), (1, 1));
    }
}
