//! The peers that a newcomer is given when they are too many for one answer: a fair, random sample.
//!
//! Each group of origins has the same number of places for its weight, as far as it has peers. So an origin with ten
//! thousand peers crowds out no other peer.

use std::{collections::BTreeMap, sync::Arc};

use crate::rendezvous::origin::{Claimant, Group, Origin};

/// The number of tries for each peer that is to be found. Tries may fail: where one origin of a group has almost all of
/// the group's peers, the turns of its other origins find none.
const TRIES: usize = 4;

#[derive(Debug, Default)]
struct GroupPeers {
    /// Its position in the list of groups.
    place: usize,
    limit: u32,
    weights: u64,
    origins: Vec<Origin>,
}

#[derive(Debug)]
struct OriginPeers {
    /// Its position in its group.
    place: usize,
    weight: u32,
    peers: Vec<Arc<str>>,
}

/// All peers, by origin.
#[derive(Debug, Default)]
pub(super) struct Sample {
    list: Vec<Group>,
    groups: BTreeMap<Group, GroupPeers>,
    origins: BTreeMap<Origin, OriginPeers>,
    len: usize,
}

/// The state of picking in one group.
struct Open<'a> {
    group: &'a GroupPeers,
    next: usize,
    /// The number of origins in a row that had no peer left.
    empty: usize,
}

impl Sample {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn origins(&self) -> Vec<Origin> {
        self.origins.keys().copied().collect()
    }

    /// Adds a peer; returns its place within its origin.
    pub(super) fn add(&mut self, claimant: &Claimant, address: Arc<str>) -> usize {
        let Claimant {
            origin,
            weight,
            group_limit,
            ..
        } = *claimant;
        let list = &mut self.list;
        let group = self.groups.entry(origin.group()).or_insert_with(|| {
            list.push(origin.group());
            GroupPeers {
                place: list.len() - 1,
                ..GroupPeers::default()
            }
        });
        group.limit = group_limit;
        let known = self.origins.entry(origin).or_insert_with(|| {
            group.origins.push(origin);
            group.weights += u64::from(weight);
            OriginPeers {
                place: group.origins.len() - 1,
                weight,
                peers: Vec::new(),
            }
        });
        known.peers.push(address);
        self.len += 1;
        known.peers.len() - 1
    }

    /// Removes the peer at a place; returns the peer that has moved there, if any.
    pub(super) fn remove(&mut self, origin: Origin, place: usize) -> Option<Arc<str>> {
        let known = self.origins.get_mut(&origin)?;
        if place >= known.peers.len() {
            return None;
        }
        known.peers.swap_remove(place);
        self.len -= 1;
        let moved = known.peers.get(place).cloned();
        if known.peers.is_empty() {
            self.remove_origin(origin);
        }
        moved
    }

    fn remove_origin(&mut self, origin: Origin) {
        let Some(known) = self.origins.remove(&origin) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&origin.group()) else {
            return;
        };
        group.weights -= u64::from(known.weight);
        group.origins.swap_remove(known.place);
        if let Some(moved) = group.origins.get(known.place)
            && let Some(moved) = self.origins.get_mut(moved)
        {
            moved.place = known.place;
        }
        if !group.origins.is_empty() {
            return;
        }
        if let Some(group) = self.groups.remove(&origin.group()) {
            self.list.swap_remove(group.place);
            if let Some(moved) = self.list.get(group.place)
                && let Some(moved) = self.groups.get_mut(moved)
            {
                moved.place = group.place;
            }
        }
    }

    /// Picks up to `max` different peers, or all if there are no more. `random` decides where picking begins.
    pub(super) fn pick(&self, max: usize, random: u64) -> Vec<Arc<str>> {
        if self.len <= max {
            let all = self.origins.values().flat_map(|origin| &origin.peers);
            return all.cloned().collect();
        }
        let start = within(random, self.list.len());
        let (before, from) = self.list.split_at(start);
        let groups = from.iter().chain(before).take(max);
        let mut open: Vec<Open<'_>> = groups
            .filter_map(|group| self.groups.get(group))
            .map(|group| Open {
                group,
                next: 0,
                empty: 0,
            })
            .collect();
        let mut picked = Vec::with_capacity(max);
        let mut tries = max * TRIES;
        while picked.len() < max && tries > 0 && !open.is_empty() {
            open.retain_mut(|open| self.pick_round(open, random, max, &mut picked, &mut tries));
        }
        picked
    }

    /// Picks as many peers of a group as it may have in one round; returns whether it may have more.
    fn pick_round(
        &self,
        open: &mut Open<'_>,
        random: u64,
        max: usize,
        picked: &mut Vec<Arc<str>>,
        tries: &mut usize,
    ) -> bool {
        let origins = &open.group.origins;
        let weight = open.group.weights.min(u64::from(open.group.limit)).max(1);
        for _ in 0..weight {
            if picked.len() >= max || *tries == 0 {
                return false;
            }
            *tries -= 1;
            // Picking goes around all origins of the group, one peer of each.
            let (round, nth) = (open.next / origins.len(), open.next % origins.len());
            open.next += 1;
            let first = within(random, origins.len());
            let origin = origins.get((first + nth) % origins.len());
            let peers = origin.and_then(|o| self.origins.get(o)).map(|o| &o.peers);
            if let Some(peers) = peers
                && round < peers.len()
                && let Some(peer) = peers.get((within(random, peers.len()) + round) % peers.len())
            {
                picked.push(peer.clone());
                open.empty = 0;
            } else {
                open.empty += 1;
                if open.empty >= origins.len() {
                    return false;
                }
            }
        }
        true
    }
}

