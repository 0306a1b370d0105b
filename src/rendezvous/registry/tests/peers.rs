//! Joins, leaves and announcements.

use std::ops::RangeBounds as _;

use super::*;

#[test]
fn a_newcomer_is_announced_and_then_told_who_is_there() {
    let mut star = star();
    let (a, b) = (key(), key());
    let happened = star.join(A, &a);
    assert_eq!(happened[0], (None, json!(["ws-peer", address(&a)])));
    assert_eq!(happened[1], (Some(A), json!([null, null, []])));
    let others = json!([null, null, [address(&a)]]);
    let happened = star.join(B, &b);
    assert_eq!(happened[0], (None, json!(["ws-peer", address(&b)])));
    assert_eq!(happened[1], (Some(B), others));
}

/// This is the order of `libp2p-websocket-star-rendezvous` 0.4.1, which is kept as long as it is cheap.
#[test]
fn the_answer_to_a_join_waits_for_the_announcement_while_there_are_few_links() {
    let mut star = Star::new(Config::default().with_challenge(false));
    let peer = key().public().to_peer_id();
    let address = |n| format!("/ip4/127.0.0.1/tcp/{n}/ws/p2p-websocket-star/ipfs/{peer}");
    let mut waits = |n: u64| {
        let link = LinkId(n + 10);
        let claimant = Weights::default().claimant([10, 0, (n / 256) as u8, n as u8].into());
        star.registry.handle_open(link, claimant, star.now);
        star.send_join(link, &address(n + 1), "");
        let actions = std::iter::from_fn(|| star.registry.poll_action());
        let waits = actions.filter(|action| {
            matches!(
                action,
                Action::Welcome {
                    after_news: true,
                    ..
                }
            )
        });
        waits.count() > 0
    };
    for n in 0..FEW as u64 {
        assert!(waits(n), "{n}");
    }
    assert!(!waits(FEW as u64));
    assert!(!waits(FEW as u64 + 1));
}

/// The address was announced when it first joined, so only links that have joined since hear of it.
#[test]
fn an_address_that_comes_back_is_news_only_to_those_who_have_not_heard_of_it() {
    let mut star = star();
    let (a, b, c) = (key(), key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.leave(A, &a);
    star.join(C, &c);
    let announced = |star: &mut Star| {
        let actions = std::iter::from_fn(|| star.registry.poll_action());
        let announced = actions.filter_map(|action| match action {
            Action::Announce(peers) => Some(peers),
            _ => None,
        });
        announced
            .flatten()
            .map(|peer| peer.hears)
            .collect::<Vec<_>>()
    };
    let nonce = star.challenge(A, &a);
    star.send_join(A, &address(&a), &sign(&a, &nonce));
    // B had it in its list.
    let hears = announced(&mut star);
    assert_eq!(hears, [(Bound::Excluded(2), Bound::Unbounded)]);
    star.advance(Duration::from_secs(9));
    assert_eq!(announced(&mut star), []);
    star.advance(Duration::from_secs(1));
    let all = (Bound::Unbounded, Bound::Unbounded);
    assert_eq!(announced(&mut star), [all, all, all]);
}

#[test]
fn joins_have_a_rate_for_each_link_and_for_each_origin() {
    let limits = Limits::default()
        .with_join_rate(1, 3)
        .with_origin_join_rate(1, 5);
    let config = Config::default().with_challenge(false).with_limits(limits);
    let mut star = Star::new(config);
    let a = key();
    let too_often = refused(&Refusal::JoinRate);
    let mut joins = |link| {
        let joined = (0..10).filter(|_| {
            star.send_join(link, &address(&a), "");
            star.leave(link, &a);
            let answer = star.actions().pop().expect("an answer");
            answer.1 != too_often
        });
        joined.count()
    };
    assert_eq!(joins(A), 3);
    assert_eq!(joins(B), 3, "each address has a rate of its own");
    let same = LinkId(4);
    star.registry.handle_open(same, from(A), star.now);
    let mut joined = 0;
    for _ in 0..10 {
        star.send_join(same, &address(&a), "");
        star.leave(same, &a);
        let answer = star.actions().pop().expect("an answer");
        joined += usize::from(answer.1 != too_often);
    }
    assert_eq!(joined, 2, "A has two of five joins left");
}

#[test]
fn a_join_beyond_the_rate_is_refused_before_its_proof_costs_anything() {
    let limits = Limits::default().with_join_rate(1, 3);
    let mut star = Star::new(Config::default().with_limits(limits));
    let a = key();
    for _ in 0..3 {
        star.challenge(A, &a);
        // The signature proves nothing, and the challenge is used up.
        let wrong = refused(&Refusal::WrongSignature);
        star.send_join(A, &address(&a), "00");
        assert_eq!(star.actions(), [(Some(A), wrong)]);
    }
    let join = Event::Join {
        address: address(&a),
        data: public(&a),
    };
    let check = star.registry.handle_event(A, join, Some(99), star.now);
    assert!(check.is_none(), "{check:?}");
    let too_often = refused(&Refusal::JoinRate);
    assert_eq!(star.actions(), [(Some(A), too_often)]);
    star.advance(Duration::from_secs(1));
    let nonce = star.challenge(A, &a);
    star.send_join(A, &address(&a), &sign(&a, &nonce));
    assert!(star.registry.has_joined(A), "its proof is paid for");
}

#[test]
fn a_peer_is_announced_every_interval_as_long_as_it_is_joined() {
    let mut star = star();
    let a = key();
    star.registry.handle_close(B);
    star.registry.handle_close(C);
    star.join(A, &a);
    for _ in 0..3 {
        star.advance(Duration::from_secs(9));
        assert_eq!(star.actions(), []);
        star.advance(Duration::from_secs(1));
        let announced = [(None, json!(["ws-peer", address(&a)]))];
        assert_eq!(star.actions(), announced);
    }
    star.leave(A, &a);
    star.advance(Duration::from_secs(60));
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.turns.poll_timeout(0), None);
}

