//! The sending half of a pair.

use std::collections::VecDeque;

use super::{Budgets, Buffer, StreamError, Transmit};
use crate::protocol::{
    credit::{Balance, ITEM_COST, WAITING},
    engine_io::BINARY_MESSAGE,
    event::End,
};

/// The smallest buffer for a new item, in bytes.
const MIN_ITEM_BUFFER: usize = 256;
/// The least credit with which a new item is begun. Small pieces cost both peers a lot, and a receiver that has read
/// everything soon grants more.
const MIN_ITEM_CREDIT: u64 = WAITING;

/// The sending half of a pair.
#[derive(Debug)]
pub struct Sink {
    /// The full items that are ready to be sent.
    full: VecDeque<Buffer>,
    /// The item that is being written. It begins with 0x04.
    open: Buffer,
    /// Whether `open` may be sent although it is not full.
    flushed: bool,
    /// The amount of data in `full` and `open`, in bytes.
    held: usize,
    accepted: bool,
    /// The credit that is left for writing. `None` if the other peer has accepted the stream without a credit, so that
    /// it is not limited. Until the accept, this is the balance of the first credit.
    balance: Option<Balance>,
    pub(super) state: SinkState,
    budgets: Budgets,
}

#[derive(Debug)]
pub(super) enum SinkState {
    Open,
    /// The stream ends when all held data is sent.
    Ending,
    Ended,
    /// The stream ends with this reason, because of this error. The writer gets the error at once.
    Aborting(String, StreamError),
    Failed(StreamError),
}

impl Sink {
    pub(super) fn new(budgets: Budgets) -> Self {
        Self {
            full: VecDeque::new(),
            open: Buffer::default(),
            flushed: false,
            held: 0,
            accepted: false,
            balance: Some(Balance::default()),
            state: SinkState::Open,
            budgets,
        }
    }