/// Returns a place in a list of `len` entries; the same number gives the same place.
fn within(random: u64, len: usize) -> usize {
    let place = random.checked_rem(len as u64).unwrap_or_default();
    usize::try_from(place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::IpAddr};

    use super::*;
    use crate::rendezvous::origin::Weights;

    fn claimant(ip: &str) -> Claimant {
        let ip: IpAddr = ip.parse().expect("an address");
        Weights::default().claimant(ip)
    }

    fn with(origins: &[(String, usize)]) -> Sample {
        let mut sample = Sample::default();
        for (ip, peers) in origins {
            for n in 0..*peers {
                sample.add(&claimant(ip), format!("{ip} {n}").into());
            }
        }
        sample
    }

    fn of(picked: &[Arc<str>], ip: &str) -> usize {
        let begin = format!("{ip} ");
        picked.iter().filter(|p| p.starts_with(&begin)).count()
    }

    #[test]
    fn few_peers_are_all_given() {
        let sample = with(&[("192.0.2.1".into(), 3), ("192.0.2.2".into(), 1)]);
        assert_eq!(sample.pick(4, 7).len(), 4);
        assert!(Sample::default().pick(4, 7).is_empty());
    }

    #[test]
    fn an_origin_with_very_many_peers_pushes_nobody_out() {
        let mut origins: Vec<_> = (1..=50).map(|n| (format!("192.0.2.{n}"), 100)).collect();
        origins.push(("203.0.113.1".into(), 16_000));
        let sample = with(&origins);
        for random in [0, 1, u64::MAX, 1 << 40] {
            let picked = sample.pick(256, random);
            let different: HashSet<_> = picked.iter().collect();
            assert_eq!((picked.len(), different.len()), (256, 256));
            let many = of(&picked, "203.0.113.1");
            assert!((5..=6).contains(&many), "{many}");
        }
    }

    #[test]
    fn places_that_some_do_not_need_go_to_the_others() {
        let mut origins: Vec<_> = (1..=50).map(|n| (format!("192.0.2.{n}"), 1)).collect();
        origins.push(("203.0.113.1".into(), 16_000));
        let picked = with(&origins).pick(256, 3);
        assert_eq!(picked.len(), 256);
        assert_eq!(of(&picked, "203.0.113.1"), 256 - 50);
    }

    #[test]
    fn a_48_has_four_places_where_an_address_has_one() {
        let mut origins: Vec<_> = (0..200)
            .map(|n| (format!("2001:db8:0:{n}::1"), 16))
            .collect();
        origins.extend((1..=46).map(|n| (format!("192.0.2.{n}"), 100)));
        let picked = with(&origins).pick(250, 11);
        let honest = picked.iter().filter(|p| p.starts_with("192.")).count();
        assert_eq!((picked.len(), honest), (250, 230));
    }

    #[test]
    fn more_origins_than_places_are_told_of_in_turn() {
        let origins: Vec<_> = (0..=255)
            .flat_map(|a| (0..=3).map(move |b| (format!("192.0.{b}.{a}"), 1)))
            .collect();
        let sample = with(&origins);
        let mut seen = HashSet::new();
        for random in 0..1024 {
            seen.extend(sample.pick(256, random * 2));
        }
        assert_eq!(seen.len(), 1024);
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let mut sample = Sample::default();
        let ips = ["192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "192.0.2.2"];
        for ip in ips {
            sample.add(&claimant(ip), format!("{ip} a").into());
            sample.add(&claimant(ip), format!("{ip} b").into());
        }
        let first = claimant(ips[0]).origin;
        assert_eq!(sample.remove(first, 0), Some("192.0.2.1 b".into()));
        assert_eq!(sample.remove(first, 0), None);
        for ip in &ips[1..] {
            let origin = claimant(ip).origin;
            while sample.remove(origin, 0).is_some() {}
        }
        assert_eq!(sample.len(), 0);
        assert!(sample.list.is_empty() && sample.groups.is_empty() && sample.origins.is_empty());
    }
}
