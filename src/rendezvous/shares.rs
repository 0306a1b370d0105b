//! Who gets how much of what is scarce: a weighted max-min share for each origin. No IO.
//!
//! As long as there is enough, everybody gets what they ask for. When all is taken, whoever holds
//! least for their weight gets a place of whoever holds most. First the groups share, and within each
//! group its origins, so that an IPv6 /48 gains nothing by the number of its networks.
//!
//! An operation costs the logarithm of the number of origins that hold something, and only those are
//! remembered. The maps are trees, because a hash table would hold a lock for milliseconds whenever it grows.

use std::collections::{BTreeMap, BTreeSet};

use super::origin::{Claimant, Group, Origin};

/// Everything is taken, and nobody holds enough to give way to the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// How much is held for each unit of weight, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ratio(u128);

impl Ratio {
    const MAX: Self = Self(u128::MAX);

    fn new(held: u64, weight: u32) -> Self {
        // Exact to a 2^32th, which no two sums of bytes or links can differ by.
        Self((u128::from(held) << 32) / u128::from(weight.max(1)))
    }
}

#[derive(Debug)]
struct OriginShare {
    held: u64,
    weight: u32,
}

impl OriginShare {
    fn ratio(&self) -> Ratio {
        Ratio::new(self.held, self.weight)
    }
}

#[derive(Debug, Default)]
struct GroupShare {
    held: u64,
    /// Of its origins that hold something.
    weights: u64,
    limit: u32,
}

impl GroupShare {
    fn weight(&self) -> u32 {
        let limit = self.limit.max(1);
        u32::try_from(self.weights).map_or(limit, |weights| weights.min(limit))
    }

    fn ratio(&self) -> Ratio {
        Ratio::new(self.held, self.weight())
    }
}

/// What each origin holds of something that there is so much of.
#[derive(Debug)]
pub(super) struct Shares {
    capacity: u64,
    held: u64,
    /// Of all groups together.
    weights: u64,
    origins: BTreeMap<Origin, OriginShare>,
    groups: BTreeMap<Group, GroupShare>,
    /// The groups by what they hold.
    by_group: BTreeSet<(Ratio, Group)>,
    /// The origins of each group by what they hold.
    by_origin: BTreeSet<(Group, Ratio, Origin)>,
}

