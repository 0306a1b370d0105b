//! Dials and their streams.

use super::*;

/// In the npm server, its data is mixed into the victim's stream (FACTS.md).
#[test]
fn a_dial_id_in_use_is_refused_to_everybody() {
    let mut star = star();
    let (a, b) = star.dialled();
    let c = key();
    star.join(C, &c);
    for (link, from, to) in [(C, &c, &b), (C, &c, &a), (A, &a, &b), (B, &b, &a)] {
        star.dial(link, from, to, "d");
        let refused = refused(&Refusal::DialIdInUse);
        assert_eq!(star.actions(), [(Some(link), refused)]);
    }
    for side in [Side::Dialer, Side::Listener] {
        assert!(star.route(C, side).is_none());
        star.end(C, side);
    }
    let route = star.route(A, Side::Dialer).expect("still there");
    assert!(route.sends && !route.receives && !route.is_over());
    assert_eq!(route.to, B);
    let route = star.route(B, Side::Dialer).expect("still there");
    assert!(!route.sends && route.receives && !route.is_over());
    assert_eq!(route.to, A);
}

/// In the npm server, 400 listeners leak on the socket (FACTS.md).
#[test]
fn dials_that_end_leave_nothing_behind() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    for ack in 0..200 {
        star.dial(A, &a, &b, "d");
        star.registry.handle_ack(B, ack, "[]");
        let route = star.route(A, Side::Dialer).expect("open");
        star.end(A, Side::Dialer);
        assert!(route.is_over());
        assert_eq!(star.registry.dial_count(), 1);
        star.end(B, Side::Listener);
    }
    assert_eq!(star.registry.dial_count(), 0);
    assert!(
        star.registry.deadlines.len() <= 1,
        "only the deadline of C's first join may be left"
    );
    for link in [A, B] {
        let link = &star.registry.links[&link];
        assert!(link.dials.is_empty() && link.offered.is_empty());
        assert_eq!(link.dialling, 0);
    }
    assert_eq!(star.registry.counters().dials, 200);
}

#[test]
fn dials_are_limited_on_both_sides() {
    let limits = Limits::default()
        .with_max_pending_dials(1)
        .with_max_open_dials(2);
    let mut star = Star::new(Config::default().with_limits(limits));
    let (a, b, c) = (key(), key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.join(C, &c);
    star.dial(A, &a, &b, "1");
    star.actions();
    let (own, busy) = (refused(&Refusal::TooManyDials), refused(&Refusal::PeerBusy));
    star.dial(A, &a, &c, "2");
    assert_eq!(star.actions(), [(Some(A), own.clone())]);
    star.dial(C, &c, &b, "3");
    assert_eq!(star.actions(), [(Some(C), busy.clone())]);

    star.registry.handle_ack(B, 0, "[]");
    star.dial(A, &a, &b, "4");
    star.registry.handle_ack(B, 1, "[]");
    star.actions();
    star.dial(A, &a, &c, "5");
    assert_eq!(star.actions(), [(Some(A), own)]);
}

/// A listener that one origin dials very often is not lost to the other origins.
#[test]
fn whoever_dials_a_listener_most_gives_way_to_others() {
    let limits = Limits::default()
        .with_max_pending_dials(4)
        .with_max_open_dials(6);
    let mut star = Star::new(Config::default().with_limits(limits));
    let (a, b, c) = (key(), key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.join(C, &c);
    let busy = json!([Refusal::PeerBusy.to_string()]);
    for n in 0..4 {
        star.dial(A, &a, &b, &format!("a{n}"));
    }
    star.actions();
    for (n, ended) in ["a3", "a2"].into_iter().enumerate() {
        let id = format!("c{n}");
        star.dial(C, &c, &b, &id);
        let mut happened = star.actions();
        assert_eq!(happened.remove(0), (Some(A), busy.clone()));
        for stream in [format!("{ended}.dialer"), format!("{ended}.listener")] {
            for link in [B, A] {
                let told = (Some(link), cut(&stream, DialEnd::GaveWay));
                assert_eq!(happened.remove(0), told);
            }
        }
        let offered = json!(["ss-incomming", id, address(&c)]);
        assert_eq!(happened, [(Some(B), offered)]);
    }
    // Both origins have the same number of dials now.
    star.dial(C, &c, &b, "c2");
    assert_eq!(star.actions(), [(Some(C), busy.clone())]);

    // Once answered, the open dials are shared in the same way.
    for ack in 0..6 {
        star.registry.handle_ack(B, ack, "[]");
    }
    for n in 4..6 {
        star.dial(A, &a, &b, &format!("a{n}"));
    }
    star.actions();
    star.dial(C, &c, &b, "c3");
    let offered = json!(["ss-incomming", "c3", address(&c)]);
    let happened = star.actions();
    assert_eq!(happened[0], (Some(A), busy.clone()), "a5 has waited");
    assert_eq!(happened.last(), Some(&(Some(B), offered)));
    star.dial(C, &c, &b, "c4");
    assert_eq!(star.actions(), [(Some(C), busy)]);
    star.registry.handle_close(A);
    star.registry.handle_close(C);
    assert!(star.registry.links[&B].dialled_by.is_none());
}

#[test]
fn a_refusal_reaches_the_dialer_and_ends_the_dial() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.dial(A, &a, &b, "d");
    star.actions();
    let route = star.route(B, Side::Listener).expect("open");
    star.registry.handle_ack(B, 0, "[\"not today\"]");
    assert_eq!(star.actions(), [(Some(A), json!(["not today"]))]);
    assert!(route.is_over());
    assert_eq!(star.registry.dial_count(), 0);
    // A second answer belongs to no dial.
    star.registry.handle_ack(B, 0, "[]");
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.counters().dials_failed, 1);
}

