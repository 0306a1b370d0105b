//! Joins about which the application is asked.

use super::*;
use crate::{
    StarAddr,
    protocol::session::{Output, Received, Session, Settings as Client},
    rendezvous::{Access, Allowed, Join, Judgement, Verdict, access::granted},
};

/// An application whose verdicts are made up by the tests.
#[derive(Debug)]
struct Asked;

impl Access for Asked {
    fn judge(&self, _: &Join) -> Judgement {
        Verdict::allow().into()
    }

    fn still_allows(&self, _: &Join) -> bool {
        true
    }
}

fn asking(config: Config) -> Star {
    Star::new(config.with_access(Asked))
}

impl Star {
    /// Joins, and has the join judged like this; returns what happens in the end.
    fn join_judged(
        &mut self,
        link: LinkId,
        key: &Keypair,
        judged: Result<Arc<Grant>, Refusal>,
    ) -> Vec<(Option<LinkId>, Value)> {
        let nonce = self.challenge(link, key);
        let join = Event::Join {
            address: address(key),
            data: sign(key, &nonce),
        };
        self.check_in(link, join, judged);
        self.actions()
    }

    fn check_in(&mut self, link: LinkId, join: Event<'_>, judged: Result<Arc<Grant>, Refusal>) {
        let now = self.now;
        let check = self.registry.handle_event(link, join, Some(7), now);
        let checked = check
            .expect("the access check is asked")
            .run()
            .judged(judged);
        self.registry.handle_checked(link, checked, now);
    }

    /// Carries what a client says to the link `A` and the answers back, until both have said all. Joins with a valid
    /// proof are judged like this.
    fn talk(&mut self, client: &mut Session, judged: impl Fn() -> Result<Arc<Grant>, Refusal>) {
        let now = self.now;
        while let Some(text) = client.poll_transmit() {
            let Ok(Packet::Event { ack, json }) = Packet::decode(&text[1..]) else {
                panic!("{text}")
            };
            let event = Event::decode(json, false).expect("an event");
            if let Some(check) = self.registry.handle_event(A, event, ack, now) {
                let checked = match check.run() {
                    proved if proved.proved().is_some() => proved.judged(judged()),
                    other => other,
                };
                self.registry.handle_checked(A, checked, now);
            }
            let answers: Vec<_> = std::iter::from_fn(|| self.registry.poll_action())
                .filter_map(|action| match action {
                    Action::Send { text, .. } => Some(text),
                    Action::Welcome { welcome, .. } => Some(welcome.encode()),
                    _ => None,
                })
                .collect();
            for answer in answers {
                let received = client.handle_text(now, &answer).expect("no violation");
                assert_eq!(received, Received::Handled);
            }
        }
    }

    /// Drops the grants of joins that are over; returns their number.
    fn clean_up(&mut self) -> usize {
        self.registry.take_over().len()
    }
}

/// A grant with a guard, and a reference that shows whether the guard is still there.
fn guarded() -> (Arc<Grant>, std::sync::Weak<()>) {
    let guard = Arc::new(());
    let gone = Arc::downgrade(&guard);
    (granted(Allowed::default().with_guard(guard)), gone)
}

fn is_there(guard: &std::sync::Weak<()>) -> bool {
    guard.strong_count() > 0
}

#[test]
fn a_join_that_is_refused_is_told_why_and_counted() {
    let mut star = asking(Config::default());
    let a = key();
    for (refusal, reason) in [
        (Refusal::NotAllowed("no".to_owned()), Refused::NotAllowed),
        (
            Refusal::NotAllowedNow {
                after: 9,
                words: String::new(),
            },
            Refused::NotAllowedNow,
        ),
        (Refusal::Undecided, Refused::Undecided),
    ] {
        let happened = star.join_judged(A, &a, Err(refusal.clone()));
        assert_eq!(happened, [(Some(A), refused(&refusal))]);
        assert_eq!(star.registry.refusals().get(reason), 1);
    }
    assert_eq!(
        (star.registry.peer_count(), star.registry.counters().joins),
        (0, 0)
    );
    star.join_judged(A, &a, Ok(granted(Allowed::default())));
    assert_eq!(star.registry.peer_count(), 1);
}

