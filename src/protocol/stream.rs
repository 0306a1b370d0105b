//! One pull-stream pair: the two streams of a dial, as one of its peers sees them.
//!
//! The [`Source`] holds what came and was not read yet, the [`Sink`] what was written and not sent
//! yet; both within a budget of bytes. What another peer that knows [credits](super::credit) sends is bounded by them.
//! The protocol has no flow control of its own: when the source of what another peer sends is full, its owner must stop
//! reading the link.

mod sink;

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use web_time::Instant;

pub use self::sink::Sink;
use self::sink::SinkState;
use super::{
    credit::{Allowance, Grant, ITEM_COST, Window},
    event::End,
};
pub use crate::buffer::Buffer;
use crate::words::Words;

/// What an item costs beside its bytes: its slot, and its header, which shares the buffer.
const ITEM_OVERHEAD: usize = ITEM_COST as usize;
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
    /// What came was not read in time, and held up the whole link.
    #[error("the connection was not read in time while others waited behind it")]
    ReaderStalled,
    /// The other peer did not accept the stream, and so nothing could be sent, for the stall timeout.
    #[error("the other peer did not accept the stream within the stall timeout")]
    NotAccepted,
    /// The other peer dropped its connection: nobody reads what is written.
    #[error("the other peer stopped reading")]
    Stopped,
    /// The other peer, which knows credits, sent more than it was granted.
    #[error("the other peer sent more than it was granted")]
    CreditExceeded,
    /// The other peer, which knows credits, has kept some for two minutes without a use for them.
    #[error("the other peer kept credit that it does not use")]
    CreditKept,
    /// The other peer sent what is no item.
    #[error("the other peer sent a malformed item")]
    MalformedItem,
}

/// Budgets of one pair, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budgets {
    /// What a source holds at most of a peer that knows no credits; an item that comes to an empty source is always taken.
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
    window: Window,
    state: SourceState,
}

/// Why an item is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no room for it now.
    Full(Bytes),
    /// The other peer had not the credit to send it.
    CreditExceeded,
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
            window: Window::default(),
            state: SourceState::Open,
        }
    }

    /// Takes in an item that has come.
    ///
    /// # Errors
    /// [`Refused::Full`] if it is to be [pushed](Self::push) later.
    pub fn receive(&mut self, now: Instant, item: Bytes) -> Result<(), Refused> {
        if !matches!(self.state, SourceState::Open) {
            return Ok(());
        }
        let covered = self.window.handle_item(now, item.len());
        covered.map_err(|_| Refused::CreditExceeded)?;
        if item.is_empty() {
            self.window.handle_read(ITEM_COST);
        }
        self.push(item).map_err(Refused::Full)
    }

    /// Takes in an item, or one that had come before there was room for it.
    ///
    /// # Errors
    /// The item itself, if there is no room for it now.
    pub fn push(&mut self, item: Bytes) -> Result<(), Bytes> {
        if item.is_empty() || !matches!(self.state, SourceState::Open) {
            return Ok(());
        }
        let cost = item.len() + ITEM_OVERHEAD;
        let is_bounded = self.window.is_known();
        if !is_bounded && !self.items.is_empty() && self.cost + cost > self.budget {
            return Err(item);
        }
        self.cost += cost;
        self.items.push_back(item);
        Ok(())
    }

    /// Copies what is there into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        let (mut copied, held) = (0, self.cost);
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
        self.window
            .handle_read(held.saturating_sub(self.cost) as u64);
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

    /// Whether the other peer is to be granted more.
    pub fn is_grant_due(&self) -> bool {
        matches!(self.state, SourceState::Open) && self.window.is_due()
    }

    /// What the other peer is to be granted now, as by [`Window::poll_grant`].
    pub fn poll_grant(&mut self, now: Instant, allowance: Allowance) -> Option<u64> {
        let is_open = matches!(self.state, SourceState::Open);
        is_open.then(|| self.window.poll_grant(now, allowance))?
    }

    /// What may be on its way, as in [`Window::in_use`].
    pub fn in_use(&self, now: Instant) -> u64 {
        match self.state {
            SourceState::Open => self.window.in_use(now),
            _ => 0,
        }
    }

    /// What may still have to be held of what the other peer was granted.
    pub fn pledged(&self) -> u64 {
        match self.state {
            SourceState::Open => self.window.pledged(),
            _ => 0,
        }
    }

    /// Whether the other peer may send more than an idle one, and how much it has used until now.
    pub fn kept(&self) -> Option<u64> {
        let is_open = matches!(self.state, SourceState::Open);
        is_open.then(|| self.window.kept())?
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

    /// The other peer takes our stream, and knows no credits.
    pub fn accepted(&mut self) {
        self.sink.accept(None);
    }

    /// The other peer takes our stream, or grants more for it, and gives back what it does not need for its own.
    pub fn granted(&mut self, grant: Grant) {
        self.sink.accept(Some(grant.credit));
        self.source.window.handle_grant(grant);
    }

    /// To be called every few seconds: what we give back of the credit for our stream, if that is idle.
    pub fn give_back(&mut self) -> Option<u64> {
        // It goes with an accept of the other peer's stream, ended or not.
        let can_be_told = !matches!(self.source.state, SourceState::Reset(_));
        can_be_told.then(|| self.sink.give_back())?
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
        if !self.sink.is_accepted() && !self.sink.is_over() {
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
#[path = "stream_tests.rs"]
mod tests;
