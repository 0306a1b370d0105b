use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::{
    credit::{Allowance, FIRST},
    engine_io::BINARY_MESSAGE,
};

const BUDGETS: Budgets = Budgets {
    receive: 1000,
    send: 600,
    item: 100,
};

fn open_pair() -> Pair {
    let mut pair = Pair::new(BUDGETS);
    pair.accepted();
    pair
}

fn item(data: &[u8]) -> Transmit {
    let mut frame = vec![BINARY_MESSAGE];
    frame.extend_from_slice(data);
    Transmit::Item(frame[..].into())
}

#[test]
fn nothing_is_sent_before_the_other_peer_accepts() {
    let mut pair = Pair::new(BUDGETS);
    assert_eq!(pair.sink.write(b"early"), Ok(5));
    pair.sink.close();
    assert_eq!(pair.poll_transmit(), None);
    assert!(pair.sink.is_waiting_for_accept());
    pair.accepted();
    assert_eq!(pair.poll_transmit(), Some(item(b"early")));
    assert_eq!(pair.poll_transmit(), Some(Transmit::End(End::Finished)));
    assert_eq!(pair.poll_transmit(), None);
}

#[test]
fn small_writes_become_one_item_at_the_flush() {
    let mut pair = open_pair();
    for _ in 0..10 {
        assert_eq!(pair.sink.write(b"abc"), Ok(3));
    }
    assert!(!pair.is_ready());
    pair.sink.flush();
    assert_eq!(pair.poll_transmit(), Some(item(&b"abc".repeat(10))));
    assert!(!pair.is_ready());
}

#[test]
fn a_full_item_goes_without_a_flush() {
    let mut pair = open_pair();
    assert_eq!(pair.sink.write(&[7; 250]), Ok(250));
    assert_eq!(pair.poll_transmit(), Some(item(&[7; 100])));
    assert_eq!(pair.poll_transmit(), Some(item(&[7; 100])));
    assert_eq!(pair.poll_transmit(), None);
    pair.sink.flush();
    assert_eq!(pair.poll_transmit(), Some(item(&[7; 50])));
}

#[test]
fn a_sink_takes_no_more_than_its_budget() {
    let mut pair = open_pair();
    assert_eq!(pair.sink.write(&[0; 1000]), Ok(600));
    assert_eq!(pair.sink.write(&[0; 1]), Ok(0));
    pair.poll_transmit();
    assert_eq!(pair.sink.write(&[0; 1000]), Ok(100));
}

#[test]
fn each_direction_ends_by_itself() {
    let mut pair = open_pair();
    pair.sink.close();
    assert_eq!(pair.poll_transmit(), Some(Transmit::End(End::Finished)));
    assert_eq!(pair.sink.write(b"late"), Err(None));
    assert!(!pair.is_over());
    assert_eq!(pair.source.push(Bytes::from_static(b"more")), Ok(()));
    pair.ended(End::Finished);
    assert!(pair.is_over());
    let mut buffer = [0; 9];
    assert_eq!(pair.source.read(&mut buffer), Read::Data(4));
    assert_eq!(pair.source.read(&mut buffer), Read::End);
}

#[test]
fn an_empty_item_is_not_an_end_and_costs_nothing() {
    let mut pair = open_pair();
    for _ in 0..1000 {
        assert_eq!(pair.source.push(Bytes::new()), Ok(()));
    }
    assert_eq!(pair.source.cost(), 0);
    assert_eq!(pair.source.read(&mut [0; 1]), Read::Pending);
}

#[test]
fn an_error_comes_after_the_data_before_it_and_stops_the_writer() {
    let mut pair = open_pair();
    assert_eq!(pair.source.push(Bytes::from_static(b"data")), Ok(()));
    pair.ended(End::Error("gone".to_owned()));
    let mut buffer = [0; 9];
    let reset = StreamError::ResetByPeer("gone".to_owned());
    assert_eq!(pair.source.read(&mut buffer), Read::Data(4));
    assert_eq!(pair.source.read(&mut buffer), Read::Reset(reset.clone()));
    assert_eq!(pair.sink.write(b"a"), Err(Some(reset)));
}

