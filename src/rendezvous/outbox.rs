//! What waits to be written to one link: a queue bounded in bytes.
//!
//! Anybody may put into it. Data waits for room, in the order of asking: its reader stops reading,
//! and TCP holds its sender back. What the server itself has to say does not wait, within a reserve.
//! Announcements are not in the queue: they are read from the [`Feed`] if there is plenty of room.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::{
    budget::Account,
    feed::{Cursor, Feed},
    gate::{Gate, Token},
    registry::{LinkId, Welcome},
};
use crate::{protocol::engine_io::Version, websocket::Message};

/// What a queued message costs beside its bytes: its slots here and with the WebSocket, and its header.
const OVERHEAD: usize = 128;
/// How far the server's own messages may exceed the limit. A peer whose neighbour with thousands of streams is
/// lost is not to blame: 8,192 of them may end at once.
const RESERVE: usize = 4 * 1024 * 1024;
/// How far the answers to a link's own requests may exceed the limit, until no more are answered.
const CLOGGED: usize = 512 * 1024;
/// How far dials to a link may exceed the limit: each of them may still have to be ended.
const OFFERS: usize = 256 * 1024;
/// How many messages are taken at once: about as many as one vectored write holds.
const BATCH: usize = 64;
/// How many chunks of announcements are taken at once; each is a piece of a vectored write or a few.
const CHUNKS: usize = 4;
/// A queue that was once longer than this gives its memory back when it is empty: most links are
/// idle most of the time.
const KEPT_SLOTS: usize = 8;

/// What goes onto the link without anything else in between.
#[derive(Debug)]
pub(super) enum Parcel {
    /// One message.
    One(Message),
    /// The text that announces an item, and the item.
    Item(Message, Message),
    /// The answer to a join. With a gate it waits, with all behind it, until others have been told something.
    Welcome(Box<Welcome>, Option<Arc<Gate>>),
    /// Announcements. They are never queued.
    News(Bytes),
}

fn cost(message: &Message) -> usize {
    message.len() + OVERHEAD
}

impl Parcel {
    fn cost(&self) -> usize {
        match self {
            Self::One(message) => cost(message),
            Self::Item(header, data) => cost(header) + cost(data),
            Self::Welcome(welcome, _) => welcome.len() + OVERHEAD,
            Self::News(_) => 0,
        }
    }

    fn messages(&self) -> usize {
        match self {
            Self::One(_) | Self::Welcome(..) | Self::News(_) => 1,
            Self::Item(..) => 2,
        }
    }

    fn is_held(&self) -> bool {
        match self {
            Self::Welcome(_, gate) => gate.as_ref().is_some_and(|gate| !gate.is_open()),
            Self::One(_) | Self::Item(..) | Self::News(_) => false,
        }
    }
}

/// Why nothing more can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Why a parcel was not taken.
#[derive(Debug)]
pub(super) enum TryPushError {
    /// There is no room, or others wait for it already.
    Full(Parcel),
    /// The link is closing.
    Closed,
}

/// Why a link is to be closed by another than itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// It never joined.
    Idle,
    /// It does not read the server's own messages.
    Overflow,
    /// Its place went to an origin that has fewer links.
    GaveWay,
    /// It held too much of the memory of all.
    Memory,
    /// The server is shut down.
    Shutdown,
}

impl CloseReason {
    /// Whether what is queued is not to be written any more.
    fn is_urgent(self) -> bool {
        match self {
            Self::Overflow | Self::GaveWay | Self::Memory => true,
            Self::Idle | Self::Shutdown => false,
        }
    }
}

/// What the link's writer is to do next.
#[derive(Debug)]
pub(super) enum Take {
    /// Write what was taken.
    Batch,
    /// Nothing more will come.
    Close(CloseReason),
}

#[derive(Debug)]
pub(super) struct Outbox {
    limit: usize,
    version: Version,
    /// What the link holds of the memory of all.
    account: Option<Arc<Account>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Parcel>,
    bytes: usize,
    /// Set when the link is to be closed, once all that is queued is taken.
    closing: Option<CloseReason>,
    /// Set when the link is gone.
    closed: bool,
    writer: Option<Waker>,
    /// The writer while it has no use for more, but wants to know when it is not to write any more.
    urgent: Option<Waker>,
    /// Those that wait for room, in the order of asking.
    waiting: VecDeque<(Ticket, Waker)>,
    next_ticket: Ticket,
    /// What the link has read of the announcements, once it has joined.
    news: Option<Cursor>,
    /// What keeps the joins of others waiting until this link has been told of them.
    tokens: Vec<Token>,
}

type Ticket = u64;

impl Inner {
    fn has_room(&self, cost: usize, limit: usize) -> bool {
        self.bytes == 0 || self.bytes + cost <= limit
    }

    fn is_closing(&self) -> bool {
        self.closed || self.closing.is_some()
    }

