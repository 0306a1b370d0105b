use std::{
    net::Ipv4Addr,
    time::{Duration, UNIX_EPOCH},
};

use libp2p_identity::Keypair;

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn today() -> Day {
    Day::of(UNIX_EPOCH + 20_000 * DAY)
}

fn tomorrow() -> Day {
    Day::of(UNIX_EPOCH + 20_001 * DAY)
}

/// Lets a peer join, send and leave.
fn visit(usage: &Usage, peer: PeerId, bytes: u64, day: Day) {
    let seat = usage.enter(peer, HOME);
    seat.meter().count(bytes, Instant::now(), day);
}

fn sent_today(usage: &Usage, most: usize) -> Vec<u64> {
    let top = usage.top(most, Instant::now(), today());
    top.iter().map(|usage| usage.sent_today).collect()
}

#[test]
fn those_who_have_sent_most_come_first() {
    let usage = Usage::default();
    for n in 0..1000 {
        visit(&usage, PeerId::random(), n % 700, today());
    }
    assert_eq!(sent_today(&usage, 4), [699, 698, 697, 696]);
    assert_eq!(sent_today(&usage, 2000).len(), 998);
    assert_eq!(sent_today(&usage, 0), [0; 0]);
}

#[test]
fn a_peer_that_comes_back_goes_on_from_where_it_was() {
    let usage = Usage::default();
    let peer = PeerId::random();
    visit(&usage, peer, 70, today());
    visit(&usage, peer, 7, today());
    assert_eq!(sent_today(&usage, 9), [77]);
    let (first, second) = (usage.enter(peer, HOME), usage.enter(peer, HOME));
    second.meter().count(1, Instant::now(), today());
    drop(first);
    second.meter().count(1, Instant::now(), today());
    assert_eq!(sent_today(&usage, 9), [79]);
    let top = usage.top(9, Instant::now(), tomorrow());
    assert_eq!(top, []);
}

#[test]
fn both_ids_of_a_key_are_one_peer_which_is_told_by_the_one_of_today() {
    let id = Keypair::generate_ed25519().public().to_peer_id();
    let old = ids::hashed_form(&id).expect("a short key");
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    for order in [[old, id], [id, old]] {
        let usage = Usage::default();
        for (peer, client) in order.into_iter().zip([HOME, elsewhere]) {
            let seat = usage.enter(peer, client);
            seat.meter().count(5, Instant::now(), today());
        }
        let top = usage.top(9, Instant::now(), today());
        let [both] = &top[..] else { panic!("{top:?}") };
        assert_eq!((both.peer, both.sent_today), (id, 10));
        assert_eq!((both.client, &both.tenant), (elsewhere, &None));
    }
}

#[test]
fn a_peer_is_another_one_in_another_tenant() {
    let usage = Usage::default();
    let peer = PeerId::random();
    for (name, bytes) in [("one", 3), ("two", 2)] {
        visit(&usage.of_tenant(name.into()), peer, bytes, today());
    }
    visit(&usage, peer, 1, today());
    let top = usage.top(9, Instant::now(), today());
    let tenants: Vec<_> = top.iter().map(|usage| usage.tenant.as_deref()).collect();
    assert_eq!(tenants, [Some("one"), Some("two"), None]);
    assert_eq!(sent_today(&usage, 9), [3, 2, 1]);
}

#[test]
fn a_hundred_thousand_keys_of_strangers_drive_out_no_big_user() {
    let usage = Usage::default();
    let (big, yesterdays) = (PeerId::random(), PeerId::random());
    visit(&usage, yesterdays, u64::MAX, Day::default());
    visit(&usage, big, 1_000_000, today());
    let here = usage.enter(PeerId::random(), HOME);
    for n in 0..100_000 {
        visit(&usage, PeerId::random(), n % 1000, today());
    }
    assert_eq!(usage.lock().len(), MAX_LEFT + 1);
    assert_eq!(sent_today(&usage, 2), [1_000_000, 999]);
    here.meter().count(5, Instant::now(), today());
    assert!(sent_today(&usage, 20_000).contains(&5));
    // A peer that is driven out has sent no more than those that are remembered.
    let mut seen = sent_today(&usage, 20_000);
    seen.retain(|bytes| *bytes != 5);
    assert!(seen.iter().all(|bytes| *bytes >= 899), "{:?}", seen.last());
}

#[cfg(feature = "rendezvous")]
#[tokio::test]
async fn others_get_their_turns_while_those_who_have_sent_most_are_looked_for() {
    let usage = Usage::default();
    for n in 0..1000 {
        visit(&usage, PeerId::random(), n, today());
    }
    let others = std::cell::Cell::new(0);
    let working = async {
        loop {
            others.set(others.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    let now = Instant::now();
    let top = tokio::select! {
        top = usage.top_in_turns(4, now, today()) => top,
        () = working => unreachable!("this loop does not end"),
    };
    assert_eq!(top, usage.top(4, now, today()));
    assert_eq!(top.len(), 4);
    assert!(others.get() >= 1000 / AT_ONCE, "{}", others.get());
}
