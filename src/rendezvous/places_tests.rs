use std::{collections::HashMap, net::IpAddr};

use proptest::prelude::*;

use super::{super::origin::Weights, *};

fn claimant(n: u8) -> Claimant {
    Weights::default().claimant(IpAddr::from([10, 0, 0, n]))
}

/// Adds a connection. Its handle is the number of its origin and its own number.
fn enter(places: &mut Places<(u8, u32)>, n: u8, number: u32) -> Option<PlaceId> {
    let (id, _) = places.enter(claimant(n)).ok()?;
    set_handle(places, id, (n, number));
    Some(id)
}

fn set_handle(places: &mut Places<(u8, u32)>, id: PlaceId, handle: (u8, u32)) {
    *places.handle_mut(id).expect("a place") = handle;
}

/// Adds as many connections of an origin as there is room for in addition to the links.
fn fill_beside(places: &mut Places<(u8, u32)>, n: u8) {
    for number in 0..BESIDE_LINKS {
        enter(places, n, number as u32).expect("room");
    }
}

#[test]
fn plain_connections_of_one_origin_keep_no_other_from_a_link() {
    let mut places = Places::new(4, 4);
    fill_beside(&mut places, 1);
    for number in 0..4 {
        enter(&mut places, 1, 2000 + number).expect("room");
    }
    assert_eq!(places.enter(claimant(1)), Err(Full));
    let (id, evicted) = places.enter(claimant(2)).expect("a share");
    // The oldest connection goes: the newest may be about to send a request.
    assert_eq!(evicted, Some(Evicted::Connection((1, 0))));
    assert_eq!(places.begin_link(id), Ok(None));
    let (_, evicted) = places.enter(claimant(2)).expect("a share");
    assert_eq!(evicted, Some(Evicted::Connection((1, 1))));
}

#[test]
fn of_links_the_newest_that_has_not_joined_goes_first_and_then_the_newest() {
    let mut places = Places::new(4, 4);
    let links: Vec<_> = (0..4).filter_map(|n| enter(&mut places, 1, n)).collect();
    for (n, id) in links.iter().enumerate() {
        assert_eq!(places.begin_link(*id), Ok(None));
        places.set_joined(*id, n == 1 || n == 3);
    }
    let mut evicted = Vec::new();
    for n in 2..4 {
        let id = enter(&mut places, n, 0).expect("room");
        evicted.push(places.begin_link(id).expect("a share"));
    }
    let link = |n| Some(Evicted::Link((1, n)));
    assert_eq!(evicted, [link(2), link(0)]);
    let id = enter(&mut places, 2, 1).expect("room");
    assert_eq!(
        places.begin_link(id),
        Err(NoLink::Full),
        "two each are fair"
    );
    let id = enter(&mut places, 4, 0).expect("room");
    assert_eq!(places.begin_link(id), Ok(link(3)));
}

#[test]
fn a_link_that_lost_its_place_is_a_connection_until_it_has_ended() {
    let mut places = Places::new(1, 1);
    let first = enter(&mut places, 1, 0).expect("room");
    assert_eq!(places.begin_link(first), Ok(None));
    places.set_joined(first, true);
    let again = enter(&mut places, 1, 1).expect("room");
    assert_eq!(places.begin_link(again), Err(NoLink::TooMany));
    places.end_link(first);
    assert_eq!(places.begin_link(again), Ok(None));
    assert_eq!((places.connections.held(), places.links.held()), (2, 1));
    // Late events of a link that is over change nothing.
    places.set_joined(first, true);
    places.end_link(first);
    assert_eq!(places.links.held(), 1);
    places.leave(first);
    places.leave(first);
    assert_eq!((places.connections.held(), places.links.held()), (1, 1));
}

#[test]
fn an_evicted_link_hears_why_as_long_as_not_too_many_are_closing() {
    let links = 2 * LEAVING + 2 * BESIDE_LINKS;
    let mut places = Places::new(links, links);
    let total = (links + BESIDE_LINKS) as u32;
    for number in 0..total {
        let id = enter(&mut places, 1, number).expect("room");
        let _ = places.begin_link(id);
    }
    // Connections that are not links go first.
    let mut told = 0;
    for _ in 0..BESIDE_LINKS + LEAVING + 10 {
        let (_, evicted) = places.enter(claimant(2)).expect("a share");
        told += usize::from(matches!(evicted, Some(Evicted::Link(_))));
    }
    assert_eq!(told, LEAVING);
}

#[test]
fn a_proxys_connection_counts_for_whom_it_names() {
    let mut places = Places::<(u8, u32)>::new(2, 1);
    let (id, _) = places.enter_unidentified();
    assert_eq!(
        places.begin_link(id),
        Err(NoLink::Full),
        "its client is not known yet"
    );
    assert_eq!(places.set_client(id, claimant(1)), Ok(None));
    assert_eq!(places.set_client(id, claimant(2)), Ok(None));
    assert_eq!(places.begin_link(id), Ok(None));
    let held = |places: &Places<_>, n| places.connections.held_by(claimant(n).origin);
    assert_eq!((held(&places, 1), held(&places, 2)), (0, 1));
    let other = enter(&mut places, 2, 0).expect("room");
    assert_eq!(places.begin_link(other), Err(NoLink::TooMany));
    places.leave(id);
    assert_eq!(held(&places, 2), 1);
    assert_eq!(places.begin_link(other), Ok(None));
}