/// Returns how often each of 50 peers, each with an address of its own, is announced in 1,000 s beside `links` links of
/// one address.
fn announced_beside(links: u64) -> f64 {
    let limits = Limits::default()
        .with_announce_rate(10_000)
        .with_origin_join_rate(u32::MAX, u32::MAX);
    let config = Config::default().with_challenge(false).with_limits(limits);
    let mut star = Star::new(config);
    let many = Weights::default().claimant([203, 0, 113, 1].into());
    let mut honest = Vec::new();
    for n in 10..60 + links {
        let (link, address) = (LinkId(n), address(&key()));
        if n < 60 {
            star.registry.handle_open(link, from(link), star.now);
            honest.push(json!(["ws-peer", address]));
        } else {
            star.registry.handle_open(link, many, star.now);
        }
        star.send_join(link, &address, "");
    }
    star.actions();
    let mut announced = 0;
    for _ in 0..1000 {
        star.advance(Duration::from_secs(1));
        let actions = star.actions();
        let of_honest = |(_, event): &&(_, _)| honest.contains(event);
        announced += actions.iter().filter(of_honest).count();
    }
    announced as f64 / honest.len() as f64
}

#[test]
fn very_many_links_of_one_address_do_not_make_the_peers_of_others_rarer() {
    let (alone, beside) = (announced_beside(0), announced_beside(150));
    assert!(
        (10.0..90.0).contains(&alone),
        "the rate is what bounds: {alone}"
    );
    assert!(beside >= alone / 1.2, "{beside} instead of {alone}");
}

#[test]
fn a_peer_that_leaves_and_comes_back_is_announced_to_each_once_an_interval() {
    let mut star = star();
    let (a, b, c) = (key(), key(), key());
    // How often the link whose join has the number `since` hears of A.
    let heard = |star: &mut Star, since: u64| {
        let actions = std::iter::from_fn(|| star.registry.poll_action());
        let announced = actions.filter_map(|action| match action {
            Action::Announce(peers) => Some(peers),
            _ => None,
        });
        let announced = announced.flatten().filter(|peer| peer.link == A);
        announced.filter(|peer| peer.hears.contains(&since)).count()
    };
    let come_and_go = |star: &mut Star, since: u64| {
        let times = (0..10).map(|_| {
            let nonce = star.challenge(A, &a);
            star.send_join(A, &address(&a), &sign(&a, &nonce));
            star.leave(A, &a);
            heard(star, since)
        });
        times.sum::<usize>()
    };
    star.join(B, &b);
    let since_b = star.registry.joins;
    assert_eq!(come_and_go(&mut star, since_b), 1);
    star.join(C, &c);
    let since_c = star.registry.joins;
    assert_eq!(come_and_go(&mut star, since_b), 0);
    star.join(A, &a);
    star.advance(Duration::from_secs(10));
    assert_eq!(heard(&mut star, since_b), 1, "the repeat");
    star.leave(A, &a);
    assert_eq!(
        come_and_go(&mut star, since_c),
        0,
        "it has heard of A before"
    );
}

