//! One pull-stream pair: the two streams of a dial, as one of its peers sees them.
//!
//! The [`Source`] holds what came and was not read yet, the [`Sink`] what was written and not sent
//! yet; both within a budget of bytes. The protocol has no flow control of its own: when a source is
//! full, its owner must stop reading the link.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::{engine_io::BINARY_MESSAGE, event::End};
pub use crate::buffer::Buffer;
use crate::words::Words;

/// What an item costs beside its bytes: its slot, and its header, which shares the buffer.
const ITEM_OVERHEAD: usize = 128;
/// The smallest buffer that a new item starts with.
const MIN_ITEM_BUFFER: usize = 256;
/// The reason that the other side is given when a connection is dropped.
pub const DROPPED: &str = "connection dropped";

/// Why a stream ended other than by its sender's will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The other peer gave up, with this reason.
    #[error("the other peer reset the connection: {}", Words(.0))]
    ResetByPeer(String),
    /// The link to the rendezvous was lost.
    #[error("the link to the rendezvous was lost")]
    LinkLost,
    /// What came was not read for the stall timeout, and held up the whole link.
    #[error("the connection was not read for the stall timeout while others waited behind it")]
    ReaderStalled,
    /// The other peer did not accept the stream, and so nothing could be sent, for the stall timeout.
    #[error("the other peer did not accept the stream within the stall timeout")]
    NotAccepted,
    /// The other peer dropped its connection: nobody reads what is written.
    #[error("the other peer stopped reading")]
    Stopped,
    /// The other peer sent what is no item.
    #[error("the other peer sent a malformed item")]
    MalformedItem,
}

/// Budgets of one pair, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budgets {
    /// What a source holds at most; an item that comes to an empty source is always taken.
    pub receive: usize,
    /// What a sink holds at most.
    pub send: usize,
    /// The data of one item at most.
    pub item: usize,
}

/// What reading gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Data(usize),
    /// Nothing yet.
    Pending,
    /// The other peer ended its direction.
    End,
    /// The stream was cut.
    Reset(StreamError),
}

/// The receiving half.
#[derive(Debug)]
pub struct Source {
    items: VecDeque<Bytes>,
    cost: usize,
    budget: usize,
    state: SourceState,
}

#[derive(Debug)]
enum SourceState {
    Open,
    Ended,
    Reset(StreamError),
    /// The reader is gone: what comes is thrown away.
    Dropped,
}

impl Source {
    fn new(budget: usize) -> Self {
        Self {
            items: VecDeque::new(),
            cost: 0,
            budget,
            state: SourceState::Open,
        }
    }

    /// Takes an item in.
    ///
    /// # Errors
    /// The item itself, if there is no room for it now.
    pub fn push(&mut self, item: Bytes) -> Result<(), Bytes> {
        if item.is_empty() || !matches!(self.state, SourceState::Open) {
            return Ok(());
        }
        let cost = item.len() + ITEM_OVERHEAD;
        if !self.items.is_empty() && self.cost + cost > self.budget {
            return Err(item);
        }
        self.cost += cost;
        self.items.push_back(item);
        Ok(())
    }

    /// Copies what is there into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        let mut copied = 0;
        while let Some(item) = self.items.front_mut() {
            let n = item.len().min(buffer.len() - copied);
            buffer[copied..copied + n].copy_from_slice(&item[..n]);
            item.advance(n);
            copied += n;
            self.cost = self.cost.saturating_sub(n);
            if !item.is_empty() {
                break;
            }
            self.cost = self.cost.saturating_sub(ITEM_OVERHEAD);
            self.items.pop_front();
        }
        match &self.state {
            _ if copied > 0 || buffer.is_empty() => Read::Data(copied),
            SourceState::Open => Read::Pending,
            SourceState::Ended | SourceState::Dropped => Read::End,
            SourceState::Reset(error) => Read::Reset(error.clone()),
        }
    }

    /// What is held, in bytes of the budget.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether nothing more will come.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SourceState::Ended | SourceState::Reset(_))
    }

    fn end(&mut self, state: SourceState) {
        if matches!(self.state, SourceState::Open) || matches!(state, SourceState::Dropped) {
            self.state = state;
        }
    }
}