    /// Returns who is to be woken, when the lock is released.
    #[must_use]
    fn push(&mut self, parcel: Parcel, cost: usize) -> Option<Waker> {
        self.bytes += cost;
        self.queue.push_back(parcel);
        self.writer.take()
    }

    /// The first of those who wait. It stays in line until it has put its parcel in.
    fn first_waiting(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }
}

fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Outbox {
    /// An empty one, where data may take up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            version: Version::default(),
            account: None,
            inner: Mutex::default(),
        }
    }

    /// The same, for a link that has an account.
    pub(super) fn with_account(mut self, account: Arc<Account>) -> Self {
        self.account = Some(account);
        self
    }

    /// What the link holds of the memory of all.
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Releases the lock, and has the account know what is queued.
    fn unlock(&self, inner: MutexGuard<'_, Inner>) {
        match &self.account {
            None => drop(inner),
            Some(account) => {
                account.set_queued(inner.bytes);
                drop(inner);
                account.check();
            }
        }
    }

    /// The same, for a link that speaks `version`.
    pub(super) fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// In which version items are to be put in.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts data in if there is room and nobody waits for it; otherwise a [`Push`] is to be made.
    pub(super) fn try_push(&self, parcel: Parcel) -> Result<(), TryPushError> {
        let cost = parcel.cost();
        let mut inner = self.lock();
        if inner.is_closing() {
            return Err(TryPushError::Closed);
        }
        if !inner.waiting.is_empty() || !inner.has_room(cost, self.limit) {
            return Err(TryPushError::Full(parcel));
        }
        let writer = inner.push(parcel, cost);
        self.unlock(inner);
        wake(writer);
        Ok(())
    }

    /// Puts in a message of the server's own. When even the reserve is used up, the link is closed.
    pub(super) fn push_own(&self, message: Message) {
        self.push_parcel(Parcel::One(message));
    }

    /// The same for the answer to a join, which may wait, with all behind it, until a gate opens.
    pub(super) fn push_welcome(&self, welcome: Welcome, gate: Option<Arc<Gate>>) {
        self.push_parcel(Parcel::Welcome(Box::new(welcome), gate));
    }

    fn push_parcel(&self, parcel: Parcel) {
        let cost = parcel.cost();
        let mut inner = self.lock();
        if inner.is_closing() {
            return;
        }
        if inner.bytes + cost > self.limit + RESERVE {
            drop(inner);
            return self.close(CloseReason::Overflow);
        }
        let writer = inner.push(parcel, cost);
        self.unlock(inner);
        wake(writer);
    }

    /// The link has joined: it is told what is announced from there on.
    pub(super) fn subscribe(&self, news: Cursor) {
        self.lock().news = Some(news);
    }

    /// The link has left: it is told no more.
    pub(super) fn unsubscribe(&self) {
        let mut inner = self.lock();
        inner.news = None;
        let tokens = std::mem::take(&mut inner.tokens);
        drop(inner);
        drop(tokens);
    }

    /// Has somebody wait until this link has been told all that is announced now; not if somebody has
    /// waited for it in vain.
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

    /// There may be something to write: an announcement, or what has waited for a gate.
    pub(super) fn wake_writer(&self) {
        let writer = self.lock().writer.take();
        wake(writer);
    }

    /// Has the link closed when all that is queued is taken; for some reasons, at once.
    pub(super) fn close(&self, reason: CloseReason) {
        let mut inner = self.lock();
        let mut dropped = VecDeque::new();
        if reason.is_urgent() {
            dropped = std::mem::take(&mut inner.queue);
            inner.bytes = 0;
            if !inner.closing.is_some_and(CloseReason::is_urgent) {
                inner.closing = Some(reason);
            }
        }
        inner.closing.get_or_insert(reason);
        let waiting = std::mem::take(&mut inner.waiting);
        // It is told nothing more.
        let tokens = std::mem::take(&mut inner.tokens);
        let writer = inner.writer.take();
        let urgent = inner.urgent.take();
        // With no look at what all hold, which may be why the link is closed: this makes it no more.
        if let Some(account) = &self.account {
            account.set_queued(inner.bytes);
        }
        drop(inner);
        drop(tokens);
        drop(dropped);
        wake(writer);
        wake(urgent);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// The link is gone: what is queued, and what still comes, is dropped.
    pub(super) fn shut(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.bytes = 0;
        let dropped = std::mem::take(&mut inner.queue);
        let waiting = std::mem::take(&mut inner.waiting);
        let tokens = std::mem::take(&mut inner.tokens);
        inner.writer = None;
        inner.news = None;
        drop(inner);
        if let Some(account) = &self.account {
            account.close();
        }
        drop(dropped);
        drop(tokens);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Takes some parcels of about `max` bytes in all, at least one, to the end of `batch`; among them what is
    /// new in the feed. For the link itself, which has written all that it took before, and which is
    /// woken when there is something.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        feed: &Feed,
        link: LinkId,
        batch: &mut Vec<Parcel>,
        max: usize,
    ) -> Poll<Take> {
        let mut inner = self.lock();
        let (has_news, told) = self.take_news(&mut inner, feed, link, batch);
        let (mut taken, mut messages) = (0, batch.len());
        while taken < max
            && let Some(parcel) = inner.queue.front()
            && !parcel.is_held()
            && (messages == 0 || messages + parcel.messages() <= BATCH)
            && let Some(parcel) = inner.queue.pop_front()
        {
            taken += parcel.cost();
            messages += parcel.messages();
            batch.push(parcel);
        }
        inner.bytes = inner.bytes.saturating_sub(taken);
        let result = match (messages > 0 || has_news, inner.closing) {
            (true, _) => Poll::Ready(Take::Batch),
            (false, Some(reason)) if inner.queue.is_empty() => Poll::Ready(Take::Close(reason)),
            (false, _) => {
                register(&mut inner.writer, cx);
                Poll::Pending
            }
        };
        if inner.queue.is_empty() && inner.queue.capacity() > KEPT_SLOTS {
            inner.queue = VecDeque::new();
        }
        let first = inner.first_waiting().filter(|_| taken > 0);
        self.unlock(inner);
        drop(told);
        wake(first);
        result
    }

    /// Takes what is new, unless the queue is more than half full; whether there may be more. When there is
    /// none, nobody has to wait for this link any more.
    fn take_news(
        &self,
        inner: &mut Inner,
        feed: &Feed,
        link: LinkId,
        batch: &mut Vec<Parcel>,
    ) -> (bool, Vec<Token>) {
        if inner.closing.is_some() || inner.bytes > self.limit / 2 {
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

    /// Ready when the link is to be closed without writing what was taken already.
    pub(super) fn poll_urgent(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut inner = self.lock();
        if let Some(reason) = inner.closing.filter(|reason| reason.is_urgent()) {
            return Poll::Ready(reason);
        }
        register(&mut inner.urgent, cx);
        Poll::Pending
    }

    /// Whether so much waits that no more requests of this link are to be answered before it has read what is
    /// there.
    pub(super) fn is_clogged(&self) -> bool {
        self.bytes() > self.limit + CLOGGED
    }

    /// Whether the link may be offered dials: not if it does not read what is there.
    pub(super) fn takes_dials(&self) -> bool {
        self.bytes() <= self.limit + OFFERS
    }

    /// Whether somebody waits for room.
    pub(super) fn holds_up(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// How many bytes are queued.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// A parcel that waits for room. Dropping it gives its place in the line up.
#[derive(Debug)]
pub(super) struct Push {
    outbox: Arc<Outbox>,
    parcel: Option<Parcel>,
    ticket: Option<Ticket>,
}

impl Push {
    pub(super) fn new(outbox: Arc<Outbox>, parcel: Parcel) -> Self {
        Self {
            outbox,
            parcel: Some(parcel),
            ticket: None,
        }
    }

    /// How many bytes wait for room.
    pub(super) fn cost(&self) -> usize {
        self.parcel.as_ref().map_or(0, Parcel::cost)
    }
}

impl Future for Push {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(parcel) = &this.parcel else {
            return Poll::Ready(Ok(()));
        };
        let cost = parcel.cost();
        let mut inner = this.outbox.lock();
        if inner.is_closing() {
            // The line is gone with it.
            this.ticket = None;
            return Poll::Ready(Err(Closed));
        }
        let first = inner.waiting.front().map(|(ticket, _)| *ticket);
        let is_first = first == this.ticket || (first.is_none() && this.ticket.is_none());
        if is_first && inner.has_room(cost, this.outbox.limit) {
            if this.ticket.take().is_some() {
                inner.waiting.pop_front();
            }
            let writer = this
                .parcel
                .take()
                .and_then(|parcel| inner.push(parcel, cost));
            let next = inner.first_waiting();
            this.outbox.unlock(inner);
            wake(writer);
            // There may be room for it too.
            wake(next);
            return Poll::Ready(Ok(()));
        }
        match this.ticket {
            Some(ticket) => {
                let place = inner.waiting.iter_mut().find(|(t, _)| *t == ticket);
                if let Some((_, waker)) = place {
                    waker.clone_from(cx.waker());
                }
            }
            None => {
                let ticket = inner.next_ticket;
                inner.next_ticket += 1;
                inner.waiting.push_back((ticket, cx.waker().clone()));
                this.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let mut inner = self.outbox.lock();
        let was_first = inner.waiting.front().is_some_and(|(t, _)| *t == ticket);
        inner.waiting.retain(|(t, _)| *t != ticket);
        let next = if was_first {
            inner.first_waiting()
        } else {
            None
        };
        drop(inner);
        // The one behind may fit where this one did not.
        wake(next);
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
