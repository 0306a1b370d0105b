use libp2p_identity::PeerId;

use super::*;
use crate::address::StarAddr;

fn rendezvous(number: u16) -> Rendezvous {
    let peer = PeerId::random();
    let wire = format!("/dns4/star/tcp/{number}/ws/p2p-websocket-star/ipfs/{peer}");
    let addr = StarAddr::from_wire(&wire).expect("valid");
    addr.rendezvous().clone()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns the turn of a dial without a peer.
fn take(links: &mut DialLinks, number: u16, open: usize, now: Instant) -> Option<Instant> {
    let id = links.take_place(&rendezvous(number), None, open, now)?;
    links.turn(id)
}

fn leave(links: &mut DialLinks, number: u16) {
    let waiting = &links.waiting;
    let turn = waiting.iter().find(|t| t.rendezvous == rendezvous(number));
    let id = turn.expect("it waits").id;
    links.leave(id);
}

#[test]
fn new_rendezvous_come_one_a_second_and_no_more_than_there_are_places() {
    let (mut links, now) = (DialLinks::new(4), Instant::now());
    for number in 1..=3 {
        let at = take(&mut links, number, 1, now);
        assert_eq!(at, Some(now + secs(u64::from(number) - 1)));
    }
    assert_eq!(take(&mut links, 4, 1, now), None);
    // One more dial to the same rendezvous shares its place.
    assert_eq!(take(&mut links, 2, 1, now), Some(now + PACE));
    leave(&mut links, 2);
    assert_eq!(take(&mut links, 4, 1, now), None);
    leave(&mut links, 2);
    // The time that was given up is used again.
    assert_eq!(take(&mut links, 4, 1, now), Some(now + PACE));
}

#[test]
fn the_pace_counts_from_the_link_that_was_opened_last() {
    let (mut links, now) = (DialLinks::new(8), Instant::now());
    links.opened(&rendezvous(1), now);
    let later = now + PACE / 4;
    assert_eq!(take(&mut links, 2, 1, later), Some(now + PACE));
    assert_eq!(take(&mut links, 3, 1, now + secs(9)), Some(now + secs(9)));
}

#[test]
fn a_link_to_where_one_was_opened_lately_is_not_new() {
    let (mut links, now) = (DialLinks::new(2), Instant::now());
    links.opened(&rendezvous(1), now);
    assert_eq!(take(&mut links, 1, 0, now), Some(now));
    leave(&mut links, 1);
    for number in 2..=3 {
        links.opened(&rendezvous(number), now);
    }
    assert_eq!(links.latest.len(), 2);
    assert_eq!(take(&mut links, 1, 0, now), Some(now + PACE));
}

#[test]
fn dials_that_are_given_up_do_not_put_off_the_others() {
    let (mut links, now) = (DialLinks::new(3), Instant::now());
    links.opened(&rendezvous(1), now);
    take(&mut links, 1, 0, now);
    for number in 2..1000 {
        let at = take(&mut links, number, 0, now);
        assert!(at.is_some_and(|at| at <= now + PACE * 4));
        leave(&mut links, number - 1);
    }
    assert_eq!(links.waiting.len(), 1);
}

#[test]
fn without_places_no_link_is_opened() {
    let mut links = DialLinks::new(0);
    assert_eq!(take(&mut links, 1, 0, Instant::now()), None);
    assert_eq!(links.displace(&rendezvous(1), None, Instant::now()), None);
}

#[test]
fn a_peer_with_many_addresses_lets_others_go_before_its_second() {
    let (mut links, now) = (DialLinks::new(8), Instant::now());
    let [stranger, honest] = [(); 2].map(|()| Some(PeerId::random()));
    let turns: Vec<_> = (1..=8)
        .map(|number| links.take_place(&rendezvous(number), stranger, 0, now))
        .collect();
    assert!(turns.iter().all(Option::is_some));
    assert_eq!(links.displace(&rendezvous(9), stranger, now), None);
    assert_eq!(links.take_place(&rendezvous(9), honest, 0, now), None);

    let id = links.displace(&rendezvous(9), honest, now);
    let id = id.expect("the last one gives way");
    // The first turn is now, and cannot be moved.
    assert_eq!(links.turn(id), Some(now + PACE));
    let turns: Vec<_> = turns.into_iter().flatten().collect();
    let times: Vec<_> = turns.iter().map(|id| links.turn(*id)).collect();
    let expected = [
        Some(0),
        Some(2),
        Some(3),
        Some(4),
        Some(5),
        Some(6),
        Some(7),
        None,
    ];
    assert_eq!(times, expected.map(|n| n.map(|n| now + secs(n))));
    // Leaving a turn that was displaced frees no other dial's place.
    links.leave(turns[7]);
    assert_eq!(links.waiting.len(), 8);
}

#[test]
fn whoever_waits_where_a_stranger_waits_already_is_not_later_for_that() {
    let (mut links, now) = (DialLinks::new(8), Instant::now());
    let [stranger, honest] = [(); 2].map(|()| Some(PeerId::random()));
    for number in 1..=8 {
        links.take_place(&rendezvous(number), stranger, 0, now);
    }
    let id = links.take_place(&rendezvous(8), honest, 0, now);
    let id = id.expect("one more dial of that turn");
    assert_eq!(links.turn(id), Some(now + PACE));
}

fn link(number: u16, since: Instant, host: Option<&str>) -> Open {
    let mut standing = Standing::new(since);
    if let Some(host) = host {
        standing.leads_to(Some(host.parse().expect("an address")));
        standing.connected(true, since);
    }
    Open {
        rendezvous: rendezvous(number),
        standing,
    }
}

#[test]
fn the_link_that_has_been_without_a_connection_for_longest_gives_way_after_its_time() {
    let now = Instant::now();
    let open = [
        link(1, now, Some("192.0.2.1")),
        link(2, now + secs(2), None),
        link(3, now + secs(1), None),
    ];
    assert_eq!(gives_way(&open, now + secs(5)), None);
    let at = now + secs(1) + GRACE;
    assert_eq!(gives_way(&open, at), Some(&rendezvous(3)));
    assert_eq!(gives_way(&open[..2], at), None);
    assert_eq!(gives_way(&open[..2], at + secs(1)), Some(&rendezvous(2)));
}

#[test]
fn of_links_with_connections_those_give_way_that_lead_to_one_network() {
    let now = Instant::now();
    let mut open: Vec<_> = [
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.2",
        "::ffff:192.0.2.2",
        "2001:db8::2",
        "2001:db8::ffff:0:0:3",
        "2001:db8:0:1::1",
    ]
    .iter()
    .zip(1..)
    .map(|(host, number)| link(number, now + secs(u64::from(number)), Some(host)))
    .collect();
    for gone in [2, 3, 5] {
        assert_eq!(gives_way(&open, now + secs(99)), Some(&rendezvous(gone)));
        open.retain(|link| link.rendezvous != rendezvous(gone));
    }
    assert_eq!(open.len(), 4);
    assert_eq!(gives_way(&open, now + secs(99)), None);
}