/// What a sink gives to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A binary frame, its 0x04 included; the stream's queue header goes before it.
    Item(Buffer),
    /// The end of our direction.
    End(End),
    /// A request to the other peer to stop sending: the `error` event of *its* stream. The deployed
    /// software ignores it; a rendezvous that relays verbatim carries it to peers that know it.
    Stop,
}

/// The sending half.
#[derive(Debug)]
pub struct Sink {
    /// Full items, ready to go.
    full: VecDeque<Buffer>,
    /// The item that is being written; 0x04 first.
    open: Buffer,
    /// Whether `open` may go although it is not full.
    flushed: bool,
    /// The data in `full` and `open`.
    held: usize,
    accepted: bool,
    state: SinkState,
    budgets: Budgets,
}

#[derive(Debug)]
enum SinkState {
    Open,
    /// To be ended when all that is held is sent.
    Ending,
    Ended,
    /// To be ended with this reason, because of that error; the writer is told at once.
    Aborting(String, StreamError),
    Failed(StreamError),
}

impl Sink {
    fn new(budgets: Budgets) -> Self {
        Self {
            full: VecDeque::new(),
            open: Buffer::default(),
            flushed: false,
            held: 0,
            accepted: false,
            state: SinkState::Open,
            budgets,
        }
    }

