//! The sending half of a pair.

use std::collections::VecDeque;

use super::{Budgets, Buffer, StreamError, Transmit};
use crate::protocol::{
    credit::{Balance, ITEM_COST, WAITING},
    engine_io::BINARY_MESSAGE,
    event::End,
};

/// The smallest buffer that a new item starts with.
const MIN_ITEM_BUFFER: usize = 256;
/// An item is not begun with less credit: small pieces cost both peers a lot, and a receiver that has read everything
/// soon grants more.
const MIN_ITEM_CREDIT: u64 = WAITING;

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
    /// What may be written yet; without bound if the other peer has accepted the stream without a credit. Before
    /// it accepts, that of the first credit.
    balance: Option<Balance>,
    pub(super) state: SinkState,
    budgets: Budgets,
}

#[derive(Debug)]
pub(super) enum SinkState {
    Open,
    /// To be ended when all that is held is sent.
    Ending,
    Ended,
    /// To be ended with this reason, because of that error; the writer is told at once.
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

    /// Makes the item that is being written a full one.
    fn seal(&mut self) {
        self.flushed = false;
        self.full.push_back(std::mem::take(&mut self.open));
    }

    /// How much may be added to the item that is being written; begins one if there is none.
    fn room_in_item(&mut self, wanted: usize) -> usize {
        let (item, room) = (self.budgets.item, self.room());
        if !self.open.is_empty() {
            return room.min(item + 1 - self.open.len());
        }
        if room == 0 {
            return 0;
        }
        self.spend(ITEM_COST);
        // A bulk writer will fill the item: growing the buffer would copy it.
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

    /// How many bytes may be written now, within the budget and the credit.
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

    /// The other peer takes the stream, and grants so much; without a bound if none.
    pub(super) fn accept(&mut self, credit: Option<u64>) {
        match (self.accepted, credit, &mut self.balance) {
            (false, Some(credit), Some(balance)) => balance.accept(credit),
            (true, Some(credit), Some(balance)) => balance.add(credit),
            (false, None, balance) => *balance = None,
            _ => {}
        }
        self.accepted = true;
    }

    /// What is given back of the credit, because it was not needed since the last call. What was written and not flushed
    /// since then is to go now: its credit is spent, and others wait for it.
    pub(super) fn give_back(&mut self) -> Option<u64> {
        let is_open = matches!(self.state, SinkState::Open);
        let balance = self.balance.as_mut()?;
        // What is full waits for the link.
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

    /// The length of the item that is sent next, if it is sent now.
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

    /// Ends our direction with an error, after what was flushed; not if it is ending already.
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
