use std::{sync::Arc, time::Duration};

use super::{
    super::{
        Mailbox,
        tests::{links, open, rendezvous},
    },
    *,
};
use crate::config::{Config, Limits};

const NEW: &str = "dns4/new.example/tcp/443/wss";

/// Returns links with two open ones, which is the maximum.
fn two_links() -> (Links, [Arc<Mailbox>; 2]) {
    let limits = Limits::default().with_dial_links(2);
    let links = links(&Config::default().with_limits(limits));
    let bases = ["dns4/a.example/tcp/443/wss", "dns4/b.example/tcp/443/wss"];
    let open = bases.map(|base| open(&links, base));
    (links, open)
}

#[tokio::test(start_paused = true)]
async fn a_link_that_brings_no_connection_in_its_time_gives_its_place_to_another_one() {
    let (links, [a, b]) = two_links();
    lock(&a.standing).connected(true, now());
    let new = rendezvous(NEW);
    let refused = links.place(&new, None).await.err();
    assert!(matches!(
        refused,
        Some(Error::TooManyRendezvous { most: 2 })
    ));
    tokio::time::advance(Duration::from_secs(5)).await;
    let place = links.place(&new, None).await.expect("a place");
    assert!(b.is_closed() && b.gives_way());
    assert!(!a.is_closed());
    drop(place);
}

#[tokio::test(start_paused = true)]
async fn two_links_to_one_host_give_a_place_to_another_one_and_two_to_two_hosts_do_not() {
    let (links, [a, b]) = two_links();
    for (link, host) in [(&a, [192, 0, 2, 1]), (&b, [192, 0, 2, 2])] {
        lock(&link.standing).leads_to(Some(host.into()));
        lock(&link.standing).connected(true, now());
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let new = rendezvous(NEW);
    assert!(links.place(&new, None).await.is_err());
    lock(&b.standing).leads_to(Some([192, 0, 2, 1].into()));
    assert!(links.place(&new, None).await.is_ok());
    assert_eq!([&a, &b].iter().filter(|link| link.is_closed()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_link_where_a_listener_has_come_does_not_give_way() {
    let (links, [a, b]) = two_links();
    lock(&a.standing).connected(true, now());
    let listener = libp2p_core::transport::ListenerId::next();
    let at = rendezvous("dns4/b.example/tcp/443/wss");
    let idle = links.open_for_dials();
    links.context.listening.add(listener, &at);
    tokio::time::advance(Duration::from_secs(60)).await;
    links.give_way(&at);
    assert!(!b.is_closed());
    assert_eq!((idle.len(), links.open_for_dials().len()), (2, 1));
}