    /// Takes as much of `data` as there is room for; 0 if there is none.
    ///
    /// # Errors
    /// Why nothing can be written any more; `None` if we ended the stream ourselves.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, Option<StreamError>> {
        match &self.state {
            SinkState::Open => {}
            SinkState::Failed(error) | SinkState::Aborting(_, error) => {
                return Err(Some(error.clone()));
            }
            SinkState::Ending | SinkState::Ended => return Err(None),
        }
        let taken = data.len().min(self.budgets.send.saturating_sub(self.held));
        let mut rest = &data[..taken];
        while !rest.is_empty() {
            let n = rest.len().min(self.room_in_item(rest.len()));
            self.open.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if self.open.len() > self.budgets.item {
                self.seal();
            }
        }
        self.held += taken;
        Ok(taken)
    }

    /// Makes the item that is being written a full one.
    fn seal(&mut self) {
        self.flushed = false;
        self.full.push_back(std::mem::take(&mut self.open));
    }

    fn room_in_item(&mut self, wanted: usize) -> usize {
        let item = self.budgets.item;
        if self.open.is_empty() {
            // A bulk writer will fill the item: growing the buffer would copy it.
            let size = if wanted >= item / 4 {
                item
            } else {
                wanted.max(MIN_ITEM_BUFFER.min(item))
            };
            self.open = Buffer::with_capacity(size + 1);
            self.open.extend_from_slice(&[BINARY_MESSAGE]);
        }
        item + 1 - self.open.len()
    }

    /// Lets all that was written go, full item or not.
    pub fn flush(&mut self) {
        self.flushed = !self.open.is_empty();
    }

    /// Ends our direction once all that was written is sent.
    pub fn close(&mut self) {
        if matches!(self.state, SinkState::Open) {
            self.flush();
            self.state = SinkState::Ending;
        }
    }

    /// Whether there is something to send.
    pub fn is_ready(&self) -> bool {
        let has_item = !self.full.is_empty() || self.flushed;
        match self.state {
            SinkState::Open => self.accepted && has_item,
            SinkState::Ending => self.accepted,
            // Without a receiver, only what was already handed over is worth waiting for.
            SinkState::Aborting(..) => self.accepted || self.held == 0,
            SinkState::Ended | SinkState::Failed(_) => false,
        }
    }

    /// Whether something waits for the other peer to accept the stream.
    pub fn is_waiting_for_accept(&self) -> bool {
        let waits = match self.state {
            SinkState::Open | SinkState::Aborting(..) => self.held > 0,
            SinkState::Ending => true,
            SinkState::Ended | SinkState::Failed(_) => false,
        };
        waits && !self.accepted
    }

    /// Whether nothing more will be sent.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SinkState::Ended | SinkState::Failed(_))
    }

    /// Why nothing more can be written, if not by our own close.
    pub fn error(&self) -> Option<&StreamError> {
        match &self.state {
            SinkState::Failed(error) | SinkState::Aborting(_, error) => Some(error),
            _ => None,
        }
    }

    /// What is held, in bytes of the budget.
    pub fn held(&self) -> usize {
        self.held
    }

    fn take(&mut self) -> Option<Transmit> {
        if !self.is_ready() {
            return None;
        }
        if self.accepted {
            if self.full.is_empty() && self.flushed {
                self.seal();
            }
            if let Some(item) = self.full.pop_front() {
                self.held = self.held.saturating_sub(item.len() - 1);
                return Some(Transmit::Item(item));
            }
        }
        match std::mem::replace(&mut self.state, SinkState::Ended) {
            SinkState::Ending => {
                self.discard();
                Some(Transmit::End(End::Finished))
            }
            SinkState::Aborting(reason, error) => {
                self.fail_with(error);
                Some(Transmit::End(End::Error(reason)))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    fn fail(&mut self, error: StreamError) {
        if !self.is_over() {
            self.fail_with(self.error().cloned().unwrap_or(error));
        }
    }

    fn fail_with(&mut self, error: StreamError) {
        self.state = SinkState::Failed(error);
        self.discard();
    }

    /// Ends our direction with an error, after what was flushed; not if it is ending already.
    fn abort(&mut self, error: StreamError, reason: &str) {
        if matches!(self.state, SinkState::Open) {
            if self.flushed {
                self.seal();
            }
            let unflushed = std::mem::take(&mut self.open);
            self.held -= unflushed.len().saturating_sub(1);
            self.state = SinkState::Aborting(reason.to_owned(), error);
        }
    }

    fn discard(&mut self) {
        self.full.clear();
        self.open = Buffer::default();
        self.flushed = false;
        self.held = 0;
    }
}

/// Both halves of one dial.
#[derive(Debug)]
pub struct Pair {
    /// What the other peer sends.
    pub source: Source,
    /// What we send.
    pub sink: Sink,
    /// Whether the other peer is to be told that nobody reads any more.
    stop: bool,
}

impl Pair {
    /// A new pair; nothing may be sent until the other peer accepts.
    pub fn new(budgets: Budgets) -> Self {
        Self {
            source: Source::new(budgets.receive),
            sink: Sink::new(budgets),
            stop: false,
        }
    }

    /// The other peer takes our stream.
    pub fn accepted(&mut self) {
        self.sink.accepted = true;
    }

    /// The other peer ended its stream. An error resets both directions, after what came before it.
    pub fn ended(&mut self, end: End) {
        match end {
            End::Finished => self.source.end(SourceState::Ended),
            End::Error(reason) => self.reset(StreamError::ResetByPeer(reason)),
        }
    }

    /// The other peer asks us to stop sending.
    pub fn stopped(&mut self) {
        self.sink.fail(StreamError::Stopped);
    }

    /// Cuts both directions without telling the other peer.
    pub fn reset(&mut self, error: StreamError) {
        self.source.end(SourceState::Reset(error.clone()));
        self.sink.fail(error);
    }

    /// Cuts both directions; the other peer is told `reason`. What it did not accept is not sent.
    pub fn abort(&mut self, error: StreamError, reason: &str) {
        self.stop |= !self.source.is_over();
        self.source.items.clear();
        self.source.cost = 0;
        self.source.end(SourceState::Reset(error.clone()));
        self.sink.abort(error.clone(), reason);
        if !self.sink.accepted && !self.sink.is_over() {
            self.sink.discard();
            self.sink.state = SinkState::Aborting(reason.to_owned(), error);
        }
    }

    /// Ends both directions because the connection is dropped. What was flushed is still sent, and a
    /// direction that was closed still ends properly.
    pub fn dropped(&mut self) {
        self.stop |= !self.source.is_over();
        self.source.items.clear();
        self.source.cost = 0;
        self.source.end(SourceState::Dropped);
        // Nobody is left to be told the error.
        self.sink.abort(StreamError::Stopped, DROPPED);
    }

    /// Whether there is something to send.
    pub fn is_ready(&self) -> bool {
        self.sink.is_ready() || self.wants_stop()
    }

    /// The next thing to send. Data goes before the end, and the end before a stop.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(transmit) = self.sink.take() {
            return Some(transmit);
        }
        self.wants_stop().then(|| {
            self.stop = false;
            Transmit::Stop
        })
    }

    fn wants_stop(&self) -> bool {
        self.stop && self.sink.is_over()
    }

    /// Whether nothing more will come or go: the pair can be forgotten.
    pub fn is_over(&self) -> bool {
        let source_over =
            self.source.is_over() || matches!(self.source.state, SourceState::Dropped);
        source_over && self.sink.is_over() && !self.stop
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
}