#[test]
fn nobody_joins_about_whom_nobody_was_asked() {
    let mut star = asking(Config::default());
    let a = key();
    let not_allowed = refused(&Refusal::NotAllowed(String::new()));
    assert_eq!(star.join(A, &a), [(Some(A), not_allowed.clone())]);

    let mut star = asking(Config::default().with_challenge(false));
    star.send_join(A, &address(&a), "");
    assert_eq!(star.actions(), [(Some(A), not_allowed)]);
    let join = Event::Join {
        address: address(&a),
        data: String::new(),
    };
    star.check_in(A, join, Ok(granted(Allowed::default())));
    assert_eq!(star.registry.peer_count(), 1);
}

#[test]
fn a_guard_is_given_back_when_its_join_is_over_however_that_comes() {
    let ends: [fn(&mut Star, &Keypair); 5] = [
        |star, key| star.leave(A, key),
        |star, _| star.registry.handle_close(A),
        |star, _| star.registry.handle_disconnect(A),
        // It joins again, on the same link and on another one.
        |star, key| _ = star.join_judged(A, key, Ok(granted(Allowed::default()))),
        |star, key| _ = star.join_judged(B, key, Ok(granted(Allowed::default()))),
    ];
    for end in ends {
        let mut star = asking(Config::default());
        let a = key();
        let (grant, guard) = guarded();
        star.join_judged(A, &a, Ok(grant));
        assert_eq!(star.clean_up(), 0);
        assert!(is_there(&guard));
        end(&mut star, &a);
        assert!(is_there(&guard), "the registry is locked when that happens");
        assert_eq!(star.clean_up(), 1);
        assert!(!is_there(&guard));
    }
}

/// Returns a link's request to join, with a valid proof and no decision yet.
fn request(star: &mut Star, link: LinkId, key: &Keypair) -> Checked {
    let nonce = star.challenge(link, key);
    let join = Event::Join {
        address: address(key),
        data: sign(key, &nonce),
    };
    let now = star.now;
    let check = star.registry.handle_event(link, join, Some(7), now);
    check.expect("a signature").run()
}

#[test]
fn whoever_asked_last_has_the_address_however_long_it_takes_to_decide() {
    let mut star = asking(Config::default());
    let a = key();
    let early = request(&mut star, A, &a);
    let late = request(&mut star, B, &a);
    let now = star.now;
    let (kept, kept_guard) = guarded();
    star.registry.handle_checked(B, late.judged(Ok(kept)), now);
    star.actions();
    let (refused_one, guard) = guarded();
    let early = early.judged(Ok(refused_one));
    star.registry.handle_checked(A, early, now);
    // No peer is displaced, and the grant of the late join is given back.
    let overtaken = refused(&Refusal::Overtaken);
    assert_eq!(star.actions(), [(Some(A), overtaken)]);
    assert_eq!(star.registry.refusals().get(Refused::Overtaken), 1);
    assert_eq!(star.clean_up(), 1);
    assert!(!is_there(&guard) && is_there(&kept_guard));
    assert!(star.registry.has_joined(B) && !star.registry.has_joined(A));

    // If the earlier request is decided first, the address moves as usual, however often that happens.
    for link in [A, B] {
        let (early, late) = (request(&mut star, C, &a), request(&mut star, link, &a));
        for (link, asked) in [(C, early), (link, late)] {
            let judged = asked.judged(Ok(granted(Allowed::default())));
            star.registry.handle_checked(link, judged, now);
        }
        assert!(star.registry.has_joined(link) && !star.registry.has_joined(C));
        star.actions();
    }
    // A later request whose link has gone meanwhile does not stand in the way.
    let early = request(&mut star, A, &a);
    star.join_judged(C, &a, Ok(granted(Allowed::default())));
    star.registry.handle_close(C);
    star.actions();
    let judged = early.judged(Ok(granted(Allowed::default())));
    star.registry.handle_checked(A, judged, now);
    assert!(star.registry.has_joined(A));
}