#[test]
fn dropping_sends_what_was_flushed_then_the_error_then_the_stop() {
    let mut pair = open_pair();
    pair.sink.write(b"flushed").expect("room");
    pair.sink.flush();
    let flushed = pair.poll_transmit();
    pair.sink.write(&[1; 100]).expect("room");
    pair.sink.write(b"flushed too").expect("room");
    pair.sink.flush();
    pair.dropped();
    assert_eq!(flushed, Some(item(b"flushed")));
    assert_eq!(pair.poll_transmit(), Some(item(&[1; 100])));
    assert_eq!(pair.poll_transmit(), Some(item(b"flushed too")));
    assert_eq!(
        pair.poll_transmit(),
        Some(Transmit::End(End::Error(DROPPED.to_owned())))
    );
    assert_eq!(pair.poll_transmit(), Some(Transmit::Stop));
    assert!(pair.is_over());
}

#[test]
fn dropping_forgets_what_was_not_flushed() {
    let mut pair = open_pair();
    pair.sink.write(b"not flushed").expect("room");
    pair.dropped();
    assert_eq!(
        pair.poll_transmit(),
        Some(Transmit::End(End::Error(DROPPED.to_owned())))
    );
}

#[test]
fn dropping_after_the_close_keeps_the_proper_end() {
    let mut pair = open_pair();
    pair.sink.write(b"last").expect("room");
    pair.sink.close();
    pair.dropped();
    assert_eq!(pair.poll_transmit(), Some(item(b"last")));
    assert_eq!(pair.poll_transmit(), Some(Transmit::End(End::Finished)));
    assert_eq!(pair.poll_transmit(), Some(Transmit::Stop));
    assert!(pair.is_over());
}

#[test]
fn dropping_after_both_ends_sends_nothing() {
    let mut pair = open_pair();
    pair.sink.close();
    pair.poll_transmit();
    pair.ended(End::Finished);
    pair.dropped();
    assert_eq!(pair.poll_transmit(), None);
    assert!(pair.is_over());
}

#[test]
fn what_was_flushed_before_a_drop_waits_for_the_other_peer_to_accept() {
    let mut pair = Pair::new(BUDGETS);
    pair.sink.write(b"early").expect("room");
    pair.sink.flush();
    pair.sink.write(&[0; 20]).expect("room");
    pair.dropped();
    assert_eq!(pair.poll_transmit(), None);
    assert!(pair.sink.is_waiting_for_accept());
    pair.accepted();
    assert!(matches!(pair.poll_transmit(), Some(Transmit::Item(_))));
    assert_eq!(
        pair.poll_transmit(),
        Some(Transmit::End(End::Error(DROPPED.to_owned())))
    );

    let mut unaccepted = Pair::new(BUDGETS);
    unaccepted.sink.write(b"early").expect("room");
    unaccepted.sink.flush();
    unaccepted.dropped();
    unaccepted.abort(StreamError::NotAccepted, "not accepted");
    assert_eq!(
        unaccepted.poll_transmit(),
        Some(Transmit::End(End::Error("not accepted".to_owned())))
    );
    assert_eq!(unaccepted.poll_transmit(), Some(Transmit::Stop));
    assert!(unaccepted.is_over());
}

#[test]
fn a_pair_that_was_never_accepted_can_be_dropped_at_once() {
    let mut pair = Pair::new(BUDGETS);
    pair.sink.write(b"never").expect("room");
    pair.dropped();
    assert_eq!(
        pair.poll_transmit(),
        Some(Transmit::End(End::Error(DROPPED.to_owned())))
    );
    assert_eq!(pair.poll_transmit(), Some(Transmit::Stop));
    assert!(pair.is_over());
}

#[test]
fn a_writer_is_told_why_its_stream_was_given_up() {
    let mut pair = open_pair();
    pair.sink.write(b"flushed").expect("room");
    pair.sink.flush();
    pair.abort(StreamError::ReaderStalled, "stalled");
    let stalled = || Some(StreamError::ReaderStalled);
    assert_eq!(pair.sink.write(b"late"), Err(stalled()));
    assert_eq!(pair.sink.error().cloned(), stalled());
    assert_eq!(pair.poll_transmit(), Some(item(b"flushed")));
    let end = Transmit::End(End::Error("stalled".to_owned()));
    assert_eq!(pair.poll_transmit(), Some(end));
    assert_eq!(pair.poll_transmit(), Some(Transmit::Stop));
    pair.reset(StreamError::LinkLost);
    assert_eq!(pair.sink.write(b"late"), Err(stalled()));
    assert!(pair.is_over());
}

