//! One pull-stream pair: the two streams of a dial, as seen by one of its peers.
//!
//! The [`Source`] holds data that has come and was not read yet. The [`Sink`] holds data that was written and not sent
//! yet. Both have a budget of bytes. If the other peer knows [credits](super::credit), they bound what it sends. The
//! protocol has no flow control of its own: without credits, the owner of a full source must stop reading the link.

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

/// The cost of an item in addition to its bytes: its slot, and its header, which shares the buffer.
const ITEM_OVERHEAD: usize = ITEM_COST as usize;
/// The reason that the other peer is given when a connection is dropped.
pub const DROPPED: &str = "connection dropped";

/// The reason why a stream ended without a proper end by its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The other peer gave up with this reason.
    #[error("the other peer reset the connection: {}", Words(.0))]
    ResetByPeer(String),
    /// The link to the rendezvous was lost.
    #[error("the link to the rendezvous was lost")]
    LinkLost,
    /// The received data was not read in time, and held up the whole link.
    #[error("the connection was not read in time, and held up the link")]
    ReaderStalled,
    /// The other peer did not accept the stream within the stall timeout, so nothing could be sent.
    #[error("the other peer did not accept the stream within the stall timeout")]
    NotAccepted,
    /// The other peer dropped its connection, so nothing that we write is read.
    #[error("the other peer stopped reading")]
    Stopped,
    /// The other peer, which knows credits, sent more than it was granted.
    #[error("the other peer sent more than it was granted")]
    CreditExceeded,
    /// The other peer, which knows credits, kept credit for two minutes without using it.
    #[error("the other peer kept credit that it does not use")]
    CreditKept,
    /// The other peer sent something that is not an item.
    #[error("the other peer sent a malformed item")]
    MalformedItem,
}

/// The budgets of one pair, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Budgets {
    /// The maximum that a source holds if the peer does not know credits. An empty source takes an item of any size.
    pub receive: usize,
    /// The maximum that a sink holds.
    pub send: usize,
    /// The maximum data of one item.
    pub item: usize,
}

/// The result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The number of bytes read, at least one.
    Data(usize),
    /// There is nothing to read yet.
    Pending,
    /// The other peer ended its direction.
    End,
    /// The stream was reset.
    Reset(StreamError),
}

/// The receiving half of a pair.
#[derive(Debug)]
pub struct Source {
    items: VecDeque<Bytes>,
    cost: usize,
    budget: usize,
    window: Window,
    state: SourceState,
}

/// The reason why an item is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no room for it now.
    Full(Bytes),
    /// The other peer did not have the credit to send the item.
    CreditExceeded,
}

#[derive(Debug)]
enum SourceState {
    Open,
    Ended,
    Reset(StreamError),
    /// The reader is gone. Further data is discarded.
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

    /// Handles an item that has come from the link.
    ///
    /// # Errors
    /// Returns [`Refused::Full`] if the caller must [push](Self::push) the item later.
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

    /// Stores an item, or retries an item that came when there was no room for it.
    ///
    /// # Errors
    /// Returns the item itself if there is no room for it now.
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

    /// Copies the available data into `buffer`.
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

    /// Returns the held amount, in bytes of the budget.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Returns whether a grant to the other peer is due.
    pub fn is_grant_due(&self) -> bool {
        matches!(self.state, SourceState::Open) && self.window.is_due()
    }

    /// Returns the credit to grant to the other peer now, as [`Window::poll_grant`] does.
    pub fn poll_grant(&mut self, now: Instant, allowance: Allowance) -> Option<u64> {
        let is_open = matches!(self.state, SourceState::Open);
        is_open.then(|| self.window.poll_grant(now, allowance))?
    }

    /// Returns the amount that may be on its way, as [`Window::in_use`] does.
    pub fn in_use(&self, now: Instant) -> u64 {
        match self.state {
            SourceState::Open => self.window.in_use(now),
            _ => 0,
        }
    }