/// The npm server crashes here (FACTS.md).
#[test]
fn a_second_join_and_a_disconnect_in_one_segment_are_both_answered() {
    let mut star = star();
    let (a, other) = (key(), key());
    star.challenge(A, &a);
    star.send_join(A, &address(&other), &public(&other));
    star.event(A, Event::Unknown);
    let answers = star.actions();
    assert!(answers[0].1[1].is_string(), "a nonce");
    assert_eq!(answers[1], (Some(A), refused(&Refusal::Unknown)));
    star.registry.handle_close(A);
    assert_eq!(star.registry.peer_count(), 0);
}

/// The npm server has 21 announcement timers then, 20 of them for ever (FACTS.md).
#[test]
fn the_same_signature_sent_twenty_times_joins_once() {
    let mut star = star();
    let a = key();
    let nonce = star.challenge(A, &a);
    let signature = sign(&a, &nonce);
    for _ in 0..20 {
        star.send_join(A, &address(&a), &signature);
    }
    let answers = star.actions();
    let joined = answers.iter().filter(|(_, answer)| answer[0].is_null());
    assert_eq!(joined.count(), 1);
    star.advance(Duration::from_secs(10));
    assert_eq!(star.actions().len(), 1);
    star.registry.handle_close(A);
    star.advance(Duration::from_secs(10));
    assert_eq!(star.actions(), []);
}

/// The npm server accepts it, because it never clears the nonce (FACTS.md).
#[test]
fn a_signature_cannot_be_used_again_after_leaving() {
    let mut star = star();
    let a = key();
    let nonce = star.challenge(A, &a);
    let signature = sign(&a, &nonce);
    star.send_join(A, &address(&a), &signature);
    star.leave(A, &a);
    star.actions();
    star.send_join(A, &address(&a), &signature);
    let crypto_error = refused(&Refusal::UnusableProof);
    assert_eq!(star.actions(), [(Some(A), crypto_error)]);
}

/// The npm server does the same (FACTS.md).
#[test]
fn without_a_challenge_a_second_join_takes_the_address_over() {
    let mut star = Star::new(Config::default().with_challenge(false));
    let a = key();
    star.send_join(A, &address(&a), "");
    star.actions();
    star.send_join(B, &address(&a), "");
    let displaced = json!(["ss-displaced", address(&a)]);
    let joined = (Some(B), json!([null, null, []]));
    assert_eq!(star.actions(), [(Some(A), displaced), joined.clone()]);
    // The link that has the address may join again, and the old link has nothing more to lose.
    star.send_join(B, &address(&a), "_");
    assert_eq!(star.actions(), [joined]);
    star.leave(A, &a);
    star.registry.handle_close(A);
    star.dial(B, &a, &a, "d");
    assert_eq!(star.actions()[0].0, Some(B));
    assert_eq!(star.registry.peer_count(), 1);
}

/// In the npm server, the newest link gets the dials (FACTS.md). Here, the old link is also notified, and may not dial
/// from the address any more.
#[test]
fn a_key_that_joins_again_takes_its_address_along() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    let happened = star.join(C, &a);
    // The peer is already known, so only the link that lost it is notified.
    let displaced = json!(["ss-displaced", address(&a)]);
    let joined = json!([null, null, [address(&b)]]);
    assert_eq!(happened, [(Some(A), displaced), (Some(C), joined)]);
    star.dial(A, &a, &b, "old");
    let not_authorized = refused(&Refusal::NotAuthorized);
    assert_eq!(star.actions(), [(Some(A), not_authorized)]);
    star.dial(B, &b, &a, "new");
    assert_eq!(star.actions()[0].0, Some(C));
    // The address stays joined when its old link closes.
    star.registry.handle_close(A);
    star.dial(B, &b, &a, "newer");
    assert_eq!(star.actions()[0].0, Some(C));
}