#[test]
fn nobody_answers_for_another() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.dial(A, &a, &b, "d");
    star.actions();
    for link in [A, C] {
        star.registry.handle_ack(link, 0, "[]");
    }
    assert_eq!(star.actions(), []);
}

#[test]
fn a_dial_that_is_not_answered_fails_for_both() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.registry.handle_close(C);
    star.dial(A, &a, &b, "d");
    star.actions();
    star.now += Duration::from_secs(29);
    star.registry.handle_timeout(star.now);
    assert_eq!(star.registry.dial_count(), 1);
    star.actions();
    star.now += Duration::from_secs(1);
    star.registry.handle_timeout(star.now);
    let mut happened = star.actions();
    happened.retain(|(to, _)| to.is_some());
    let expected = [
        (Some(A), refused(&Refusal::DialTimedOut)),
        (Some(B), cut("d.dialer", DialEnd::DialTimedOut)),
        (Some(A), cut("d.dialer", DialEnd::DialTimedOut)),
        (Some(B), cut("d.listener", DialEnd::DialTimedOut)),
        (Some(A), cut("d.listener", DialEnd::DialTimedOut)),
    ];
    assert_eq!(happened, expected);
    // The late answer belongs to no dial.
    star.registry.handle_ack(B, 0, "[]");
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.dial_count(), 0);
}

#[test]
fn a_lost_listener_answers_its_dialer_at_once() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.dial(A, &a, &b, "d");
    star.actions();
    star.registry.handle_close(B);
    assert_eq!(star.actions()[0], (Some(A), refused(&Refusal::PeerLeft)));
    assert_eq!(star.registry.links[&A].dialling, 0);
}

#[test]
fn a_lost_link_ends_only_what_was_not_finished() {
    let mut star = star();
    star.dialled();
    star.end(A, Side::Dialer);
    let route = star.route(B, Side::Listener).expect("open");
    star.registry.handle_close(A);
    let told = [(Some(B), cut("d.listener", DialEnd::LinkLost))];
    assert_eq!(star.actions(), told);
    assert!(route.is_over());
    assert_eq!(star.registry.dial_count(), 0);
    assert_eq!(star.registry.link_count(), 2);
}

#[test]
fn a_dial_whose_streams_end_before_its_answer_is_answered_all_the_same() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.dial(A, &a, &b, "d");
    star.end(A, Side::Dialer);
    star.end(A, Side::Listener);
    star.actions();
    assert_eq!(star.registry.dial_count(), 1);
    star.registry.handle_ack(B, 0, "[]");
    assert_eq!(star.actions(), [(Some(A), json!([]))]);
    assert_eq!(star.registry.dial_count(), 0);
}

#[test]
fn a_peer_may_dial_another_address_of_its_own_link() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(A, &b);
    star.dial(A, &a, &b, "d");
    star.registry.handle_ack(A, 0, "[]");
    assert_eq!(star.actions().len(), 2);
    let route = star.route(A, Side::Dialer).expect("open");
    assert!(route.sends && route.receives && route.to == A);
    star.registry.handle_close(A);
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.dial_count(), 0);
}

#[test]
fn a_shutdown_answers_dialers_and_cuts_streams() {
    let mut star = star();
    let (a, b) = star.dialled();
    star.dial(B, &b, &a, "e");
    star.actions();
    star.registry.shut_down();
    let happened = star.actions();
    for (link, told) in [
        (B, refused(&Refusal::ShuttingDown)),
        (A, cut("d.dialer", DialEnd::ShuttingDown)),
        (B, cut("d.listener", DialEnd::ShuttingDown)),
        (A, cut("e.listener", DialEnd::ShuttingDown)),
    ] {
        assert!(happened.contains(&(Some(link), told)), "{happened:?}");
    }
    assert_eq!(star.registry.dial_count(), 0);
}

