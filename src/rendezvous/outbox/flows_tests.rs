use std::collections::HashMap;

use proptest::prelude::*;

use super::{super::parcel::OVERHEAD, *};
use crate::websocket::Message;

const LIMIT: usize = 1024 * 1024;

fn text(text: impl Into<String>) -> Message {
    Message::text(text.into())
}

/// An item that costs `cost` bytes.
fn item(cost: usize) -> Parcel {
    let data = vec![0; cost - 2 * OVERHEAD - 1];
    Parcel::Item(text("h"), Message::Binary(data.into()))
}

/// Takes the next `count` parcels and returns their costs.
fn pop(flows: &mut Flows, count: usize) -> Vec<usize> {
    let parcels = (0..count).map_while(|_| flows.pop(2, &mut Vec::new()));
    parcels.map(|parcel| parcel.cost()).collect()
}

#[test]
fn a_dial_that_sends_little_goes_before_those_that_send_much() {
    let mut flows = Flows::default();
    for n in 0..16 {
        for _ in 0..8 {
            flows.push(FlowId(n), item(130_000));
        }
    }
    pop(&mut flows, 20);
    flows.push(FlowId(16), item(300));
    assert_eq!(pop(&mut flows, 2), [300, 130_000]);
}

#[test]
fn a_dial_with_long_items_is_served_as_much_as_one_with_short_items() {
    let mut flows = Flows::default();
    for _ in 0..40 {
        flows.push(FlowId(0), item(100_000));
    }
    for _ in 0..4000 {
        flows.push(FlowId(1), item(1000));
    }
    let mut served = [0, 0];
    for cost in pop(&mut flows, 2000) {
        served[usize::from(cost == 1000)] += cost;
    }
    let [long, short] = served;
    assert!(long.abs_diff(short) <= 100_000 + QUANTUM, "{served:?}");
}

#[test]
fn what_is_long_does_not_go_first_because_its_dial_is_new() {
    let mut flows = Flows::default();
    for _ in 0..200 {
        flows.push(FlowId(0), item(10_000));
    }
    pop(&mut flows, 5);
    flows.push(FlowId(1), item(100_000));
    let before = pop(&mut flows, 100);
    let turn = before.iter().position(|cost| *cost == 100_000);
    // It saves up for six turns first.
    assert!(turn.is_some_and(|turn| turn >= 5), "{turn:?}");
}

#[test]
fn one_that_had_nothing_for_a_moment_is_not_new_again() {
    let mut flows = Flows::default();
    for _ in 0..10 {
        flows.push(FlowId(0), item(10_000));
    }
    pop(&mut flows, 3);
    flows.push(FlowId(1), item(300));
    assert_eq!(pop(&mut flows, 2), [300, 10_000]);
    // Its turn comes after that of the other dial.
    flows.push(FlowId(1), item(400));
    flows.push(FlowId(2), item(500));
    assert_eq!(pop(&mut flows, 1), [500]);
    assert_eq!(flows.by_id.len(), 3);
}

#[test]
fn accepts_go_before_the_items_of_their_dial_and_notices_behind() {
    let mut flows = Flows::default();
    assert!(
        flows
            .push_notice(FlowId(0), Parcel::Notice(text("")))
            .is_err()
    );
    flows.push(FlowId(0), item(300));
    assert!(
        flows
            .push_notice(FlowId(0), Parcel::Notice(text("end")))
            .is_ok()
    );
    flows.push(FlowId(0), item(400));
    flows.push(FlowId(0), Parcel::Accept(text("accept")));
    let (accept, end) = (6 + OVERHEAD, 3 + OVERHEAD);
    assert_eq!((flows.data(), flows.notices()), (700 + accept, end));
    assert_eq!(pop(&mut flows, 5), [accept, 300, end, 400]);
    assert!(flows.is_empty() && flows.by_id.is_empty());
}

#[test]
fn an_item_stays_where_it_is_while_there_is_one_slot() {
    let mut flows = Flows::default();
    flows.push(FlowId(0), item(300));
    assert!(flows.pop(1, &mut Vec::new()).is_none());
    assert_eq!(pop(&mut flows, 1), [300]);
}

#[test]
fn a_share_shrinks_with_the_dials_that_have_one() {
    let mut flows = Flows::default();
    let mut shares = Vec::new();
    for n in 0..8 {
        let id = FlowId(n);
        while flows.has_room(id, 1000, LIMIT, true) {
            flows.push(id, item(1000));
        }
        shares.push(flows.by_id.get(&id).map_or(0, |flow| flow.bytes));
    }
    assert!(shares[0] > LIMIT * 8 / 10 && shares[1] < LIMIT / 8);
    assert!(
        shares.iter().all(|share| *share + 1000 > QUANTUM),
        "{shares:?}"
    );
    // While more than the limit is queued, only small amounts fit.
    flows.push(FlowId(9), item(LIMIT / 2));
    assert!(!flows.has_room(FlowId(10), QUANTUM + 1, LIMIT, true));
    assert!(flows.has_room(FlowId(10), QUANTUM / 2, LIMIT, false));
    flows.push(FlowId(11), item(LIMIT / 2));
    assert!(!flows.has_room(FlowId(10), QUANTUM / 2, LIMIT, true));
}