#[test]
fn a_close_that_nobody_accepts_can_be_given_up() {
    let mut pair = Pair::new(BUDGETS);
    pair.sink.write(b"never").expect("room");
    pair.sink.close();
    pair.abort(StreamError::NotAccepted, "not accepted");
    assert!(!pair.sink.is_waiting_for_accept());
    assert_eq!(pair.sink.error(), Some(&StreamError::NotAccepted));
    let end = Transmit::End(End::Error("not accepted".to_owned()));
    assert_eq!(pair.poll_transmit(), Some(end));
    assert_eq!(pair.poll_transmit(), Some(Transmit::Stop));
    assert!(pair.is_over());
}

#[test]
fn a_close_that_is_accepted_keeps_its_proper_end() {
    let mut pair = open_pair();
    pair.sink.write(b"last").expect("room");
    pair.sink.close();
    pair.abort(StreamError::ReaderStalled, "stalled");
    assert_eq!(pair.poll_transmit(), Some(item(b"last")));
    assert_eq!(pair.poll_transmit(), Some(Transmit::End(End::Finished)));
}

/// Budgets under which only the credits limit the peers.
const LARGE: Budgets = Budgets {
    receive: 1000,
    send: 1 << 20,
    item: 64 * 1024,
};

fn grant_of(credit: u64) -> Grant {
    Grant {
        credit,
        returned: 0,
    }
}

fn items(pair: &mut Pair) -> Vec<usize> {
    let item = |pair: &mut Pair| match pair.poll_transmit()? {
        Transmit::Item(item) => Some(item.len() - 1),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| item(pair)).collect()
}

#[test]
fn a_writer_gets_no_further_than_the_credit_and_goes_on_with_the_next() {
    let first = usize::try_from(FIRST).expect("small");
    let mut pair = Pair::new(LARGE);
    // Before the stream is accepted, the first credit may be used.
    assert_eq!(pair.sink.write(&[0; 100_000]), Ok(first - ITEM_OVERHEAD));
    assert_eq!(pair.sink.write(&[0; 100_000]), Ok(0));
    pair.granted(grant_of(FIRST));
    pair.sink.flush();
    assert_eq!(items(&mut pair), [first - ITEM_OVERHEAD]);
    assert_eq!(pair.sink.write(&[0; 100_000]), Ok(0));
    pair.granted(grant_of(2047));
    assert_eq!(
        pair.sink.write(&[0; 100_000]),
        Ok(0),
        "too little to begin with"
    );
    pair.granted(grant_of(1));
    assert_eq!(pair.sink.write(&[0; 100_000]), Ok(2048 - ITEM_OVERHEAD));
    pair.sink.flush();
    assert_eq!(items(&mut pair), [2048 - ITEM_OVERHEAD]);
    pair.granted(grant_of(12_128));
    assert_eq!(pair.sink.write(&[0; 100_000]), Ok(12_000));
    pair.sink.close();
    assert_eq!(pair.poll_transmit().map(|_| ()), Some(()));
    assert_eq!(pair.poll_transmit(), Some(Transmit::End(End::Finished)));
}

#[test]
fn the_first_accept_decides_whether_a_stream_is_limited() {
    let mut pair = Pair::new(LARGE);
    pair.accepted();
    assert_eq!(pair.sink.write(&[0; 500_000]), Ok(500_000));
    pair.granted(grant_of(1));
    assert_eq!(pair.sink.write(&[0; 500_000]), Ok(500_000));

    let mut pair = Pair::new(LARGE);
    pair.granted(grant_of(200_000));
    pair.accepted();
    let written = pair.sink.write(&[0; 500_000]);
    assert_eq!(written, Ok(200_000 - 4 * ITEM_OVERHEAD));
}

#[test]
fn a_peer_that_knows_credits_is_not_bound_by_the_budget_but_by_them() {
    let (mut pair, now) = (Pair::new(LARGE), Instant::now());
    let item = Bytes::from_static(&[0; 5000]);
    assert_eq!(pair.source.receive(now, item.clone()), Ok(()));
    let full = pair.source.receive(now, item.clone());
    assert_eq!(full, Err(Refused::Full(item.clone())));
    pair.granted(grant_of(FIRST));
    assert_eq!(pair.source.push(item.clone()), Ok(()));
    assert_eq!(pair.source.receive(now, item.clone()), Ok(()));
    let exceeded = pair.source.receive(now, item);
    assert_eq!(exceeded, Err(Refused::CreditExceeded));
}

