use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn address(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star")
        .parse()
        .expect("a multiaddr")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn table(capacity: usize) -> Table {
    Table::new(PeerId::random(), INTERVAL, capacity)
}

fn count(keys: &[Arc<Key>]) -> usize {
    keys.len()
}

/// Announces one address at each of the times given in seconds, expiring what is due before, and
/// gives the time at which it expires at last.
fn expiry_after(times: &[u64]) -> u64 {
    let (mut table, peer, start) = (table(4), PeerId::random(), Instant::now());
    for &time in times {
        table.expire(start + secs(time));
        table.announce(peer, address(1), start + secs(time));
        table.listed();
    }
    let expiry = table.next_expiry().expect("listed");
    (expiry - start).as_secs()
}

#[test]
fn an_address_is_listed_once_and_expires_after_three_intervals() {
    let (mut table, peer, start) = (table(4), PeerId::random(), Instant::now());
    assert!(table.announce(peer, address(1), start).listed.is_some());
    for tick in 1..10 {
        let announced = table.announce(peer, address(1), start + INTERVAL * tick);
        assert_eq!(announced, Announced::default());
    }
    let last = start + INTERVAL * 9;
    assert_eq!(table.next_expiry(), Some(last + INTERVAL * 3));
    assert_eq!(count(&table.expire(last + secs(29))), 0);
    assert_eq!(count(&table.expire(last + secs(30))), 1);
    assert_eq!(table.next_expiry(), None);
    assert!(table.listed().is_empty());
}

#[test]
fn a_peer_is_listed_at_each_of_its_addresses() {
    let (mut table, peer, now) = (table(4), PeerId::random(), Instant::now());
    assert!(table.announce(peer, address(1), now).listed.is_some());
    assert!(table.announce(peer, address(2), now).listed.is_some());
    assert_eq!(table.listed().len(), 2);
}

#[test]
fn the_local_peers_addresses_never_get_in() {
    let local = PeerId::random();
    let mut table = Table::new(local, INTERVAL, 4);
    let announced = table.announce(local, address(1), Instant::now());
    assert_eq!(announced, Announced::default());
    assert_eq!(table.len(), 0);
}

#[test]
fn a_slower_pace_than_the_interval_prolongs_the_listing() {
    assert_eq!(expiry_after(&[0]), 30);
    assert_eq!(expiry_after(&[0, 25]), 25 + 3 * 25);
    assert_eq!(expiry_after(&[0, 25, 50, 75]), 75 + 3 * 25);
}

#[test]
fn a_pace_slower_than_the_first_expiry_is_noticed_all_the_same() {
    assert_eq!(expiry_after(&[0, 60]), 60 + 3 * 60);
    assert_eq!(expiry_after(&[0, 60, 120]), 120 + 3 * 60);
}

#[test]
fn a_repetition_at_once_does_not_hide_the_pace() {
    assert_eq!(expiry_after(&[0, 60, 60]), 60 + 3 * 60);
    assert_eq!(expiry_after(&[0, 60, 60, 119]), 119 + 3 * 60 - 3);
}

#[test]
fn a_pace_that_became_quicker_counts_after_two_gaps() {
    assert_eq!(expiry_after(&[0, 60, 70]), 70 + 3 * 60);
    assert_eq!(expiry_after(&[0, 60, 70, 80]), 80 + 3 * 10);
}

#[test]
fn an_address_is_listed_for_an_hour_at_most() {
    assert_eq!(expiry_after(&[0, 1200]), 1200 + 3600);
    assert_eq!(expiry_after(&[0, 1201]), 1201 + 30);
    assert_eq!(expiry_after(&[0, 25, 2000]), 2000 + 30);

    let mut table = Table::new(PeerId::random(), Duration::MAX, 4);
    let now = Instant::now();
    table.announce(PeerId::random(), address(1), now);
    assert_eq!(table.next_expiry(), Some(now + secs(3600)));
}

#[test]
fn an_expired_address_is_forgotten_when_it_says_nothing_about_the_pace_any_more() {
    let (mut table, start) = (table(4), Instant::now());
    table.announce(PeerId::random(), address(1), start);
    table.expire(start + MAX_INTERVAL);
    assert_eq!((table.listed().len(), table.len()), (0, 1));
    table.expire(start + MAX_INTERVAL + secs(1));
    assert_eq!(table.len(), 0);
}

#[test]
fn the_address_announced_the_longest_ago_makes_room() {
    let (mut table, now) = (table(2), Instant::now());
    let [a, b, c] = [0; 3].map(|_| PeerId::random());
    table.announce(a, address(1), now);
    table.announce(b, address(1), now);
    table.announce(a, address(1), now);
    let unlisted = table.announce(c, address(1), now).unlisted;
    assert_eq!(unlisted.map(|key| key.peer), Some(b));
    let peers: Vec<_> = table.listed().into_iter().map(|key| key.peer).collect();
    assert!(peers.contains(&a) && peers.contains(&c) && peers.len() == 2);
}

#[test]
fn an_address_that_is_only_remembered_makes_room_before_a_listed_one() {
    let (mut table, start) = (table(2), Instant::now());
    let [slow, gone, new] = [0; 3].map(|_| PeerId::random());
    table.announce(slow, address(1), start);
    table.announce(slow, address(1), start + secs(25));
    table.announce(gone, address(1), start + secs(26));
    let now = start + secs(60);
    assert_eq!(count(&table.expire(now)), 1);
    assert_eq!(table.announce(new, address(1), now).unlisted, None);
    let peers: Vec<_> = table.listed().into_iter().map(|key| key.peer).collect();
    assert!(peers.contains(&slow) && peers.contains(&new));
    assert_eq!(table.len(), 2);
}

#[test]
fn a_capacity_of_zero_counts_as_one() {
    let (mut table, now) = (table(0), Instant::now());
    table.announce(PeerId::random(), address(1), now);
    table.announce(PeerId::random(), address(1), now);
    assert_eq!(table.listed().len(), 1);
}
