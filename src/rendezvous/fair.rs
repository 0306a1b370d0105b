//! The order in which origins are served: fair queueing in two levels, by group and, within each group, by origin.
//!
//! Each key has a point in virtual time at which it is served next. Serving it moves this point on by the cost divided
//! by the weight. So in the long run, keys that always want something get shares by weight, and a key that wants less
//! is served at once. A key that comes back after a rest has saved nothing up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::origin::{Claimant, Group, Origin};

/// The maximum number of origins that are remembered although they have nothing, because they have had more than their
/// share.
const MAX_IN_DEBT: usize = 16 * 1024;
/// The number of those origins that are examined whenever another one is added.
const LOOKS: usize = 4;
/// The units of virtual time for one unit of cost at weight 1.
const SCALE: u64 = 1 << 10;

/// The queue of one level.
#[derive(Debug)]
struct Level<K> {
    clock: u64,
    ready: BTreeSet<(u64, K)>,
}

impl<K> Default for Level<K> {
    fn default() -> Self {
        Self {
            clock: 0,
            ready: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Level<K> {
    fn enter(&mut self, key: K, turn: &mut u64) {
        *turn = self.clock.max(*turn);
        self.ready.insert((*turn, key));
    }

    fn leave(&mut self, key: K, turn: u64) {
        self.ready.remove(&(turn, key));
    }

    fn first(&self) -> Option<K> {
        self.ready.first().map(|(_, key)| *key)
    }

    fn charge(&mut self, key: K, turn: &mut u64, cost: u64, weight: u64) {
        self.ready.remove(&(*turn, key));
        self.clock = self.clock.max(*turn);
        *turn = turn.saturating_add(cost.saturating_mul(SCALE) / weight.max(1));
        self.ready.insert((*turn, key));
    }
}

#[derive(Debug)]
struct OriginTurn {
    turn: u64,
    weight: u32,
    /// The number of things that the origin has, including those that do not wait.
    things: usize,
    is_ready: bool,
}

#[derive(Debug, Default)]
struct GroupTurn {
    turn: u64,
    limit: u32,
    /// The sum of the weights of its origins.
    weights: u64,
    level: Level<Origin>,
    /// The number of known origins, including those that have nothing.
    origins: usize,
    /// Whether the group is not served for now, whatever its origins want.
    is_held: bool,
}

impl GroupTurn {
    fn weight(&self) -> u64 {
        self.weights.min(u64::from(self.limit)).max(1)
    }
}

/// The order in which origins are served.
///
/// An origin is known from [`add`](Self::add) to the last [`remove`](Self::remove), and after that until the others
/// have had as much. So an origin that leaves and comes back does not begin anew. While it is known, it may want
/// something or not.
#[derive(Debug, Default)]
pub(super) struct Fair {
    origins: BTreeMap<Origin, OriginTurn>,
    groups: BTreeMap<Group, GroupTurn>,
    level: Level<Group>,
    /// The known origins that have nothing.
    in_debt: VecDeque<Origin>,
}

impl Fair {
    /// Adds one thing to an origin.
    pub(super) fn add(&mut self, claimant: &Claimant) {
        let Claimant {
            origin,
            weight,
            group_limit,
            ..
        } = *claimant;
        let group = self.groups.entry(origin.group()).or_default();
        group.limit = group_limit;
        let known = self.origins.entry(origin).or_insert_with(|| {
            group.origins += 1;
            OriginTurn {
                turn: 0,
                weight,
                things: 0,
                is_ready: false,
            }
        });
        if known.things == 0 {
            group.weights += u64::from(weight);
        }
        known.weight = weight;
        known.things += 1;
    }

    /// Removes one thing from an origin.
    pub(super) fn remove(&mut self, origin: Origin) {
        let Some(known) = self.origins.get_mut(&origin) else {
            return;
        };
        known.things -= 1;
        if known.things > 0 {
            return;
        }
        let weight = known.weight;
        self.rest(origin);
        if let Some(group) = self.groups.get_mut(&origin.group()) {
            group.weights -= u64::from(weight);
        }
        self.in_debt.push_back(origin);
        for _ in 0..LOOKS {
            let Some(oldest) = self.in_debt.pop_front() else {
                return;
            };
            if self.has_debt(oldest) && self.in_debt.len() < MAX_IN_DEBT {
                self.in_debt.push_back(oldest);
            } else {
                self.forget(oldest);
            }
        }
    }

    /// Returns whether an origin that has nothing would gain if it were forgotten.
    fn has_debt(&self, origin: Origin) -> bool {
        let known = self.origins.get(&origin).filter(|known| known.things == 0);
        let group = self.groups.get(&origin.group());
        let (Some(known), Some(group)) = (known, group) else {
            return false;
        };
        let others_have_nothing = group.weights == 0;
        match others_have_nothing {
            true => group.turn > self.level.clock,
            false => known.turn > group.level.clock,
        }
    }

    /// Forgets an origin if it has nothing.
    fn forget(&mut self, origin: Origin) {
        if self
            .origins
            .get(&origin)
            .is_none_or(|known| known.things > 0)
        {
            return;
        }
        self.origins.remove(&origin);
        if let Some(group) = self.groups.get_mut(&origin.group()) {
            group.origins -= 1;
            if group.origins == 0 {
                self.groups.remove(&origin.group());
            }
        }
    }

    /// Returns whether an origin wants something.
    pub(super) fn wants(&self, origin: Origin) -> bool {
        self.origins
            .get(&origin)
            .is_some_and(|known| known.is_ready)
    }

    /// Notes that an origin wants something from now on.
    pub(super) fn want(&mut self, origin: Origin) {
        let Some(known) = self.origins.get_mut(&origin).filter(|o| !o.is_ready) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&origin.group()) else {
            return;
        };
        known.is_ready = true;
        if group.level.ready.is_empty() && !group.is_held {
            self.level.enter(origin.group(), &mut group.turn);
        }
        group.level.enter(origin, &mut known.turn);
    }

    /// Stops serving a group, whatever its origins want.
    pub(super) fn hold(&mut self, group: Group) {
        if let Some(known) = self.groups.get_mut(&group).filter(|known| !known.is_held) {
            known.is_held = true;
            self.level.leave(group, known.turn);
        }
    }

    /// Serves a group again.
    pub(super) fn release(&mut self, group: Group) {
        let Some(known) = self.groups.get_mut(&group).filter(|known| known.is_held) else {
            return;
        };
        known.is_held = false;
        if !known.level.ready.is_empty() {
            self.level.enter(group, &mut known.turn);
        }
    }

    /// Returns the weight of a group; 1 if it has nothing.
    pub(super) fn weight(&self, group: Group) -> u64 {
        self.groups.get(&group).map_or(1, GroupTurn::weight)
    }

    /// Notes that an origin wants nothing for now.
    pub(super) fn rest(&mut self, origin: Origin) {
        let Some(known) = self.origins.get_mut(&origin).filter(|o| o.is_ready) else {
            return;
        };
        known.is_ready = false;
        if let Some(group) = self.groups.get_mut(&origin.group()) {
            group.level.leave(origin, known.turn);
            if group.level.ready.is_empty() {
                self.level.leave(origin.group(), group.turn);
            }
        }
    }

    /// Returns the origin that is served next, among those that want something.
    pub(super) fn first(&self) -> Option<Origin> {
        self.groups.get(&self.level.first()?)?.level.first()
    }

    /// Serves an origin that wants something, at this cost.
    pub(super) fn charge(&mut self, origin: Origin, cost: u64) {
        let Some(known) = self.origins.get_mut(&origin).filter(|o| o.is_ready) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&origin.group()) {
            let weight = group.weight();
            self.level
                .charge(origin.group(), &mut group.turn, cost, weight);
            let weight = u64::from(known.weight);
            group.level.charge(origin, &mut known.turn, cost, weight);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.origins.values().all(|known| known.things == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::IpAddr};

    use super::{super::origin::Weights, *};

    fn claimant(text: &str) -> Claimant {
        let mut weights = Weights::default();
        weights.insert("192.0.2.9".parse().expect("a network"), 3);
        weights.claimant(text.parse::<IpAddr>().expect("an address"))
    }

    /// Returns how often each origin is served in `times` turns if all always want something.
    fn served(fair: &mut Fair, times: usize) -> HashMap<Origin, usize> {
        let mut served = HashMap::new();
        for _ in 0..times {
            let origin = fair.first().expect("an origin has something to send");
            fair.charge(origin, 100);
            *served.entry(origin).or_default() += 1;
        }
        served
    }

    fn wanting(addresses: &[&str]) -> Fair {
        let mut fair = Fair::default();
        for address in addresses {
            fair.add(&claimant(address));
            fair.want(claimant(address).origin);
        }
        fair
    }

    #[test]
    fn those_who_want_all_get_shares_by_weight() {
        let all = ["192.0.2.1", "192.0.2.2", "192.0.2.9"];
        let served = served(&mut wanting(&all), 500);
        let shares = all.map(|address| served[&claimant(address).origin]);
        assert!(shares[0].abs_diff(100) <= 1, "{shares:?}");
        assert!(shares[1].abs_diff(100) <= 1, "{shares:?}");
        assert!(shares[2].abs_diff(300) <= 1, "{shares:?}");
    }

    #[test]
    fn a_48_gets_four_shares_at_most_however_many_networks_it_has() {
        let networks: Vec<String> = (0..100).map(|n| format!("2001:db8:0:{n}::1")).collect();
        let mut all: Vec<&str> = networks.iter().map(String::as_str).collect();
        all.push("192.0.2.1");
        let served = served(&mut wanting(&all), 500);
        let honest = served[&claimant("192.0.2.1").origin];
        assert!(honest.abs_diff(100) <= 1, "{honest}");
        let least = all[..100].iter().map(|a| served[&claimant(a).origin]).min();
        assert_eq!(least, Some(4), "within the group they share evenly");
    }

    #[test]
    fn who_has_rested_is_served_at_once_and_has_saved_nothing_up() {
        let mut fair = wanting(&["192.0.2.1", "192.0.2.2"]);
        let rested = claimant("192.0.2.2").origin;
        fair.rest(rested);
        served(&mut fair, 1000);
        fair.want(rested);
        let served = served(&mut fair, 100);
        assert!((49..=51).contains(&served[&rested]), "{served:?}");
    }

    #[test]
    fn who_leaves_and_comes_back_each_time_gets_no_more_than_a_share() {
        let others: Vec<String> = (1..=50).map(|n| format!("192.0.2.{n}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let mut fair = wanting(&others);
        let mut served = 0;
        for address in ["203.0.113.1", "2001:db8::1"]
            .into_iter()
            .cycle()
            .take(1000)
        {
            let fleeting = claimant(address);
            fair.add(&fleeting);
            fair.want(fleeting.origin);
            for _ in 0..10 {
                let first = fair.first().expect("an origin has something to send");
                fair.charge(first, 100);
                served += usize::from(first == fleeting.origin);
            }
            fair.remove(fleeting.origin);
        }
        // Two of 52 shares of 10,000 turns, and twice as much because the two origins alternate.
        assert!(served <= 2 * 10_000 / 50 + 10, "{served}");
    }

    #[test]
    fn who_has_nothing_left_is_forgotten_when_the_others_have_had_as_much() {
        let mut fair = wanting(&["192.0.2.1"]);
        for n in 0..1000 {
            let fleeting = claimant(&format!("2001:db8:{n}::1"));
            fair.add(&fleeting);
            fair.want(fleeting.origin);
            fair.charge(fleeting.origin, 100);
            fair.remove(fleeting.origin);
            served(&mut fair, 2);
        }
        assert!(fair.origins.len() < 10, "{}", fair.origins.len());
        assert!(fair.groups.len() < 10, "{}", fair.groups.len());
    }

    #[test]
    fn a_group_that_is_held_is_passed_over_and_has_saved_nothing_up() {
        let all = ["2001:db8::1", "2001:db8:0:1::1", "192.0.2.1"];
        let mut fair = wanting(&all);
        let [one, other, third] = all.map(|address| claimant(address).origin);
        fair.hold(one.group());
        // What its origins want meanwhile is remembered.
        fair.rest(one);
        fair.rest(other);
        fair.want(one);
        assert_eq!(served(&mut fair, 100), HashMap::from([(third, 100)]));
        fair.rest(third);
        assert_eq!(fair.first(), None);
        fair.want(third);
        fair.want(other);
        fair.release(one.group());
        let served = served(&mut fair, 100);
        let [one, other, third] = [one, other, third].map(|origin| served[&origin]);
        // The group has the weight of two origins.
        assert!(
            one.abs_diff(33) <= 2 && other.abs_diff(33) <= 2,
            "{one} {other}"
        );
        assert!(third.abs_diff(33) <= 2, "{third}");
    }

    #[test]
    fn who_has_nothing_left_wants_nothing() {
        let all = ["192.0.2.1", "2001:db8::1", "2001:db8:0:1::1"];
        let mut fair = wanting(&all);
        served(&mut fair, 10);
        for address in all {
            assert!(!fair.is_empty());
            fair.remove(claimant(address).origin);
        }
        assert!(fair.is_empty());
        assert_eq!(fair.first(), None);
    }
}