    /// Writes as much of `data` as there is room for, and returns how much; 0 if there is no room.
    ///
    /// # Errors
    /// Returns the reason why nothing can be written any more; `None` if we ended the stream ourselves.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, Option<StreamError>> {
        match &self.state {
            SinkState::Open => {}
            SinkState::Failed(error) | SinkState::Aborting(_, error) => {
                return Err(Some(error.clone()));
            }
            SinkState::Ending | SinkState::Ended => return Err(None),
        }
        let mut rest = data;
        while !rest.is_empty() {
            let n = rest.len().min(self.room_in_item(rest.len()));
            if n == 0 {
                break;
            }
            self.open.extend_from_slice(&rest[..n]);
            self.held += n;
            self.spend(n as u64);
            rest = &rest[n..];
            if self.open.len() > self.budgets.item {
                self.seal();
            }
        }
        Ok(data.len() - rest.len())
    }

    /// Completes the item that is being written.
    fn seal(&mut self) {
        self.flushed = false;
        self.full.push_back(std::mem::take(&mut self.open));
    }

    /// Returns how many bytes may be added to the item that is being written. Begins an item if there is none.
    fn room_in_item(&mut self, wanted: usize) -> usize {
        let (item, room) = (self.budgets.item, self.room());
        if !self.open.is_empty() {
            return room.min(item + 1 - self.open.len());
        }
        if room == 0 {
            return 0;
        }
        self.spend(ITEM_COST);
        // A writer of much data will fill the item. Growing the buffer later would copy the data.
        let full = item.min(room);
        let size = if wanted >= full / 4 {
            full
        } else {
            wanted.max(MIN_ITEM_BUFFER.min(full))
        };
        self.open = Buffer::with_capacity(size + 1);
        self.open.extend_from_slice(&[BINARY_MESSAGE]);
        full
    }

    fn spend(&mut self, cost: u64) {
        if let Some(balance) = &mut self.balance {
            balance.spend(cost);
        }
    }

    /// Returns how many bytes may be written now, within the budget and the credit.
    pub fn room(&self) -> usize {
        let budget = self.budgets.send.saturating_sub(self.held);
        let Some(balance) = &self.balance else {
            return budget;
        };
        let credit = match self.open.is_empty() {
            true if balance.left() < MIN_ITEM_CREDIT => 0,
            true => balance.left().saturating_sub(ITEM_COST),
            false => balance.left(),
        };
        budget.min(usize::try_from(credit).unwrap_or(usize::MAX))
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Handles an accept of the stream with this credit. Without a credit, the stream is not limited.
    pub(super) fn accept(&mut self, credit: Option<u64>) {
        match (self.accepted, credit, &mut self.balance) {
            (false, Some(credit), Some(balance)) => balance.accept(credit),
            (true, Some(credit), Some(balance)) => balance.add(credit),
            (false, None, balance) => *balance = None,
            _ => {}
        }
        self.accepted = true;
    }

    /// Gives back the credit that was not needed since the last call. Also flushes what was written before the last
    /// call and not flushed: its credit is spent, and others wait for it.
    pub(super) fn give_back(&mut self) -> Option<u64> {
        let is_open = matches!(self.state, SinkState::Open);
        let balance = self.balance.as_mut()?;
        // Full items wait for the link.
        if !is_open || !self.accepted || !self.full.is_empty() {
            return None;
        }
        let is_idle = balance.is_idle();
        let returned = balance.give_back();
        if is_idle {
            self.flush();
        }
        returned
    }

    /// Allows all written data to be sent, even if the item is not full.
    pub fn flush(&mut self) {
        self.flushed = !self.open.is_empty();
    }

    /// Ends our direction when all written data is sent.
    pub fn close(&mut self) {
        if matches!(self.state, SinkState::Open) {
            self.flush();
            self.state = SinkState::Ending;
        }
    }

    /// Returns whether there is something to send.
    pub fn is_ready(&self) -> bool {
        let has_item = !self.full.is_empty() || self.flushed;
        match self.state {
            SinkState::Open => self.accepted && has_item,
            SinkState::Ending => self.accepted,
            // If the stream is not accepted, it is worth waiting only if flushed data is held.
            SinkState::Aborting(..) => self.accepted || self.held == 0,
            SinkState::Ended | SinkState::Failed(_) => false,
        }
    }

    /// Returns whether something waits for the other peer to accept the stream.
    pub fn is_waiting_for_accept(&self) -> bool {
        let waits = match self.state {
            SinkState::Open | SinkState::Aborting(..) => self.held > 0,
            SinkState::Ending => true,
            SinkState::Ended | SinkState::Failed(_) => false,
        };
        waits && !self.accepted
    }

    /// Returns whether nothing more will be sent.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SinkState::Ended | SinkState::Failed(_))
    }

    /// Returns the reason why nothing more can be written, unless the reason is our own close.
    pub fn error(&self) -> Option<&StreamError> {
        match &self.state {
            SinkState::Failed(error) | SinkState::Aborting(_, error) => Some(error),
            _ => None,
        }
    }

    /// Returns the held amount, in bytes of the budget.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns the length of the item that would be sent next, if it were sent now.
    pub fn next_bytes(&self) -> usize {
        self.full.front().unwrap_or(&self.open).len()
    }

    pub(super) fn take(&mut self) -> Option<Transmit> {
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

    pub(super) fn fail(&mut self, error: StreamError) {
        if !self.is_over() {
            self.fail_with(self.error().cloned().unwrap_or(error));
        }
    }

    fn fail_with(&mut self, error: StreamError) {
        self.state = SinkState::Failed(error);
        self.discard();
    }

    /// Ends our direction with an error, after the flushed data. Does nothing if it is already ending.
    pub(super) fn abort(&mut self, error: StreamError, reason: &str) {
        if matches!(self.state, SinkState::Open) {
            if self.flushed {
                self.seal();
            }
            let unflushed = std::mem::take(&mut self.open);
            self.held -= unflushed.len().saturating_sub(1);
            self.state = SinkState::Aborting(reason.to_owned(), error);
        }
    }

    pub(super) fn discard(&mut self) {
        self.full.clear();
        self.open = Buffer::default();
        self.flushed = false;
        self.held = 0;
    }
}