#[test]
fn what_is_written_and_not_flushed_keeps_no_credit() {
    let mut pair = Pair::new(LARGE);
    pair.granted(grant_of(100_000));
    assert_eq!(pair.sink.write(&[1; 100]), Ok(100));
    assert_eq!(pair.give_back(), None);
    assert!(!pair.is_ready());
    let left = 100_000 - 100 - ITEM_OVERHEAD as u64;
    assert_eq!(pair.give_back(), Some(left - FIRST));
    assert_eq!(items(&mut pair), [100]);
    // Data that waits for the link does not mean that the stream is idle.
    pair.granted(grant_of(1_000_000));
    let full = pair.sink.write(&[1; 500_000]).expect("open");
    assert!(full > LARGE.item);
    for _ in 0..3 {
        assert_eq!(pair.give_back(), None);
    }
}

#[test]
fn nothing_is_granted_on_a_stream_that_is_over_and_the_other_gives_back_all_the_same() {
    let (mut pair, now) = (Pair::new(LARGE), Instant::now());
    pair.granted(grant_of(100_000));
    pair.give_back();
    assert_eq!(pair.give_back(), Some(100_000 - FIRST));
    pair.granted(grant_of(100_000));
    let item = Bytes::from_static(&[0; 10_000]);
    assert_eq!(pair.source.receive(now, item), Ok(()));
    pair.ended(End::Finished);
    assert_eq!(pair.source.read(&mut [0; 10_000]), Read::Data(10_000));
    assert!(!pair.source.is_grant_due());
    assert_eq!(pair.source.poll_grant(now, Allowance::up_to(1 << 20)), None);
    assert_eq!((pair.source.pledged(), pair.source.kept()), (0, None));
    assert_eq!(pair.give_back(), Some(100_000));
    pair.reset(StreamError::LinkLost);
    pair.granted(grant_of(100_000));
    assert_eq!(pair.give_back(), None);
}

/// Two peers that know credits, and everything in flight between them.
struct Peers {
    now: Instant,
    pairs: [Pair; 2],
    wires: [VecDeque<Wire>; 2],
    written: [usize; 2],
    read: [usize; 2],
    cut: bool,
}

enum Wire {
    Transmit(Transmit),
    Accept(Grant),
}

fn byte_at(offset: usize) -> u8 {
    (offset * 7 + offset / 256) as u8
}

impl Peers {
    fn new() -> Self {
        let accept = || VecDeque::from([Wire::Accept(Grant::FIRST)]);
        Self {
            now: Instant::now(),
            pairs: [Pair::new(LARGE), Pair::new(LARGE)],
            wires: [accept(), accept()],
            written: [0; 2],
            read: [0; 2],
            cut: false,
        }
    }

    fn step(&mut self, side: usize, step: u8, amount: usize) {
        self.now += Duration::from_micros(amount as u64);
        match step {
            0..=2 => self.write(side, amount * 4, step > 0),
            3..=5 => self.transmit(side),
            6..=9 => self.deliver(side),
            10..=12 => self.receive(side, amount),
            13..=15 => self.grant(side, amount as u64 * 16),
            16 => {
                let returned = self.pairs[side].give_back();
                let grant = returned.map(|returned| Grant {
                    credit: 0,
                    returned,
                });
                self.wires[side].extend(grant.map(Wire::Accept));
            }
            17 if amount.is_multiple_of(16) => self.pairs[side].sink.close(),
            18 if amount.is_multiple_of(64) => {
                self.pairs[side].dropped();
                self.cut = true;
            }
            19 if amount.is_multiple_of(64) => {
                self.pairs[side].abort(StreamError::ReaderStalled, "stalled");
                self.cut = true;
            }
            _ => {}
        }
    }

    fn write(&mut self, side: usize, len: usize, flush: bool) {
        let from = self.written[side];
        let data: Vec<u8> = (from..from + len).map(byte_at).collect();
        if let Ok(written) = self.pairs[side].sink.write(&data) {
            self.written[side] += written;
        }
        if flush {
            self.pairs[side].sink.flush();
        }
    }

    fn transmit(&mut self, side: usize) {
        let transmit = self.pairs[side].poll_transmit();
        self.wires[side].extend(transmit.map(Wire::Transmit));
    }