    /// Returns the part of the granted credit that may still have to be held.
    pub fn pledged(&self) -> u64 {
        match self.state {
            SourceState::Open => self.window.pledged(),
            _ => 0,
        }
    }

    /// Returns the amount that the other peer has used until now, if it holds more credit than an idle peer may keep.
    pub fn kept(&self) -> Option<u64> {
        let is_open = matches!(self.state, SourceState::Open);
        is_open.then(|| self.window.kept())?
    }

    /// Returns whether no more data will come.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SourceState::Ended | SourceState::Reset(_))
    }

    fn end(&mut self, state: SourceState) {
        if matches!(self.state, SourceState::Open) || matches!(state, SourceState::Dropped) {
            self.state = state;
        }
    }
}

/// A thing to send for a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A binary frame, including its 0x04. The stream's queue header is sent before it.
    Item(Buffer),
    /// The end of our direction.
    End(End),
    /// A request to the other peer to stop sending: the `error` event of *its* stream. The deployed software ignores
    /// it. A rendezvous that relays verbatim carries it to peers that know it.
    Stop,
}

/// Both halves of one dial.
#[derive(Debug)]
pub struct Pair {
    /// The data that the other peer sends.
    pub source: Source,
    /// The data that we send.
    pub sink: Sink,
    /// Whether to tell the other peer that its data is not read any more.
    stop: bool,
}

impl Pair {
    /// Returns a new pair. Nothing may be sent until the other peer accepts.
    pub fn new(budgets: Budgets) -> Self {
        Self {
            source: Source::new(budgets.receive),
            sink: Sink::new(budgets),
            stop: false,
        }
    }

    /// Handles an accept of our stream by a peer that does not know credits.
    pub fn accepted(&mut self) {
        self.sink.accept(None);
    }

    /// Handles an accept of our stream with a grant: the first credit or a further one. The other peer may also return
    /// credit for its own stream.
    pub fn granted(&mut self, grant: Grant) {
        self.sink.accept(Some(grant.credit));
        self.source.window.handle_grant(grant);
    }

    /// Gives back credit for our stream if it is idle, and returns the amount. The caller calls this every few seconds.
    pub fn give_back(&mut self) -> Option<u64> {
        // The amount is sent with an accept of the other peer's stream, even if that stream has ended.
        let can_be_told = !matches!(self.source.state, SourceState::Reset(_));
        can_be_told.then(|| self.sink.give_back())?
    }

    /// Handles the end of the other peer's stream. An error resets both directions, after the data that came before it.
    pub fn ended(&mut self, end: End) {
        match end {
            End::Finished => self.source.end(SourceState::Ended),
            End::Error(reason) => self.reset(StreamError::ResetByPeer(reason)),
        }
    }

    /// Handles the other peer's request to stop sending.
    pub fn stopped(&mut self) {
        self.sink.fail(StreamError::Stopped);
    }

    /// Resets both directions without telling the other peer.
    pub fn reset(&mut self, error: StreamError) {
        self.source.end(SourceState::Reset(error.clone()));
        self.sink.fail(error);
    }

    /// Resets both directions, and tells the other peer `reason`. If the other peer has not accepted our stream, the
    /// data for it is not sent.
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

    /// Ends both directions because the connection is dropped. Flushed data is still sent, and a direction that was
    /// closed still ends properly.
    pub fn dropped(&mut self) {
        self.stop |= !self.source.is_over();
        self.source.items.clear();
        self.source.cost = 0;
        self.source.end(SourceState::Dropped);
        // There is no writer left to get the error.
        self.sink.abort(StreamError::Stopped, DROPPED);
    }

    /// Returns whether there is something to send.
    pub fn is_ready(&self) -> bool {
        self.sink.is_ready() || self.wants_stop()
    }

    /// Returns the next thing to send. Data goes before the end, and the end before a stop.
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

    /// Returns whether nothing more will come or go, so that the pair can be forgotten.
    pub fn is_over(&self) -> bool {
        let source_over =
            self.source.is_over() || matches!(self.source.state, SourceState::Dropped);
        source_over && self.sink.is_over() && !self.stop
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
