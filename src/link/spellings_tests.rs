use super::*;

fn at(host: &str, peer: PeerId) -> String {
    format!("/dns4/{host}/tcp/80/ws/p2p-websocket-star/ipfs/{peer}")
}

fn note(spellings: &mut Spellings, host: &str, peer: PeerId) {
    let address = StarAddr::from_wire(&at(host, peer)).expect("valid");
    spellings.note(&address, 8, |_| false);
}

#[test]
fn a_peer_is_dialled_as_asked_for_first_if_it_was_heard_of_so_and_else_last() {
    let (mut spellings, peer) = (Spellings::default(), PeerId::random());
    let asked = StarAddr::from_wire(&at("a", peer)).expect("valid");
    let here = asked.rendezvous().clone();
    assert_eq!(spellings.of(&asked, &here), [at("a", peer)]);
    for host in ["b", "c", "b"] {
        note(&mut spellings, host, peer);
    }
    let known = spellings.of(&asked, &here);
    assert_eq!(known, ["b", "c", "a"].map(|h| at(h, peer)));
    for host in ["a", "d", "e"] {
        note(&mut spellings, host, peer);
    }
    let known = spellings.of(&asked, &here);
    assert_eq!(known, ["a", "e", "d", "b"].map(|h| at(h, peer)));
    assert!(spellings.has(&asked));
    assert!(!spellings.has(&asked.with_peer(PeerId::random())));
    spellings.forget(&peer);
    assert!(!spellings.has(&asked));
    let elsewhere = StarAddr::from_wire(&at("x", peer)).expect("valid");
    let known = spellings.of(&asked, elsewhere.rendezvous());
    assert_eq!(known, ["a", "x"].map(|h| at(h, peer)));
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
        spellings.note(&another, 8, |peer| peers.contains(peer));
    }
    assert!(
        peers
            .iter()
            .all(|peer| spellings.by_peer.contains_key(peer))
    );

    // The first one was announced again, and then the second one is the next to go.
    note(&mut spellings, "a", peers[0]);
    let gone = peers.remove(1);
    spellings.note(&address, 8, |peer| peers.contains(peer));
    assert!(spellings.has(&address));
    assert!(!spellings.by_peer.contains_key(&gone));
    assert_eq!((spellings.by_peer.len(), spellings.by_age.len()), (8, 8));
}

#[test]
fn where_we_do_not_listen_a_sixteenth_of_the_peers_is_remembered() {
    let (mut spellings, room) = (Spellings::default(), room(64, false));
    for _ in 0..100 {
        let address = StarAddr::from_wire(&at("a", PeerId::random())).expect("valid");
        spellings.note(&address, room, |_| false);
    }
    assert_eq!(spellings.by_peer.len(), 4);
    assert_eq!([super::room(64, true), super::room(3, false)], [64, 1]);
}