    /// Delivers the first thing that `side` sent.
    fn deliver(&mut self, side: usize) {
        let to = &mut self.pairs[1 - side];
        match self.wires[side].pop_front() {
            None => {}
            Some(Wire::Accept(grant)) => to.granted(grant),
            Some(Wire::Transmit(Transmit::End(end))) => to.ended(end),
            Some(Wire::Transmit(Transmit::Stop)) => to.stopped(),
            Some(Wire::Transmit(Transmit::Item(item))) => {
                let item = item.freeze().slice(1..);
                assert_eq!(to.source.receive(self.now, item), Ok(()));
            }
        }
    }

    fn receive(&mut self, side: usize, len: usize) {
        let mut data = vec![0; len];
        if let Read::Data(n) = self.pairs[side].source.read(&mut data) {
            let from = self.read[side];
            let expected: Vec<u8> = (from..from + n).map(byte_at).collect();
            assert!(data[..n] == expected, "wrong bytes after {from}");
            self.read[side] += n;
        }
    }

    fn grant(&mut self, side: usize, ceiling: u64) {
        let allowance = Allowance::up_to(ceiling);
        let grant = self.pairs[side].source.poll_grant(self.now, allowance);
        self.wires[side].extend(grant.map(|credit| Wire::Accept(grant_of(credit))));
    }

    /// Runs until everything that can happen without further writes has happened.
    fn settle(&mut self) {
        for _ in 0..1000 {
            for side in 0..2 {
                self.transmit(side);
                self.deliver(side);
                self.receive(side, 100_000);
                self.grant(side, 1 << 20);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the peers do and in whatever order, no peer exceeds a credit, and bytes arrive in order. All bytes
    /// arrive unless a side gave up.
    #[test]
    fn credits_lose_and_reorder_nothing(
        steps in proptest::collection::vec((0usize..2, 0u8..20, 1usize..8000), 1..600),
    ) {
        let mut peers = Peers::new();
        for (side, step, amount) in steps {
            peers.step(side, step, amount);
        }
        for side in 0..2 {
            peers.pairs[side].sink.close();
        }
        peers.settle();
        if !peers.cut {
            prop_assert_eq!(peers.written[0], peers.read[1]);
            prop_assert_eq!(peers.written[1], peers.read[0]);
            for pair in &peers.pairs {
                prop_assert!(pair.is_over());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_arrive_in_order_whatever_the_sizes(
        writes in proptest::collection::vec((1usize..300, any::<bool>()), 1..40),
        reads in proptest::collection::vec(1usize..400, 1..20),
    ) {
        let (mut sender, mut receiver) = (open_pair(), open_pair());
        let mut reads = reads.into_iter().cycle();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        let mut parked = None;
        let mut pump = |sender: &mut Pair, receiver: &mut Pair, received: &mut Vec<u8>| {
            loop {
                let next = parked.take().or_else(|| match sender.poll_transmit()? {
                    Transmit::Item(item) => Some(item.freeze().slice(1..)),
                    Transmit::End(end) => {
                        receiver.ended(end);
                        None
                    }
                    Transmit::Stop => None,
                });
                let Some(item) = next else { break };
                assert!(receiver.source.cost() <= BUDGETS.receive);
                if let Err(item) = receiver.source.push(item) {
                    parked = Some(item);
                    let mut buffer = vec![0; reads.next().expect("endless")];
                    if let Read::Data(n) = receiver.source.read(&mut buffer) {
                        received.extend_from_slice(&buffer[..n]);
                    }
                }
            }
        };
        for (i, (size, flush)) in writes.into_iter().enumerate() {
            let data = vec![u8::try_from(i).expect("small"); size];
            let mut rest = &data[..];
            while !rest.is_empty() {
                let n = sender.sink.write(rest).expect("open");
                rest = &rest[n..];
                pump(&mut sender, &mut receiver, &mut received);
            }
            sent.extend(data);
            if flush {
                sender.sink.flush();
            }
        }
        sender.sink.close();
        pump(&mut sender, &mut receiver, &mut received);
        let mut buffer = [0; 64];
        loop {
            match receiver.source.read(&mut buffer) {
                Read::Data(n) => received.extend_from_slice(&buffer[..n]),
                Read::End => break,
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(sent, received);
        prop_assert_eq!(receiver.source.cost(), 0);
    }
}
