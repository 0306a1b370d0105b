//! The outgoing messages of one link, bounded in bytes.
//!
//! The server's own messages go first. They do not wait for room, but they must fit into a reserve. The data of dials
//! has a queue for each dial, in [fair turns](flows). Data waits for room: the link that it comes from is then not
//! read, and TCP holds its sender back. Each dial has a share of the room, so that a dial that sends much does not hold
//! up other links, whose dials to other receivers would then wait too. Announcements are not queued: they are read from
//! the [`Feed`] when something is written.

mod flows;
mod parcel;
mod push;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use self::flows::Flows;
pub(super) use self::{parcel::Parcel, push::Push};
use super::{
    budget::{Account, Closable},
    feed::{Cursor, Feed},
    gate::{self, Gate, Token},
    registry::{FlowId, LinkId, Welcome},
};
use crate::{protocol::engine_io::Version, websocket::Message};

/// The number of bytes by which the server's own messages may exceed the limit. When a neighbour with thousands of
/// streams is lost, 8,192 of them may end at once, and the link is not to blame for that.
const RESERVE: usize = 4 * 1024 * 1024;
/// The number of bytes by which the answers to a link's own requests may exceed the limit. Beyond that, no more
/// requests are answered.
const CLOGGED: usize = 512 * 1024;
/// The number of bytes by which offers of dials to a link may exceed the limit. The reserve beyond it is for the end of
/// each of these dials.
const OFFERS: usize = 256 * 1024;
/// The number of messages that are taken at once: about as many as one vectored write holds.
const BATCH: usize = 64;
/// The number of chunks of announcements that are taken at once. Each becomes one or a few pieces of a vectored write.
const CHUNKS: usize = 4;
/// An empty queue that has room for more parcels than this gives its memory back: most links are idle most of the time.
const KEPT_SLOTS: usize = 8;

/// An error: the link is closing or gone, so nothing more can be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Why a parcel was not queued.
#[derive(Debug)]
pub(super) enum TryPushError {
    /// There is no room, or other pushes wait for it already.
    Full(Parcel),
    /// The link is closing.
    Closed,
}

/// Why a link is closed by something other than itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The link never joined.
    Idle,
    /// The link does not read the server's own messages.
    Overflow,
    /// The link's place went to an origin that has fewer links.
    GaveWay,
    /// The link held too much of the memory that all links share.
    Memory,
    /// Its peer is no longer allowed to be here.
    NoLongerAllowed,
    /// Its peer was disconnected by the operator, with this text.
    Disconnected(Arc<str>),
    /// The link has reached the largest age of a link.
    Age,
    /// The server is shutting down.
    Shutdown,
    /// It is a link of ours to another node, and it is no longer needed.
    #[cfg(feature = "cluster")]
    Unused,
}

impl CloseReason {
    /// Returns whether queued messages are dropped instead of written.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Overflow
            | Self::GaveWay
            | Self::Memory
            | Self::NoLongerAllowed
            | Self::Disconnected(_) => true,
            Self::Idle | Self::Age | Self::Shutdown => false,
            #[cfg(feature = "cluster")]
            Self::Unused => false,
        }
    }
}

/// What the link's writer has to do next.
#[derive(Debug)]
pub(super) enum Take {
    /// Write the batch that was taken.
    Batch,
    /// Close the link: nothing more will come.
    Close(CloseReason),
}

#[derive(Debug)]
pub(super) struct Outbox {
    limit: usize,
    version: Version,
    /// The account of the memory that this link holds, out of the memory that all links share.
    account: Option<Arc<Account>>,
    /// Whether the link is a way, which leads to several links at another node.
    is_way: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What is written first: the server's own messages, and data that came when nothing else was queued.
    own: VecDeque<Parcel>,
    own_bytes: usize,
    flows: Flows,
    /// Set when the link is to be closed once everything queued is taken.
    closing: Option<CloseReason>,
    /// Set when the link is gone.
    closed: bool,
    writer: Option<Waker>,
    /// The waker of the writer while it does not want more, but must be notified when the link is to be closed at once.
    urgent: Option<Waker>,
    /// Pushes that wait for room and whose dial has nothing queued, in the order in which they asked. The other pushes
    /// wait in their flows.
    line: VecDeque<(Ticket, Waker)>,
    /// The number of pushes that wait, in `line` and in the flows.
    waiting: usize,
    next_ticket: Ticket,
    /// How far the link has read the announcements, once it has joined.
    news: Option<Cursor>,
    /// Tokens that hold back the answers to the joins of other peers until this link has written the announcements of
    /// them.
    tokens: Vec<Token>,
    /// The number of bytes taken so far.
    taken: u64,
}