#[test]
fn a_nonce_is_two_uuids_good_for_one_answer_within_its_time() {
    let mut star = star();
    let a = key();
    let nonce = star.challenge(A, &a);
    assert_eq!(nonce.len(), 72);
    assert_eq!((nonce.as_bytes()[14], nonce.as_bytes()[50]), (b'8', b'8'));
    star.send_join(A, &address(&a), &"00".repeat(64));
    let wrong = refused(&Refusal::WrongSignature);
    assert_eq!(star.actions(), [(Some(A), wrong)]);
    let crypto_error = refused(&Refusal::UnusableProof);
    star.send_join(A, &address(&a), &sign(&a, &nonce));
    assert_eq!(star.actions(), [(Some(A), crypto_error.clone())]);

    let nonce = star.challenge(A, &a);
    star.now += Duration::from_secs(30);
    star.send_join(A, &address(&a), &sign(&a, &nonce));
    assert_eq!(star.actions(), [(Some(A), crypto_error)]);
}

#[test]
fn a_key_sent_again_before_the_signature_gets_a_new_nonce() {
    let mut star = star();
    let a = key();
    let first = star.challenge(A, &a);
    let second = star.challenge(A, &a);
    assert_ne!(first, second);
    star.send_join(A, &address(&a), &sign(&a, &second));
    assert_eq!(
        star.actions().pop(),
        Some((Some(A), json!([null, null, []])))
    );
}

#[test]
fn another_links_nonce_is_no_proof() {
    let mut star = star();
    let a = key();
    let nonce = star.challenge(A, &a);
    star.challenge(B, &a);
    star.send_join(B, &address(&a), &sign(&a, &nonce));
    let wrong = refused(&Refusal::WrongSignature);
    assert_eq!(star.actions(), [(Some(B), wrong)]);
}

#[test]
fn only_websocket_star_addresses_of_the_deployed_spelling_are_taken() {
    let mut star = star();
    let a = key();
    let peer = a.public().to_peer_id();
    let join = |address: String| Event::Join {
        address,
        data: public(&a),
    };
    let refused = refused(&Refusal::InvalidMultiaddr);
    for address in [
        String::new(),
        format!("/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/p2p/{peer}"),
        format!("/ip4/1.2.3.4/tcp/1/tls/ws/p2p-websocket-star/ipfs/{peer}"),
        format!("/ip4/1.2.3.4/tcp/1/ws/ipfs/{peer}"),
        format!("/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star/ipfs/{peer}/p2p-circuit"),
        "/ip4/1.2.3.4/tcp/1/ws/p2p-websocket-star".to_owned(),
        format!(
            "/dns4/{}/tcp/1/ws/p2p-websocket-star/ipfs/{peer}",
            "a".repeat(500)
        ),
    ] {
        assert_eq!(star.ask(A, join(address.clone())), refused, "{address}");
    }
    for base in [
        "/ip6/::1/tcp/1/wss",
        "/dns4/a.b/tcp/080/ws",
        "/dnsaddr/a/tcp/1/ws",
    ] {
        let address = format!("{base}/p2p-websocket-star/ipfs/{peer}");
        assert!(star.ask(A, join(address))[1].is_string(), "{base}");
    }
    let mut lenient = Star::new(Config::default().with_strict_multiaddr(false));
    let address = format!("/ip4/1.2.3.4/tcp/1/ws/ipfs/{peer}");
    assert!(lenient.ask(A, join(address))[1].is_string());
    let address = "not a multiaddr".to_owned();
    assert_eq!(lenient.ask(A, join(address)), refused);
}

#[test]
fn an_address_is_compared_byte_for_byte() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    let event = Event::Dial {
        from: address(&a),
        to: address(&b).replace("9090", "09090"),
        dial_id: DialId::random(),
    };
    assert_eq!(star.ask(A, event), refused(&Refusal::PeerNotFound));
}

