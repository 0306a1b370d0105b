use super::*;
use crate::discovery;

fn at(host: &str, peer: PeerId) -> String {
    format!("/dns4/{host}/tcp/80/ws/p2p-websocket-star/ipfs/{peer}")
}

fn here() -> Rendezvous {
    let here = StarAddr::from_wire(&at("here", PeerId::random()));
    here.expect("valid").rendezvous().clone()
}

fn note(spellings: &mut Spellings, host: &str, peer: PeerId) {
    let address = StarAddr::from_wire(&at(host, peer)).expect("valid");
    spellings.note(&address, &here(), 8, |_| false);
}

#[test]
fn a_peer_is_dialled_at_this_rendezvous_first_and_under_other_hosts_last() {
    let (mut spellings, peer) = (Spellings::default(), PeerId::random());
    let asked = StarAddr::from_wire(&at("a", peer)).expect("valid");
    let of = |spellings: &Spellings| spellings.of(&asked, &here());
    // The usual spelling, and then the spelling that is asked for.
    assert_eq!(of(&spellings), ["here", "a"].map(|h| at(h, peer)));
    for host in ["b", "c", "b"] {
        note(&mut spellings, host, peer);
    }
    let known = ["here", "b", "c", "a"].map(|h| at(h, peer));
    assert_eq!(of(&spellings), known, "the oldest first");
    note(&mut spellings, "a", peer);
    let known = ["here", "a", "b", "c"].map(|h| at(h, peer));
    assert_eq!(of(&spellings), known);

    // The same server under another address family counts as this rendezvous. An announced spelling goes before the
    // usual one.
    let other = at("here", peer).replace("dns4", "dns6");
    let address = StarAddr::from_wire(&other).expect("valid");
    spellings.note(&address, &here(), 8, |_| false);
    let first = of(&spellings);
    assert_eq!(first[0], other);
    assert_eq!(first[1], at("here", peer));
}

#[test]
fn later_spellings_under_other_hosts_do_not_push_out_earlier_ones_and_own_ones_do() {
    let (mut spellings, peer) = (Spellings::default(), PeerId::random());
    let asked = StarAddr::from_wire(&at("a", peer)).expect("valid");
    for host in ["a", "b", "c", "d", "e", "f"] {
        note(&mut spellings, host, peer);
    }
    assert!(spellings.has(&asked));
    let known = spellings.of(&asked, &here());
    assert_eq!(known, ["here", "a", "b", "c", "d"].map(|h| at(h, peer)));
    note(&mut spellings, "here", peer);
    let known = spellings.of(&asked, &here());
    assert_eq!(known, ["here", "a", "b", "c"].map(|h| at(h, peer)));

    assert!(!spellings.has(&asked.with_peer(PeerId::random())));
    spellings.forget(&peer);
    assert!(!spellings.has(&asked));
}

#[test]
fn who_is_listed_stays_known_however_many_others_are_announced() {
    let mut spellings = Spellings::default();
    let mut peers: Vec<_> = (0..8).map(|_| PeerId::random()).collect();
    for peer in &peers {
        note(&mut spellings, "a", *peer);
    }
    let other = PeerId::random();
    let address = StarAddr::from_wire(&at("a", other)).expect("valid");
    for _ in 0..100 {
        let another = address.with_peer(PeerId::random());
        spellings.note(&another, &here(), 8, |peer| peers.contains(peer));
    }
    assert!(
        peers
            .iter()
            .all(|peer| spellings.by_peer.contains_key(peer))
    );

    // The first peer was announced again, so the second one is the next to go.
    note(&mut spellings, "a", peers[0]);
    let gone = peers.remove(1);
    spellings.note(&address, &here(), 8, |peer| peers.contains(peer));
    assert!(spellings.has(&address));
    assert!(!spellings.by_peer.contains_key(&gone));
    assert_eq!((spellings.by_peer.len(), spellings.by_age.len()), (8, 8));
}

#[test]
fn where_we_do_not_listen_a_sixteenth_of_the_peers_is_remembered() {
    let (mut spellings, room) = (Spellings::default(), discovery::room(64, false));
    for _ in 0..100 {
        let address = StarAddr::from_wire(&at("a", PeerId::random())).expect("valid");
        spellings.note(&address, &here(), room, |_| false);
    }
    assert_eq!(spellings.by_peer.len(), 4);
    assert_eq!(
        [discovery::room(64, true), discovery::room(3, false)],
        [64, 1]
    );
}