#[test]
fn a_proxys_connections_that_name_nobody_take_no_place_of_others() {
    let mut places = Places::<(u8, u32)>::new(2, 2);
    let (oldest, _) = places.enter_unidentified();
    set_handle(&mut places, oldest, (0, 7));
    for _ in 1..BESIDE_LINKS {
        assert_eq!(places.enter_unidentified().1, None);
    }
    let (id, evicted) = places.enter_unidentified();
    assert_eq!(evicted, Some(Evicted::Connection((0, 7))));
    assert_eq!(places.handle_mut(oldest), None);
    assert_eq!(places.connections.held(), 0);
    // The oldest connection does not know yet that it has lost its place.
    assert_eq!(places.set_client(oldest, claimant(1)), Err(Full));
    places.leave(oldest);
    // Once its client is known, it makes room for another.
    assert_eq!(places.set_client(id, claimant(1)), Ok(None));
    assert_eq!(places.enter_unidentified().1, None);
    assert_eq!(places.unidentified.len(), BESIDE_LINKS);
}

#[test]
fn a_proxys_connection_is_refused_for_whom_has_a_share_and_let_in_for_others() {
    let mut places = Places::new(0, 0);
    fill_beside(&mut places, 1);
    let (id, _) = places.enter_unidentified();
    assert_eq!(places.set_client(id, claimant(1)), Err(Full));
    assert_eq!(
        places.set_client(id, claimant(2)),
        Ok(Some(Evicted::Connection((1, 0))))
    );
}

#[test]
fn where_there_is_less_room_than_was_thought_whoever_has_most_makes_room() {
    let mut places = Places::new(4, 4);
    assert_eq!(places.make_room(), None);
    let (id, _) = places.enter_unidentified();
    set_handle(&mut places, id, (0, 0));
    let link = enter(&mut places, 1, 0).expect("room");
    assert_eq!(places.begin_link(link), Ok(None));
    assert_eq!(places.make_room(), None, "one each is fair");
    for number in 1..3 {
        enter(&mut places, 1, number).expect("room");
    }
    enter(&mut places, 2, 0).expect("room");
    assert_eq!(places.make_room(), Some((1, 1)));
    assert_eq!(places.make_room(), Some((1, 2)));
    assert_eq!(places.make_room(), None);
    assert_eq!((places.connections.held(), places.links.held()), (2, 1));
    let (id, _) = places.enter_unidentified();
    set_handle(&mut places, id, (0, 1));
    assert_eq!(places.make_room(), Some((0, 0)));
    assert_eq!((places.unidentified.len(), places.open.len()), (1, 3));
}

#[test]
fn few_places_are_shared_as_many_are() {
    let mut places = Places::<(u8, u32)>::new(4, 4).with_most(16, true);
    let entered = (0..20).filter(|_| places.enter(claimant(1)).is_ok());
    assert_eq!(entered.count(), 12);
    assert!(matches!(places.enter(claimant(2)), Ok((_, Some(_)))));
    for _ in 0..10 {
        places.enter_unidentified();
    }
    assert_eq!((places.unidentified.len(), places.open.len()), (2, 14));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn places_are_given_back_whatever_happens(
        links in 0_usize..6,
        steps in proptest::collection::vec((0..7_u8, 0..4_u8, 0..20_usize), 1..200),
    ) {
        let mut places = Places::new(links, 3);
        // All places are taken from the start.
        fill_beside(&mut places, 100);
        let mut ids = Vec::new();
        for (step, n, which) in steps {
            let id = ids.get(which % ids.len().max(1)).copied();
            match (step, id) {
                (0, _) => ids.extend(enter(&mut places, n, 0)),
                (1, _) => {
                    let (id, _) = places.enter_unidentified();
                    set_handle(&mut places, id, (n, 0));
                    ids.push(id);
                }
                (2, Some(id)) => _ = places.set_client(id, claimant(n)),
                (3, Some(id)) => _ = places.begin_link(id),
                (4, Some(id)) => places.set_joined(id, n % 2 == 0),
                (5, Some(id)) => places.end_link(id),
                (6, Some(id)) => places.leave(id),
                _ => {}
            }
            let mut held = HashMap::<Origin, (u64, u64)>::new();
            for connection in places.open.values() {
                if let Some(claimant) = connection.claimant {
                    let (connections, links) = held.entry(claimant.origin).or_default();
                    *connections += 1;
                    *links += u64::from(connection.stage != Stage::Plain);
                }
            }
            for n in [0, 1, 2, 3, 100] {
                let origin = claimant(n).origin;
                let (connections, links) = held.get(&origin).copied().unwrap_or_default();
                prop_assert_eq!(places.connections.held_by(origin), connections);
                prop_assert_eq!(places.links.held_by(origin), links);
                prop_assert!(links <= 3);
            }
            prop_assert!(places.links.held() <= links as u64);
            prop_assert!(places.connections.held() <= (links + BESIDE_LINKS) as u64);
            prop_assert_eq!(places.order.len() + places.unidentified.len(), places.open.len());
        }
        let open: Vec<_> = places.open.keys().copied().collect();
        open.into_iter().for_each(|id| places.leave(id));
        prop_assert_eq!((places.connections.held(), places.links.held()), (0, 0));
        prop_assert!(places.order.is_empty() && places.unidentified.is_empty());
    }
}