impl Shares {
    /// So much, of which nobody holds anything.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            held: 0,
            weights: 0,
            origins: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_group: BTreeSet::new(),
            by_origin: BTreeSet::new(),
        }
    }

    /// The same, with so much at most.
    pub(super) fn with_at_most(mut self, capacity: u64) -> Self {
        self.capacity = self.capacity.min(capacity);
        self
    }

    /// How much all hold together.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// How much an origin holds.
    pub(super) fn held_by(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |share| share.held)
    }

    /// How much all hold together, where the group that holds most for its weight counts for no more than
    /// the others do on the average.
    pub(super) fn held_evenly(&self) -> u64 {
        let largest = self.by_group.last();
        let Some(largest) = largest.and_then(|(_, group)| self.groups.get(group)) else {
            return 0;
        };
        let others = self.held - largest.held;
        let weight = u64::from(largest.weight());
        let weights = self.weights - weight;
        let share = (weights > 0).then(|| others.saturating_mul(weight).div_ceil(weights));
        others + share.map_or(largest.held, |share| share.clamp(1, largest.held))
    }

    /// The origin that holds most for its weight, of the group that does.
    pub(super) fn largest(&self) -> Option<Origin> {
        let (_, group) = self.by_group.last()?;
        self.largest_of(*group).map(|(_, origin)| origin)
    }

    /// The origin that holds most, if it holds more than one for each unit of its weight.
    pub(super) fn crowded(&self) -> Option<Origin> {
        let (ratio, group) = self.by_group.last()?;
        let origin = self.largest_of(*group).map(|(_, origin)| origin);
        origin.filter(|_| *ratio > Ratio::new(1, 1))
    }

    /// Takes one for an origin.
    ///
    /// Where all are taken, it is taken from the origin that is given, which has one less from now on:
    /// one of its holders has to go, and is not to be released again. An origin gives way only if it
    /// holds more for its weight than the other one does afterwards, so two origins never take the same
    /// place from each other in turn.
    pub(super) fn try_take(&mut self, claimant: &Claimant) -> Result<Option<Origin>, Full> {
        if self.held < self.capacity {
            self.take(claimant, 1);
            return Ok(None);
        }
        let from = self.gives_way(claimant).ok_or(Full)?;
        self.release(from, 1);
        self.take(claimant, 1);
        Ok(Some(from))
    }

    /// Takes so much for an origin, whether it is there or not.
    pub(super) fn take(&mut self, claimant: &Claimant, amount: u64) {
        let Claimant { origin, weight, .. } = *claimant;
        let held = self.held_by(origin).saturating_add(amount);
        let limit = claimant.group_limit;
        self.set(origin, OriginShare { held, weight }, limit);
    }

    /// An origin gives back so much.
    pub(super) fn release(&mut self, origin: Origin, amount: u64) {
        let Some(share) = self.origins.get(&origin) else {
            return;
        };
        let limit = self.groups.get(&origin.group()).map_or(1, |g| g.limit);
        let share = OriginShare {
            held: share.held.saturating_sub(amount),
            weight: share.weight,
        };
        self.set(origin, share, limit);
    }

    fn set(&mut self, origin: Origin, share: OriginShare, limit: u32) {
        let group = origin.group();
        let mut of_group = self.groups.remove(&group).unwrap_or_default();
        if self.by_group.remove(&(of_group.ratio(), group)) {
            self.weights -= u64::from(of_group.weight());
        }
        of_group.limit = limit;
        if let Some(before) = self.origins.remove(&origin) {
            self.by_origin.remove(&(group, before.ratio(), origin));
            of_group.held -= before.held;
            of_group.weights -= u64::from(before.weight);
            self.held -= before.held;
        }
        if share.held > 0 {
            of_group.held += share.held;
            of_group.weights += u64::from(share.weight);
            self.held += share.held;
            self.by_origin.insert((group, share.ratio(), origin));
            self.origins.insert(origin, share);
        }
        if of_group.held > 0 {
            self.by_group.insert((of_group.ratio(), group));
            self.weights += u64::from(of_group.weight());
            self.groups.insert(group, of_group);
        }
    }

    /// Whether all is taken.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.capacity
    }

    /// The origin that is to give one up for an origin that wants one more.
    pub(super) fn gives_way(&self, claimant: &Claimant) -> Option<Origin> {
        let group = claimant.origin.group();
        let most = self.by_group.iter().rev().find(|(_, g)| *g != group);
        if let Some((ratio, most)) = most
            && self.ratio_of_group_with_one_more(claimant) < *ratio
        {
            return self.largest_of(*most).map(|(_, origin)| origin);
        }
        let wanted = Ratio::new(self.held_by(claimant.origin) + 1, claimant.weight);
        let (ratio, origin) = self.largest_of(group)?;
        (wanted < ratio).then_some(origin)
    }

    fn ratio_of_group_with_one_more(&self, claimant: &Claimant) -> Ratio {
        let (held, weights) = match self.groups.get(&claimant.origin.group()) {
            Some(group) => (group.held, group.weights),
            None => (0, 0),
        };
        let added = match self.origins.contains_key(&claimant.origin) {
            true => 0,
            false => u64::from(claimant.weight),
        };
        let group = GroupShare {
            held: held + 1,
            weights: weights + added,
            limit: claimant.group_limit,
        };
        group.ratio()
    }

    fn largest_of(&self, group: Group) -> Option<(Ratio, Origin)> {
        let end = (group, Ratio::MAX, Origin::V6(u64::MAX));
        let (of, ratio, origin) = self.by_origin.range(..=end).next_back()?;
        (*of == group).then_some((*ratio, *origin))
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