type Ticket = u64;

impl Inner {
    /// Returns the number of bytes queued, including the overhead of the queues.
    fn memory(&self) -> usize {
        self.own_bytes + self.flows.memory()
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.flows.is_empty()
    }

    /// Returns the number of bytes of the server's own messages, plus those of dials up to `limit`. Small items of
    /// dials may exceed the limit, and the link is not to blame for that.
    fn held(&self, limit: usize) -> usize {
        self.own_bytes + self.flows.notices() + self.flows.data().min(limit)
    }

    /// Returns whether there is room for data of a dial. `ticket` is the ticket of the push, if it waits already.
    fn has_room(&self, flow: FlowId, cost: usize, limit: usize, ticket: Option<Ticket>) -> bool {
        let first = self.line.front().map(|(ticket, _)| *ticket);
        let is_next = first.is_none() || first == ticket;
        self.flows.has_room(flow, cost, limit, is_next)
    }

    fn is_closing(&self) -> bool {
        self.closed || self.closing.is_some()
    }

    /// Queues a parcel behind the server's own messages. Returns the writer, to be woken when the lock is released.
    #[must_use]
    fn push_own(&mut self, parcel: Parcel) -> Option<Waker> {
        self.own_bytes += parcel.cost();
        self.own.push_back(parcel);
        self.writer.take()
    }

    /// The same for data of a dial.
    #[must_use]
    fn push_data(&mut self, flow: FlowId, parcel: Parcel) -> Option<Waker> {
        // If nothing else is queued, there are no turns to take.
        if self.is_empty() {
            return self.push_own(parcel);
        }
        self.flows.push(flow, parcel);
        self.writer.take()
    }

    /// Takes the next parcel, if it has at most `slots` messages and does not wait for a gate.
    fn pop(&mut self, slots: usize, woken: &mut Vec<Waker>) -> Option<Parcel> {
        let Some(first) = self.own.front() else {
            return self.flows.pop(slots, woken);
        };
        if first.is_held() || first.messages() > slots {
            return None;
        }
        let parcel = self.own.pop_front()?;
        self.own_bytes = self.own_bytes.saturating_sub(parcel.cost());
        if self.own.is_empty() && self.own.capacity() > KEPT_SLOTS {
            self.own = VecDeque::new();
        }
        Some(parcel)
    }

    /// Returns the waker of the first push in line, if there may be room for it. The push stays in line until it has
    /// queued its parcel.
    fn first_in_line(&self, limit: usize) -> Option<Waker> {
        let first = self.line.front().map(|(_, waker)| waker.clone());
        first.filter(|_| self.flows.takes_first(limit))
    }

    /// Removes everything that is queued. The caller drops it.
    fn clear(&mut self) -> (VecDeque<Parcel>, Flows) {
        self.own_bytes = 0;
        (
            std::mem::take(&mut self.own),
            std::mem::take(&mut self.flows),
        )
    }

    /// Removes the wakers of all pushes that wait. The caller wakes them.
    fn all_waiting(&mut self) -> Vec<Waker> {
        let mut all = self.flows.drain_waiting();
        all.extend(self.line.drain(..).map(|(_, waker)| waker));
        all
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Outbox {
    /// Creates an empty outbox, in which data may take up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            version: Version::default(),
            account: None,
            is_way: false,
            inner: Mutex::default(),
        }
    }

    /// Sets the link's account.
    pub(super) fn with_account(mut self, account: Arc<Account>) -> Self {
        self.account = Some(account);
        self
    }

    /// Returns the account of the memory that the link holds.
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Tells the account how much is queued, releases the lock, and has the account check the memory of all links.
    fn unlock(&self, inner: MutexGuard<'_, Inner>) {
        match &self.account {
            None => drop(inner),
            Some(account) => {
                account.set_queued(inner.memory());
                drop(inner);
                account.check();
            }
        }
    }

    /// Sets the protocol version that the link speaks.
    pub(super) fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Sets whether the link is a way, which may lead to several links at another node.
    pub(super) fn with_way(mut self, is_way: bool) -> Self {
        self.is_way = is_way;
        self
    }

    /// Returns whether the link is a way, which leads to several links at another node.
    pub(super) fn is_way(&self) -> bool {
        self.is_way
    }