#[test]
fn many_dials_with_little_keep_no_room_from_one_with_much() {
    let mut flows = Flows::default();
    let mut dials = 0;
    while flows.has_room(FlowId(dials), QUANTUM, LIMIT, false) {
        flows.push(FlowId(dials), item(QUANTUM));
        dials += 1;
    }
    assert!(flows.data() > 2 * LIMIT - QUANTUM, "{}", flows.data());
    let honest = FlowId(1_000_000);
    assert!(flows.takes_first(LIMIT));
    assert!(
        !flows.has_room(honest, 130_000, LIMIT, false),
        "this dial is not next"
    );
    assert!(flows.has_room(honest, 130_000, LIMIT, true));
    flows.push(honest, item(130_000));
    assert!(!flows.has_room(honest, 130_000, LIMIT, true));
    assert!(!flows.has_room(FlowId(1_000_001), 130_000, LIMIT, true));
    // It has its turn among the others.
    let before = pop(&mut flows, 10_000);
    assert!(before.contains(&130_000));
    assert_eq!((flows.beyond, flows.data()), (0, 0));
}

#[derive(Debug, Clone)]
enum Op {
    Push(u64, usize),
    Accept(u64),
    Notice(u64),
    Pop(usize),
    Remove(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let flow = 0_u64..5;
    prop_oneof![
        4 => (flow.clone(), 300_usize..60_000).prop_map(|(flow, cost)| Op::Push(flow, cost)),
        1 => flow.clone().prop_map(Op::Accept),
        1 => flow.clone().prop_map(Op::Notice),
        4 => (1_usize..3).prop_map(Op::Pop),
        1 => flow.prop_map(Op::Remove),
    ]
}

/// The number that was put into a parcel.
fn number(parcel: &Parcel) -> usize {
    let (Parcel::Item(message, _) | Parcel::Accept(message) | Parcel::Notice(message)) = parcel
    else {
        panic!("{parcel:?}");
    };
    let text = message.as_text().expect("text");
    text.parse().expect("a number")
}

proptest! {
    /// No parcel is lost or duplicated, each dial's order is kept, and the counts are right.
    #[test]
    fn each_dial_keeps_its_order(ops in proptest::collection::vec(op(), 1..200)) {
        let mut flows = Flows::default();
        let mut expected: HashMap<u64, [VecDeque<usize>; 2]> = HashMap::new();
        let mut dial_of = Vec::new();
        let check = |parcel: &Parcel, dial_of: &[u64], expected: &mut HashMap<u64, [VecDeque<usize>; 2]>| {
            let n = number(parcel);
            let [accepts, others] = expected.get_mut(&dial_of[n]).expect("a dial");
            if matches!(parcel, Parcel::Accept(_)) {
                assert_eq!(accepts.pop_front(), Some(n));
            } else {
                assert!(accepts.is_empty());
                assert_eq!(others.pop_front(), Some(n));
            }
        };
        for op in ops {
            let n = text(dial_of.len().to_string());
            match op {
                Op::Push(id, cost) => {
                    flows.push(FlowId(id), Parcel::Item(n, Message::Binary(vec![0; cost].into())));
                    expected.entry(id).or_default()[1].push_back(dial_of.len());
                    dial_of.push(id);
                }
                Op::Accept(id) => {
                    flows.push(FlowId(id), Parcel::Accept(n));
                    expected.entry(id).or_default()[0].push_back(dial_of.len());
                    dial_of.push(id);
                }
                Op::Notice(id) => {
                    let is_empty = expected.get(&id).is_none_or(|all| all.iter().all(VecDeque::is_empty));
                    let put = flows.push_notice(FlowId(id), Parcel::Notice(n));
                    prop_assert_eq!(put.is_err(), is_empty);
                    if !is_empty {
                        expected.entry(id).or_default()[1].push_back(dial_of.len());
                        dial_of.push(id);
                    }
                }
                Op::Pop(slots) => match flows.pop(slots, &mut Vec::new()) {
                    Some(parcel) => check(&parcel, &dial_of, &mut expected),
                    None => prop_assert!(slots < 2 || flows.is_empty()),
                },
                Op::Remove(id) => {
                    let removed = flows.remove(FlowId(id), &mut Vec::new());
                    let gone = expected.remove(&id).unwrap_or_default();
                    prop_assert_eq!(removed.len(), gone.iter().map(VecDeque::len).sum::<usize>());
                }
            }
        }
        while let Some(parcel) = flows.pop(2, &mut Vec::new()) {
            check(&parcel, &dial_of, &mut expected);
        }
        prop_assert!(expected.values().flatten().all(VecDeque::is_empty));
        prop_assert_eq!((flows.len, flows.data, flows.notices), (0, 0, 0));
        prop_assert!(flows.by_id.is_empty() && flows.new.is_empty() && flows.old.is_empty());
    }
}