#[test]
fn a_link_joins_so_many_addresses_and_no_more() {
    let limits = Limits::default().with_max_joins(2);
    let mut star = Star::new(Config::default().with_limits(limits));
    let keys = [key(), key(), key()];
    star.join(A, &keys[0]);
    star.challenge(A, &keys[1]);
    let join = |key: &Keypair| Event::Join {
        address: address(key),
        data: public(key),
    };
    let too_many = refused(&Refusal::TooManyJoins);
    assert_eq!(star.ask(A, join(&keys[2])), too_many);
    // An open challenge counts until it is answered or expires.
    star.now += Duration::from_secs(30);
    assert!(star.ask(A, join(&keys[2]))[1].is_string());
}

#[test]
fn a_link_that_never_joins_is_told_to_go_and_one_that_has_joined_is_not() {
    let mut star = star();
    let a = key();
    star.join(A, &a);
    star.leave(A, &a);
    star.registry.handle_close(C);
    star.advance(Duration::from_secs(30));
    assert_eq!(star.actions(), [(Some(B), json!("idle"))]);
    assert_eq!(star.registry.poll_timeout(), None);
}

#[test]
fn the_list_of_peers_in_an_answer_is_bounded() {
    let limits = Limits::default()
        .with_max_joins(usize::MAX)
        .with_join_rate(u32::MAX, u32::MAX)
        .with_origin_join_rate(u32::MAX, u32::MAX);
    let config = Config::default().with_challenge(false).with_limits(limits);
    let mut star = Star::new(config);
    let peer = key().public().to_peer_id();
    for port in 1..1000 {
        let address = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p-websocket-star/ipfs/{peer}");
        star.send_join(A, &address, "");
        star.actions();
        star.send_join(B, &self::address(&key()), "");
        let (_, answer) = star.actions().pop().expect("an answer");
        let peers = answer[2].as_array().expect("a list").len();
        assert_eq!(peers, 256.min(2 * port - 1));
    }
}

#[test]
fn a_lost_link_may_still_be_spoken_of() {
    let mut star = star();
    let a = key();
    star.registry.handle_close(A);
    star.registry.handle_close(A);
    let event = Event::Join {
        address: address(&a),
        data: public(&a),
    };
    star.event(A, event);
    star.registry.handle_ack(A, 0, "[]");
    star.leave(A, &a);
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.peer_count(), 0);
}

/// A check of a proof takes up to 100 µs of a core.
#[test]
fn proofs_that_fail_have_the_rate_of_joins_too() {
    let limits = Limits::default().with_join_rate(1, 5);
    let mut star = Star::new(Config::default().with_limits(limits));
    let a = key();
    let mut checks = 0;
    for _ in 0..20 {
        let now = star.now;
        for data in [public(&a), "00".repeat(64)] {
            let event = Event::Join {
                address: address(&a),
                data,
            };
            if let Some(check) = star.registry.handle_event(A, event, Some(0), now) {
                checks += 1;
                star.registry.handle_checked(A, check.run(), now);
            }
        }
    }
    assert_eq!(checks, 2 * 5);
}

#[test]
fn a_challenge_that_is_not_answered_is_forgotten() {
    let mut star = star();
    let a = key();
    star.challenge(A, &a);
    assert_eq!(star.registry.links[&A].challenges.len(), 1);
    star.advance(Duration::from_secs(30));
    assert_eq!(star.registry.links[&A].challenges.len(), 0);
}

#[test]
fn a_peer_that_moves_counts_for_the_origin_of_its_new_link() {
    let mut star = star();
    let a = key();
    star.join(A, &a);
    star.join(C, &a);
    star.registry.handle_close(A);
    star.advance(Duration::from_secs(10));
    let announced = star.actions();
    let again = (None, json!(["ws-peer", address(&a)]));
    assert!(announced.contains(&again), "{announced:?}");
    assert_eq!(star.registry.peers.origins(), [from(C).origin]);
    star.registry.handle_close(C);
    assert_eq!(star.registry.peers.origins(), []);
    assert_eq!(star.registry.turns.len(), 0);
}