    /// Returns the protocol version in which items have to be queued.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues data of a dial if there is room for it. Otherwise the caller has to make a [`Push`].
    pub(super) fn try_push(&self, flow: FlowId, parcel: Parcel) -> Result<(), TryPushError> {
        let mut inner = self.lock();
        if inner.is_closing() {
            return Err(TryPushError::Closed);
        }
        if !inner.has_room(flow, parcel.cost(), self.limit, None) {
            return Err(TryPushError::Full(parcel));
        }
        let writer = inner.push_data(flow, parcel);
        self.unlock(inner);
        wake(writer);
        Ok(())
    }

    /// Queues a message of the server's own. Closes the link if even the reserve is used up.
    pub(super) fn push_own(&self, message: Message) {
        self.push_parcel(Parcel::One(message), None);
    }

    /// The same for the answer to a join. With a gate, the answer and everything behind it wait until the gate opens.
    pub(super) fn push_welcome(&self, welcome: Welcome, gate: Option<Arc<Gate>>) {
        self.push_parcel(Parcel::Welcome(Box::new(welcome), gate), None);
    }

    /// The same for a message about a dial. It goes behind the data of that dial.
    pub(super) fn push_notice(&self, flow: FlowId, message: Message) {
        self.push_parcel(Parcel::Notice(message), Some(flow));
    }

    /// Drops the queued data of a dial, and keeps the messages about the dial.
    pub(super) fn reset(&self, flow: FlowId) {
        let mut inner = self.lock();
        let mut woken = Vec::new();
        let parcels = inner.flows.remove(flow, &mut woken).into_iter();
        let (notices, dropped): (Vec<_>, Vec<_>) =
            parcels.partition(|parcel| matches!(parcel, Parcel::Notice(_)));
        for notice in notices {
            woken.extend(inner.push_own(notice));
        }
        woken.extend(inner.first_in_line(self.limit));
        self.unlock(inner);
        drop(dropped);
        wake(woken);
    }

    /// Queues a parcel that does not wait for room: behind the data of a dial, if there is any.
    fn push_parcel(&self, parcel: Parcel, behind: Option<FlowId>) {
        let mut inner = self.lock();
        if inner.is_closing() {
            return;
        }
        if inner.held(self.limit) + parcel.cost() > self.limit + RESERVE {
            drop(inner);
            return self.close(CloseReason::Overflow);
        }
        let parcel = match behind {
            Some(flow) => inner.flows.push_notice(flow, parcel).err(),
            None => Some(parcel),
        };
        let writer = parcel.and_then(|parcel| inner.push_own(parcel));
        self.unlock(inner);
        wake(writer);
    }

    /// Starts to read announcements from here on, because the link has joined.
    pub(super) fn subscribe(&self, news: Cursor) {
        self.lock().news = Some(news);
    }

    /// Stops reading announcements, because the link has left.
    pub(super) fn unsubscribe(&self) {
        let mut inner = self.lock();
        inner.news = None;
        let tokens = std::mem::take(&mut inner.tokens);
        drop(inner);
        drop(tokens);
    }

    /// Holds a token until this link has written everything that is announced now. Drops the token at once if the link
    /// has not joined or is closing. Also drops it if the link still holds a token whose gate opened without waiting for
    /// it: the link is too slow, and nobody waits for it twice.
    pub(super) fn hold(&self, token: Token) {
        let mut inner = self.lock();
        let is_late = inner.tokens.iter().any(Token::is_late);
        if !is_late && inner.news.is_some() && !inner.is_closing() {
            inner.tokens.push(token);
        } else {
            drop(inner);
            drop(token);
        }
    }