#[test]
fn a_guard_of_a_link_that_has_gone_meanwhile_is_given_back() {
    let mut star = asking(Config::default());
    let a = key();
    let asked = request(&mut star, A, &a);
    star.registry.handle_close(A);
    let (grant, guard) = guarded();
    let now = star.now;
    star.registry
        .handle_checked(A, asked.judged(Ok(grant)), now);
    assert_eq!(star.clean_up(), 1);
    assert!(!is_there(&guard));
}

#[test]
fn a_peer_has_as_many_dials_as_it_is_allowed() {
    let mut star = asking(Config::default());
    let (a, b) = (key(), key());
    star.join_judged(A, &a, Ok(granted(Allowed::default().with_max_dials(2))));
    star.join_judged(B, &b, Ok(granted(Allowed::default())));
    star.actions();
    for id in ["1", "2", "3"] {
        star.dial(A, &a, &b, id);
        // Dials that others make to it do not count.
        star.dial(B, &b, &a, &format!("b{id}"));
    }
    let refused = (Some(A), refused(&Refusal::TooManyDials));
    let happened = star.actions();
    assert_eq!(happened.iter().filter(|it| **it == refused).count(), 1);
    assert_eq!(happened.last().map(|(to, _)| *to), Some(Some(A)));
    assert_eq!(star.registry.dial_count(), 5);
    star.registry.handle_ack(B, 0, "[\"no\"]");
    star.dial(A, &a, &b, "3");
    assert_eq!(star.registry.dial_count(), 5);
}

#[test]
fn those_who_have_joined_are_gone_through_some_at_a_time() {
    let mut star = asking(Config::default());
    let keys: Vec<_> = (0..5).map(|_| key()).collect();
    for key in &keys {
        star.join_judged(A, key, Ok(granted(Allowed::default())));
    }
    let mut found = Vec::new();
    let mut from = String::new();
    loop {
        let some = star.registry.joined_from(&from, 2);
        let Some(last) = some.last() else { break };
        from = format!("{}\0", last.address);
        assert!(
            some.iter()
                .all(|joined| joined.link == A && joined.grant.is_some())
        );
        found.extend(some.into_iter().map(|joined| joined.address.to_string()));
    }
    let mut expected: Vec<_> = keys.iter().map(address).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_refusal_that_passes_costs_no_listener_its_place_even_if_joins_are_scarce_meanwhile() {
    let limits = Limits::default().with_join_rate(1, 1);
    let mut star = asking(Config::default().with_limits(limits));
    let key = key();
    let own = StarAddr::from_wire(&address(&key)).expect("an address");
    let mut client = Session::new(Client {
        keypair: key,
        join_timeout: Duration::from_secs(10),
        dial_timeout: Duration::from_secs(10),
        allow_join_with_disabled_challenge: false,
    });
    let failed = |client: &mut Session| match client.poll_output() {
        Some(Output::JoinFailed { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    client.listen(star.now, &own);
    star.talk(&mut client, || Err(Refusal::Undecided));
    assert_eq!(
        failed(&mut client).retry_after(),
        Some(Duration::from_secs(5))
    );
    // It asks again on the same link, where the join rate is used up.
    client.listen(star.now, &own);
    star.talk(&mut client, || panic!("the access check is not asked"));
    let error = failed(&mut client);
    assert!(!error.is_permanent(), "{error}");
    star.now += Duration::from_secs(2);
    client.listen(star.now, &own);
    star.talk(&mut client, || Ok(granted(Allowed::default())));
    assert_eq!(client.poll_output(), Some(Output::Joined { address: own }));
}