#[test]
fn a_lost_link_with_very_many_dials_is_not_dealt_with_at_once() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    let many = 3 * ENDED_AT_ONCE;
    for n in 0..many {
        star.dial(A, &a, &b, &n.to_string());
        star.registry.handle_ack(B, n as u64, "[]");
    }
    star.actions();
    star.registry.handle_close(A);
    let mut ended = Vec::new();
    for _ in 0..3 {
        // B is told of both streams of each dial.
        let some = star.actions();
        assert_eq!(some.len(), 2 * ENDED_AT_ONCE);
        ended.extend(some);
        assert!(
            star.registry
                .poll_timeout()
                .is_none_or(|at| ended.len() == 2 * many || at <= star.now)
        );
        star.registry.handle_timeout(star.now);
    }
    assert_eq!(star.registry.dial_count(), 0);
    assert!(star.registry.links[&B].dials.is_empty());
}

/// A peer that leaves and keeps its link begins anew, however many dials it had.
#[test]
fn a_peer_that_has_left_hears_nothing_of_its_dials_and_they_count_for_it_no_more() {
    let many = 2 * ENDED_AT_ONCE + 1;
    for leaves in [[A].as_slice(), &[B], &[A, B]] {
        let mut star = star();
        let (a, b, c) = (key(), key(), key());
        star.join(A, &a);
        star.join(B, &b);
        for n in 0..many {
            star.dial(A, &a, &b, &n.to_string());
            star.registry.handle_ack(B, n as u64, "[]");
        }
        star.actions();
        for link in leaves {
            star.registry.handle_disconnect(*link);
        }
        star.actions();
        let cut = star.registry.dials.ids();
        assert!(!cut.is_empty());
        for link in leaves {
            let dial_id = cut[0].as_str();
            let sender = Side::Dialer;
            let route = star.registry.route(*link, StreamName { dial_id, sender });
            assert!(route.is_none());
        }
        star.join(A, &a);
        star.join(B, &b);
        star.join(C, &c);
        star.dial(A, &a, &c, "new");
        star.dial(C, &c, &b, "newer");
        star.actions();
        for _ in 0..3 {
            star.registry.handle_timeout(star.now);
        }
        let told = star.actions();
        let has_left = |link| leaves.contains(&link);
        assert!(
            told.iter()
                .all(|(to, _)| to.is_some_and(|to| !has_left(to)))
        );
        assert_eq!(told.is_empty(), leaves.len() == 2, "{told:?}");
        assert_eq!(star.registry.dial_count(), 2);
        let links = &star.registry.links;
        assert_eq!((links[&A].dialled, links[&A].dialling), (1, 1));
        assert_eq!((links[&A].dials.len(), links[&B].dials.len()), (1, 1));
        assert!(links[&B].dialled_by.is_some());
    }
}

#[test]
fn an_id_that_is_used_again_is_not_cut_with_the_dial_that_had_it() {
    let mut star = star();
    let (a, b, c) = (key(), key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.join(C, &c);
    for n in 0..ENDED_AT_ONCE + 1 {
        star.dial(A, &a, &b, &n.to_string());
        star.registry.handle_ack(B, n as u64, "[]");
    }
    star.registry.handle_close(A);
    let left: Vec<_> = star.registry.dials.ids();
    let [left] = left.as_slice() else {
        panic!("{left:?}");
    };
    for sender in [Side::Dialer, Side::Listener] {
        let dial_id = left.as_str();
        star.registry.handle_end(B, StreamName { dial_id, sender });
    }
    star.dial(C, &c, &b, left.as_str());
    star.actions();
    star.registry.handle_timeout(star.now);
    assert_eq!(star.actions(), []);
    assert_eq!(star.registry.dial_count(), 1);
}

#[test]
fn a_dial_that_its_listener_does_not_take_is_refused() {
    let mut star = star();
    let (a, b) = (key(), key());
    star.join(A, &a);
    star.join(B, &b);
    star.dial(A, &a, &b, "d");
    let offered =
        std::iter::from_fn(|| star.registry.poll_action()).find_map(|action| match action {
            Action::Offer { to, ack, .. } => Some((to, ack)),
            _ => None,
        });
    let (to, ack) = offered.expect("an offer");
    star.registry.handle_busy(to, ack);
    let busy = refused(&Refusal::PeerBusy);
    assert_eq!(star.actions(), [(Some(A), busy)]);
    assert_eq!(star.registry.dial_count(), 0);
    assert_eq!(star.registry.refusals().get(Refused::PeerBusy), 1);
}

#[test]
fn a_shutdown_ends_some_dials_at_a_time_and_lets_no_other_begin() {
    let mut star = star();
    let (a, b) = star.dialled();
    for n in 0..ENDED_AT_ONCE {
        star.dial(B, &b, &a, &format!("e{n}"));
    }
    star.actions();
    assert!(star.registry.shut_down());
    assert_eq!(star.registry.dial_count(), 1);
    star.actions();
    star.dial(B, &b, &a, "late");
    let told = refused(&Refusal::ShuttingDown);
    assert!(star.actions().contains(&(Some(B), told)));
    assert!(!star.registry.shut_down());
    assert_eq!(star.registry.dial_count(), 0);
}