    /// Closes the link when everything queued is taken; for urgent reasons, at once.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut inner = self.lock();
        let waiting = inner.all_waiting();
        let mut dropped = None;
        if reason.is_urgent() {
            dropped = Some(inner.clear());
            if !inner.closing.as_ref().is_some_and(CloseReason::is_urgent) {
                inner.closing = Some(reason.clone());
            }
        }
        inner.closing.get_or_insert(reason);
        // The link gets no more announcements.
        let tokens = std::mem::take(&mut inner.tokens);
        let writer = inner.writer.take();
        let urgent = inner.urgent.take();
        // This does not check the memory of all links. Such a check may be why the link is closed, and closing frees
        // memory.
        if let Some(account) = &self.account {
            account.set_queued(inner.memory());
        }
        drop(inner);
        drop(tokens);
        drop(dropped);
        wake(writer);
        wake(urgent);
        wake(waiting);
    }

    /// Drops everything queued, and from now on everything that still comes, because the link is gone.
    pub(super) fn discard(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = inner.all_waiting();
        let dropped = inner.clear();
        let tokens = std::mem::take(&mut inner.tokens);
        inner.writer = None;
        inner.news = None;
        drop(inner);
        if let Some(account) = &self.account {
            account.close();
        }
        drop(dropped);
        drop(tokens);
        wake(waiting);
    }

    /// Takes parcels of about `max` bytes in all, at least one, and appends them to `batch`, together with new
    /// announcements from the feed. Only the link itself calls this, when it has written everything that it took
    /// before. It is woken when there is something to take.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        feed: &Feed<Self>,
        link: LinkId,
        batch: &mut Vec<Parcel>,
        max: usize,
    ) -> Poll<Take> {
        let mut inner = self.lock();
        let (has_news, told) = self.take_news(&mut inner, feed, link, batch);
        let (mut taken, mut messages) = (0, batch.len());
        let mut woken = Vec::new();
        while taken < max {
            let slots = match messages {
                0 => usize::MAX,
                messages => BATCH.saturating_sub(messages),
            };
            let Some(parcel) = inner.pop(slots, &mut woken) else {
                break;
            };
            taken += parcel.cost();
            messages += parcel.messages();
            batch.push(parcel);
        }
        let result = match (messages > 0 || has_news, &inner.closing) {
            (true, _) => Poll::Ready(Take::Batch),
            (false, Some(reason)) if inner.is_empty() => Poll::Ready(Take::Close(reason.clone())),
            (false, _) => {
                register(&mut inner.writer, cx);
                Poll::Pending
            }
        };
        inner.taken = inner.taken.saturating_add(taken as u64);
        if taken > 0 {
            woken.extend(inner.first_in_line(self.limit));
        }
        self.unlock(inner);
        drop(told);
        wake(woken);
        result
    }

    /// Takes new announcements, unless the server's own messages fill more than half of the limit. Returns whether
    /// there may be more. If there is none, also returns the tokens to drop: nothing has to wait for this link any
    /// more.
    fn take_news(
        &self,
        inner: &mut Inner,
        feed: &Feed<Self>,
        link: LinkId,
        batch: &mut Vec<Parcel>,
    ) -> (bool, Vec<Token>) {
        if inner.closing.is_some() || inner.own_bytes > self.limit / 2 {
            return (false, Vec::new());
        }
        let Some(cursor) = &mut inner.news else {
            return (false, Vec::new());
        };
        let mut frames = Vec::new();
        let mut chunks = 0;
        while chunks < CHUNKS && frames.len() < BATCH && feed.read(link, cursor, &mut frames) {
            chunks += 1;
        }
        if chunks == 0 {
            return (false, std::mem::take(&mut inner.tokens));
        }
        batch.extend(frames.into_iter().map(Parcel::News));
        (true, Vec::new())
    }

    /// Ready when the link is to be closed without writing even what was taken already.
    pub(super) fn poll_urgent(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut inner = self.lock();
        if let Some(reason) = inner.closing.as_ref().filter(|reason| reason.is_urgent()) {
            return Poll::Ready(reason.clone());
        }
        register(&mut inner.urgent, cx);
        Poll::Pending
    }

    /// Returns whether so much is queued that no more requests of this link are answered until it has read some of it.
    pub(super) fn is_clogged(&self) -> bool {
        self.lock().held(self.limit) > self.limit + CLOGGED
    }

    /// Returns whether dials may be offered to the link: only if it reads what is queued.
    pub(super) fn takes_dials(&self) -> bool {
        self.lock().held(self.limit) <= self.limit + OFFERS
    }

    /// Returns the number of bytes taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Returns whether a push waits for room.
    pub(super) fn holds_up(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Returns the number of bytes queued.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let inner = self.lock();
        inner.own_bytes + inner.flows.data() + inner.flows.notices()
    }
}

impl gate::Queue for Outbox {
    /// Wakes the writer, because there may be something to write: an announcement, or parcels that waited for a gate.
    fn wake_writer(&self) {
        let writer = self.lock().writer.take();
        wake(writer);
    }
}

impl Closable for Outbox {
    fn close_for_memory(&self) {
        self.close(CloseReason::Memory);
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
