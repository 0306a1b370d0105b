use std::net::IpAddr;

use super::{
    super::{origin::Weights, outbox::Outbox},
    *,
};
use crate::websocket::Message;

const KIB: usize = 1024;

fn claimant(n: u8) -> Claimant {
    Weights::default().claimant(IpAddr::from([10, 0, 0, n]))
}

fn outbox(budget: &Arc<Budget>, n: u8) -> Arc<Outbox> {
    Arc::new_cyclic(|outbox: &Weak<Outbox>| {
        let account = budget.account(claimant(n), outbox.clone());
        Outbox::new(1024 * KIB).with_account(account)
    })
}

fn hold(outbox: &Outbox, bytes: usize) {
    let account = outbox.account().expect("an account");
    account.set_reading(bytes);
}

fn is_closed(outbox: &Outbox) -> bool {
    let account = outbox.account().expect("an account");
    account.is_closed.load(Ordering::Relaxed)
}

fn taken(budget: &Budget) -> u64 {
    budget.lock().shares.held()
}

#[test]
fn memory_is_taken_in_steps_and_given_back_at_a_heartbeat() {
    let budget = Arc::new(Budget::new(1024 * KIB));
    let link = outbox(&budget, 1);
    for (bytes, steps) in [(1, 1), (65 * KIB, 2), (3, 2)] {
        hold(&link, bytes);
        assert_eq!(budget.held(), bytes as u64);
        assert_eq!(taken(&budget), steps * STEP);
    }
    link.account().expect("an account").give_back();
    assert_eq!(taken(&budget), 3);
    hold(&link, 0);
    link.account().expect("an account").give_back();
    assert_eq!((budget.held(), taken(&budget)), (0, 0));
    assert!(budget.lock().accounts.is_empty() && budget.lock().order.is_empty());
}

#[test]
fn what_is_queued_counts_for_the_link_that_is_to_take_it() {
    let budget = Arc::new(Budget::new(1024 * KIB));
    let link = outbox(&budget, 1);
    link.push_own(Message::text("x".repeat(100 * KIB)));
    let queued = link.bytes().next_multiple_of(QUEUE_STEP) as u64;
    assert_eq!(budget.held(), queued);
    hold(&link, 100 * KIB);
    assert_eq!(budget.held(), queued + 100 * KIB as u64);
    link.discard();
    assert_eq!((budget.held(), taken(&budget)), (0, 0));
    // Memory that is reported late for a link that is gone is forgotten with the link.
    hold(&link, 100 * KIB);
    assert_eq!(taken(&budget), 0);
    drop(link);
    assert_eq!(budget.held(), 0);
}

#[test]
fn the_largest_link_of_the_origin_that_holds_most_gives_way() {
    let budget = Arc::new(Budget::new(1024 * KIB));
    let honest = outbox(&budget, 1);
    hold(&honest, 300 * KIB);
    let links: Vec<_> = (0..5).map(|_| outbox(&budget, 2)).collect();
    for (link, n) in links.iter().zip([100, 150, 200, 100, 100]) {
        hold(link, n * KIB);
    }
    assert!(!links.iter().any(|link| is_closed(link)));
    // There is room for this, unless an account keeps more than it needs.
    let another = outbox(&budget, 3);
    hold(&another, 64 * KIB);
    assert!(!links.iter().any(|link| is_closed(link)));
    hold(&another, 250 * KIB);
    let closed: Vec<_> = links.iter().map(|link| is_closed(link)).collect();
    assert_eq!(closed, [false, false, true, false, false]);
    assert!(!is_closed(&honest) && !is_closed(&another));
    assert!(budget.held() <= 1024 * KIB as u64);
}

#[test]
fn a_link_that_wants_more_than_there_is_gives_way_itself() {
    let budget = Arc::new(Budget::new(100 * KIB));
    let [small, large] = [outbox(&budget, 1), outbox(&budget, 2)];
    hold(&small, 10 * KIB);
    hold(&large, 200 * KIB);
    assert_eq!((is_closed(&small), is_closed(&large)), (false, true));
}

#[test]
fn what_was_taken_and_is_not_needed_is_no_reason_to_close_anybody() {
    let budget = Arc::new(Budget::new(1024 * KIB));
    let links: Vec<_> = (0..200).map(|n| outbox(&budget, n)).collect();
    for link in &links {
        hold(link, 100 * KIB);
        hold(link, KIB);
    }
    assert!(!links.iter().any(|link| is_closed(link)));
    assert!(budget.held() <= 1024 * KIB as u64);
}

#[test]
fn very_many_links_of_one_origin_that_grow_together_hold_no_more_than_there_is() {
    const LINKS: usize = 1000;
    const LIMIT: usize = 16 * 1024 * KIB;
    let budget = Arc::new(Budget::new(LIMIT));
    let honest = outbox(&budget, 1);
    hold(&honest, 1024 * KIB);
    let links: Vec<_> = (0..LINKS).map(|_| outbox(&budget, 2)).collect();
    for kib in 1..100 {
        for link in links.iter().filter(|link| !is_closed(link)) {
            hold(link, kib * KIB);
            assert!(budget.held() <= LIMIT as u64, "{kib} KiB each");
        }
    }
    let open = links.iter().filter(|link| !is_closed(link)).count();
    assert!(
        (LIMIT / KIB / 200..LIMIT / KIB / 90).contains(&open),
        "{open}"
    );
    assert!(!is_closed(&honest));
}

#[test]
fn as_many_small_links_give_way_as_a_large_one_of_another_origin_needs() {
    let budget = Arc::new(Budget::new(1024 * KIB));
    let links: Vec<_> = (0..100).map(|_| outbox(&budget, 2)).collect();
    links.iter().for_each(|link| hold(link, 10 * KIB));
    let other = outbox(&budget, 1);
    hold(&other, 400 * KIB);
    assert!(budget.held() <= 1024 * KIB as u64);
    assert!(!is_closed(&other));
    assert_eq!(links.iter().filter(|link| is_closed(link)).count(), 38);
}

#[test]
fn the_link_with_most_dials_of_the_origin_that_has_most_gives_way() {
    let budget = Arc::new(Budget::new(100 * DIAL));
    let dial = |outbox: &Outbox, dials| {
        let account = outbox.account().expect("an account");
        account.set_dials(dials);
    };
    let links = [1, 2, 2].map(|n| outbox(&budget, n));
    for (link, dials) in links.iter().zip([40, 20, 40]) {
        dial(link, dials);
    }
    assert_eq!(budget.held(), 100 * DIAL as u64);
    dial(&links[0], 41);
    assert_eq!(
        [0, 1, 2].map(|n| is_closed(&links[n])),
        [false, false, true]
    );
    assert_eq!(budget.held(), 61 * DIAL as u64);
    // A link that has given way ends its dials one by one.
    dial(&links[2], 39);
    assert_eq!(budget.held(), 61 * DIAL as u64);
    dial(&links[0], 0);
    links.iter().for_each(|link| link.discard());
    assert_eq!((budget.held(), taken(&budget)), (0, 0));
}
