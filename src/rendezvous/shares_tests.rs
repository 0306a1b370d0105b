use std::{collections::HashMap, net::IpAddr};

use proptest::prelude::*;

use super::{super::origin::Weights, *};

fn weights() -> Weights {
    let mut weights = Weights::default();
    for (network, weight) in [("10.0.0.3", 3), ("2001:db8:3::/48", 2)] {
        weights.insert(network.parse().expect("a network"), weight);
    }
    weights
}

fn claimant(text: &str) -> Claimant {
    let ip: IpAddr = text.parse().expect("an address");
    weights().claimant(ip)
}

/// Returns one of 8 IPv4 addresses, or of 4 groups of 8 IPv6 networks.
fn nth(n: usize) -> Claimant {
    match n {
        0..8 => claimant(&format!("10.0.0.{n}")),
        _ => claimant(&format!("2001:db8:{:x}:{:x}::1", n % 4, n / 4 % 8)),
    }
}

#[test]
fn evenly_the_largest_counts_for_no_more_than_the_others_on_the_average() {
    let mut shares = Shares::new(u64::MAX);
    assert_eq!(shares.held_evenly(), 0);
    shares.take(&claimant("10.1.0.1"), 1000);
    assert_eq!(shares.held_evenly(), 1000, "there are no others");
    for n in 1..=50 {
        shares.take(&claimant(&format!("10.2.0.{n}")), 10);
    }
    assert_eq!(shares.held_evenly(), 500 + 10);
    shares.release(claimant("10.1.0.1").origin, 995);
    assert_eq!(shares.held_evenly(), 505, "the sum of all amounts");
    // A /48 with many networks weighs as much as four.
    for n in 0..100 {
        shares.take(&claimant(&format!("2001:db8:0:{n:x}::1")), 10);
    }
    let even = 505 + u64::div_ceil(4 * 505, 51);
    assert_eq!(shares.held_evenly(), even);
    assert_eq!(shares.held(), 505 + 1000);
}

const ALL: usize = 40;

/// Lets each origin ask for as much as it wants, again and again until nothing changes.
fn settle(shares: &mut Shares, wanted: &[(Claimant, u64)]) {
    for _round in 0..10_000 {
        let before = shares.held;
        let mut moved = false;
        for (claimant, wanted) in wanted {
            while shares.held_by(claimant.origin) < *wanted
                && let Ok(from) = shares.try_take(claimant)
            {
                moved |= from.is_some();
            }
        }
        if !moved && shares.held == before {
            return;
        }
    }
    panic!("places move in an endless circle");
}

#[test]
fn below_the_capacity_everybody_gets_what_they_ask_for() {
    let mut shares = Shares::new(10);
    let one = claimant("10.0.0.1");
    assert!((0..10).all(|_| shares.try_take(&one) == Ok(None)));
    assert_eq!(shares.try_take(&one), Err(Full));
    assert_eq!((shares.held(), shares.held_by(one.origin)), (10, 10));
}

#[test]
fn a_newcomer_gets_a_place_of_whoever_holds_most() {
    let mut shares = Shares::new(10);
    let [a, b, c] = ["10.0.0.0", "10.0.0.1", "10.0.0.2"].map(claimant);
    settle(&mut shares, &[(b, 2), (a, 8)]);
    for _ in 0..4 {
        assert_eq!(shares.try_take(&c), Ok(Some(a.origin)));
    }
    // Each holds 4, except `b`, which wants no more than 2.
    assert_eq!(shares.try_take(&c), Err(Full));
    assert_eq!(shares.held_by(b.origin), 2);
    assert_eq!(shares.largest(), Some(c.origin).max(Some(a.origin)));
}

#[test]
fn shares_are_as_weights_are() {
    let mut shares = Shares::new(100);
    let (light, heavy) = (claimant("10.0.0.1"), claimant("10.0.0.3"));
    settle(&mut shares, &[(light, 1000), (heavy, 1000)]);
    assert_eq!(shares.held_by(light.origin), 25);
    assert_eq!(shares.held_by(heavy.origin), 75);
}

#[test]
fn a_48_gets_four_shares_at_most_and_divides_them_among_its_networks() {
    let mut shares = Shares::new(500);
    let other = claimant("10.0.0.1");
    let networks: Vec<_> = (0..50)
        .map(|n| claimant(&format!("2001:db8:0:{n:x}::1")))
        .collect();
    let mut wanted: Vec<_> = networks.iter().map(|network| (*network, 1000)).collect();
    wanted.push((other, 1000));
    settle(&mut shares, &wanted);
    assert_eq!(shares.held_by(other.origin), 100);
    let of_networks = networks.iter().map(|n| shares.held_by(n.origin));
    assert!(of_networks.into_iter().all(|held| held == 8));
}

#[test]
fn a_group_with_few_networks_weighs_what_they_weigh() {
    let mut shares = Shares::new(90);
    let [a, b, other] = ["2001:db8:0:1::", "2001:db8:0:2::", "10.0.0.1"].map(claimant);
    settle(&mut shares, &[(a, 1000), (other, 1000), (b, 1000)]);
    assert!([a, b, other].iter().all(|c| shares.held_by(c.origin) == 30));
}

