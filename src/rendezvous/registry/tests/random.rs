//! Links do anything in any order. Nothing is left over, and no link is told what is not its own.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Open(u64),
    Close(u64),
    Disconnect(u64),
    Join(u64, usize),
    Leave(u64, usize),
    Dial(u64, usize, usize, usize),
    Answer(u64, u64, bool),
    End(u64, usize, bool),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (link, peer, dial) = (0u64..4, 0usize..4, 0usize..3);
    prop_oneof![
        1 => link.clone().prop_map(Op::Open),
        1 => link.clone().prop_map(Op::Close),
        1 => link.clone().prop_map(Op::Disconnect),
        4 => (link.clone(), peer.clone()).prop_map(|(l, p)| Op::Join(l, p)),
        1 => (link.clone(), peer.clone()).prop_map(|(l, p)| Op::Leave(l, p)),
        6 => (link.clone(), peer.clone(), peer, dial.clone())
            .prop_map(|(l, from, to, d)| Op::Dial(l, from, to, d)),
        6 => (link.clone(), 0u64..6, any::<bool>()).prop_map(|(l, a, ok)| Op::Answer(l, a, ok)),
        4 => (link, dial, any::<bool>()).prop_map(|(l, d, s)| Op::End(l, d, s)),
        1 => (0u64..40).prop_map(Op::Wait),
    ]
}

const DIALS: [&str; 3] = ["x", "y", "z"];

fn peer(n: usize) -> String {
    let id = "QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t";
    format!(
        "/ip4/127.0.0.1/tcp/{}/ws/p2p-websocket-star/ipfs/{id}",
        n + 1
    )
}

fn event(registry: &mut Registry, now: &Instant, link: u64, event: Event<'_>) {
    let check = registry.handle_event(LinkId(link), event, Some(0), *now);
    assert!(check.is_none(), "there is no challenge");
}

fn apply(registry: &mut Registry, op: &Op, now: &mut Instant) {
    match *op {
        Op::Open(link) if registry.links.contains_key(&LinkId(link)) => {}
        Op::Open(link) => registry.handle_open(LinkId(link), from(LinkId(link)), *now),
        Op::Close(link) => registry.handle_close(LinkId(link)),
        Op::Disconnect(link) => {
            registry.handle_disconnect(LinkId(link));
            while let Some(action) = registry.poll_action() {
                let to_it = matches!(
                    action,
                    Action::Send { to, .. } | Action::Notify { to, .. } if to == LinkId(link)
                );
                assert!(!to_it, "{action:?}");
            }
        }
        Op::Join(link, n) => event(
            registry,
            now,
            link,
            Event::Join {
                address: peer(n),
                data: String::new(),
            },
        ),
        Op::Leave(link, n) => event(registry, now, link, Event::Leave { address: peer(n) }),
        Op::Dial(link, from, to, dial) => event(
            registry,
            now,
            link,
            Event::Dial {
                from: peer(from),
                to: peer(to),
                dial_id: DialId::new(DIALS[dial]).expect("plain"),
            },
        ),
        Op::Answer(link, ack, accept) => {
            let json = if accept { "[]" } else { "[\"no\"]" };
            registry.handle_ack(LinkId(link), ack, json);
        }
        Op::End(link, dial, dialer) => {
            let stream = StreamName {
                dial_id: DIALS[dial],
                sender: if dialer { Side::Dialer } else { Side::Listener },
            };
            registry.handle_end(LinkId(link), stream);
        }
        Op::Wait(seconds) => {
            *now += Duration::from_secs(seconds);
            registry.handle_timeout(*now);
        }
    }
}

/// Checks that everything is known where it should be, and nowhere else.
fn check(registry: &Registry) {
    let mut expected_deadlines = 0;
    for (id, link) in &registry.links {
        expected_deadlines += usize::from(link.first_join.is_some()) + link.offered.len();
        for address in &link.joins {
            assert_eq!(registry.peers.owner(address), Some(*id));
        }
        for dial_id in &link.dials {
            let parts = [Side::Dialer, Side::Listener].map(|sender| {
                let dial_id = dial_id.as_str();
                registry.route(*id, StreamName { dial_id, sender })
            });
            assert!(parts.iter().all(Option::is_some), "{dial_id} of {id}");
        }
        assert!(link.offered.values().all(|id| link.dials.contains(id)));
        assert!(link.dialling <= link.dials.len());
    }
    let dialling: usize = registry.links.values().map(|link| link.dialling).sum();
    let offered: usize = registry.links.values().map(|link| link.offered.len()).sum();
    assert_eq!(dialling, offered);
    assert_eq!(registry.deadlines.len(), expected_deadlines);
    for dial_id in registry.dials.ids() {
        let links = registry.links.values();
        let knowing = links.filter(|link| link.dials.contains(&dial_id)).count();
        assert!((1..=2).contains(&knowing), "{dial_id}");
    }
    let joins: usize = registry.links.values().map(|link| link.joins.len()).sum();
    assert_eq!(registry.peer_count(), joins);
    assert_eq!(registry.turns.len(), joins);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_forgotten_and_nothing_is_left(ops in proptest::collection::vec(op(), 1..120)) {
        let mut now = Instant::now();
        let config = Config::default().with_challenge(false);
        let mut registry = Registry::new(&config, Commons::new(config.limits()));
        for op in &ops {
            apply(&mut registry, op, &mut now);
            check(&registry);
            while let Some(action) = registry.poll_action() {
                if let Action::Send { to, .. } | Action::Notify { to, .. } = action {
                    prop_assert!(registry.links.contains_key(&to));
                }
            }
        }
        for link in 0..4 {
            registry.handle_close(LinkId(link));
        }
        prop_assert_eq!(registry.link_count(), 0);
        prop_assert_eq!(registry.dial_count(), 0);
        prop_assert_eq!(registry.peer_count(), 0);
        now += Duration::from_secs(3600);
        registry.handle_timeout(now);
        prop_assert_eq!(registry.poll_timeout(), None);
    }
}
