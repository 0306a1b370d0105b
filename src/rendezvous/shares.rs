//! Divides something scarce among origins: a weighted max-min share for each. No IO.
//!
//! As long as there is enough, every origin gets what it asks for. When everything is taken, the origin that holds
//! least for its weight gets a place of the origin that holds most. The groups share first, and then the origins within
//! each group, so that an IPv6 /48 gains nothing by the number of its networks.
//!
//! An operation costs the logarithm of the number of origins that hold something, and only those are remembered. The
//! maps are trees, because a hash table would hold a lock for milliseconds whenever it grows.

use std::collections::{BTreeMap, BTreeSet};

use super::origin::{Claimant, Group, Origin};

/// An error: everything is taken, and no origin holds enough to give way to the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// How much is held for each unit of weight, for comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ratio(u128);

impl Ratio {
    const MAX: Self = Self(u128::MAX);

    fn new(held: u64, weight: u32) -> Self {
        // Exact to 2^-32. No two sums of bytes or links in use differ by less.
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
    /// The sum of the weights of its origins that hold something.
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

/// What each origin holds of something that is limited to `capacity`.
#[derive(Debug)]
pub(super) struct Shares {
    capacity: u64,
    held: u64,
    /// The sum of the weights of all groups.
    weights: u64,
    origins: BTreeMap<Origin, OriginShare>,
    groups: BTreeMap<Group, GroupShare>,
    /// The groups by what they hold.
    by_group: BTreeSet<(Ratio, Group)>,
    /// The origins of each group by what they hold.
    by_origin: BTreeSet<(Group, Ratio, Origin)>,
}

impl Shares {
    /// Creates shares of this capacity, of which nothing is held.
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

    /// Limits the capacity to at most this.
    pub(super) fn with_at_most(mut self, capacity: u64) -> Self {
        self.capacity = self.capacity.min(capacity);
        self
    }

    /// Returns how much all origins hold together.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Returns how much an origin holds.
    pub(super) fn held_by(&self, origin: Origin) -> u64 {
        self.origins.get(&origin).map_or(0, |share| share.held)
    }

    /// Returns how much all origins hold together, where the group that holds most for its weight counts for no more
    /// than the others do on average.
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

    /// Returns the origin that holds most for its weight, within the group that holds most for its weight.
    pub(super) fn largest(&self) -> Option<Origin> {
        let (_, group) = self.by_group.last()?;
        self.largest_of(*group).map(|(_, origin)| origin)
    }

    /// Returns the same origin, if its group holds more than one for each unit of the group's weight.
    pub(super) fn crowded(&self) -> Option<Origin> {
        let (ratio, group) = self.by_group.last()?;
        let origin = self.largest_of(*group).map(|(_, origin)| origin);
        origin.filter(|_| *ratio > Ratio::new(1, 1))
    }

    /// Takes one for an origin.
    ///
    /// If everything is taken, one is taken away from the origin that is returned. That origin holds one less from now
    /// on: the caller has to end one of its holders, and must not release it again. An origin gives way only if it
    /// holds more for its weight than the asking origin does afterwards. So two origins never take the same place from
    /// each other in turn.
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

    /// Takes this amount for an origin, even beyond the capacity.
    pub(super) fn take(&mut self, claimant: &Claimant, amount: u64) {
        let Claimant { origin, weight, .. } = *claimant;
        let held = self.held_by(origin).saturating_add(amount);
        let limit = claimant.group_limit;
        self.set(origin, OriginShare { held, weight }, limit);
    }

    /// Gives back this amount of an origin.
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

    /// Returns whether everything is taken.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.capacity
    }

    /// Returns the origin that has to give one up for an origin that wants one more.
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