#[test]
fn the_largest_is_told_and_nothing_is_remembered_of_those_who_have_nothing() {
    let mut shares = Shares::new(10);
    let [a, b] = ["10.0.0.1", "2001:db8::1"].map(claimant);
    shares.take(&a, 12);
    shares.take(&b, 3);
    assert_eq!((shares.held(), shares.largest()), (15, Some(a.origin)));
    shares.release(a.origin, 100);
    shares.release(a.origin, 1);
    assert_eq!((shares.held(), shares.largest()), (3, Some(b.origin)));
    shares.release(b.origin, 3);
    assert_eq!((shares.held(), shares.largest()), (0, None));
    let Shares {
        origins, groups, ..
    } = &shares;
    assert!(origins.is_empty() && groups.is_empty());
    assert!(shares.by_group.is_empty() && shares.by_origin.is_empty());
}

#[test]
fn with_no_room_at_all_everybody_is_refused() {
    let mut shares = Shares::new(0);
    assert_eq!(shares.try_take(&claimant("10.0.0.1")), Err(Full));
}

/// Returns what each group holds and weighs, computed from all origins.
fn groups(held: &HashMap<Origin, (u64, Claimant)>) -> HashMap<Group, (u64, u64)> {
    let mut groups = HashMap::<Group, (u64, u64, u64)>::new();
    for (origin, (held, claimant)) in held {
        let group = groups.entry(origin.group()).or_default();
        group.0 += held;
        group.1 += u64::from(claimant.weight);
        group.2 = u64::from(claimant.group_limit);
    }
    let groups = groups.into_iter();
    groups
        .map(|(g, (held, sum, limit))| (g, (held, sum.min(limit))))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_loses_what_is_within_its_fair_share(
        capacity in 1_u64..60,
        steps in proptest::collection::vec((0..ALL, 0..3_u8), 1..150),
    ) {
        let mut shares = Shares::new(capacity);
        let mut held = HashMap::<Origin, (u64, Claimant)>::new();
        for (n, step) in steps {
            let claimant = nth(n);
            if step == 0 {
                shares.release(claimant.origin, 1);
                if let Some((held, _)) = held.get_mut(&claimant.origin) {
                    *held -= 1;
                }
                held.retain(|_, (held, _)| *held > 0);
                continue;
            }
            let before = groups(&held);
            let taken = shares.try_take(&claimant);
            if let Ok(Some(loser)) = taken {
                let mut with = held.clone();
                with.entry(claimant.origin).or_insert((0, claimant));
                let with = groups(&with);
                let all: u64 = with.values().map(|(_, weight)| weight).sum();
                if loser.group() != claimant.origin.group() {
                    let (of_group, weight) = before[&loser.group()];
                    prop_assert!(of_group * all > capacity * weight);
                }
                // Within the group of the loser, no origin holds more for its weight.
                let (most, of_loser) = held[&loser];
                for (origin, (held, other)) in &held {
                    if origin.group() == loser.group() {
                        prop_assert!(
                            held * u64::from(of_loser.weight) <= most * u64::from(other.weight)
                        );
                    }
                }
                held.get_mut(&loser).expect("it holds something").0 -= 1;
            }
            if taken.is_ok() {
                held.entry(claimant.origin).or_insert((0, claimant)).0 += 1;
            } else {
                prop_assert_eq!(shares.held(), capacity);
            }
            held.retain(|_, (held, _)| *held > 0);
            prop_assert!(shares.held() <= capacity);
            prop_assert_eq!(shares.held(), held.values().map(|(held, _)| held).sum::<u64>());
            for (origin, (held, _)) in &held {
                prop_assert_eq!(shares.held_by(*origin), *held);
            }
            prop_assert_eq!(shares.origins.len(), held.len());
            prop_assert_eq!(shares.by_origin.len(), held.len());
            prop_assert_eq!(shares.groups.len(), shares.by_group.len());
            let weights = shares.groups.values().map(|group| u64::from(group.weight()));
            prop_assert_eq!(shares.weights, weights.sum::<u64>());
        }
    }

    #[test]
    fn when_all_have_asked_often_enough_the_shares_are_max_min(
        capacity in 1_u64..200,
        wanted in proptest::collection::vec((0..ALL, 1_u64..40), 1..30),
    ) {
        let mut shares = Shares::new(capacity);
        let wanted: HashMap<usize, u64> = wanted.into_iter().collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(n, wanted)| (nth(n), wanted)).collect();
        settle(&mut shares, &wanted);
        let all: u64 = wanted.iter().map(|(_, wanted)| wanted).sum();
        prop_assert_eq!(shares.held(), all.min(capacity));
        // An origin that wants more could get it only from origins that hold no more for their weight.
        for (claimant, wanted) in &wanted {
            if shares.held_by(claimant.origin) < *wanted {
                prop_assert_eq!(shares.try_take(claimant), Err(Full));
                let after = shares.ratio_of_group_with_one_more(claimant);
                let group = claimant.origin.group();
                let others = shares.groups.iter().filter(|(g, _)| **g != group);
                for (_, other) in others {
                    prop_assert!(after >= other.ratio());
                }
            }
        }
    }
}
