//! What waits to be written to one link, bounded in bytes.
//!
//! What the server itself has to say goes first, and does not wait for room, within a reserve. The data of dials has a
//! queue for each, in [fair turns](flows). It waits for room: its reader stops reading, and TCP holds its sender
//! back. Each dial has a share of the room, so that one that sends much does not hold up those who send to others.
//! Announcements are not queued: they are read from the [`Feed`] when something is written.

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
    budget::Account,
    feed::{Cursor, Feed},
    gate::{Gate, Token},
    registry::{FlowId, LinkId, Welcome},
};
use crate::{protocol::engine_io::Version, websocket::Message};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// It never joined.
    Idle,
    /// It does not read the server's own messages.
    Overflow,
    /// Its place went to an origin that has fewer links.
    GaveWay,
    /// It held too much of the memory of all.
    Memory,
    /// Its peer is not allowed to be here any more.
    NoLongerAllowed,
    /// Its peer is disconnected, in these words.
    Disconnected(Arc<str>),
    /// It is as old as it may be.
    Age,
    /// The server is shut down.
    Shutdown,
    /// It is ours to another node, and of no use any more.
    #[cfg(feature = "cluster")]
    Unused,
}

impl CloseReason {
    /// Whether what is queued is not to be written any more.
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
    /// Whether it leads to several links, at another node.
    is_way: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What goes first: what the server itself has to say, and data that came when nothing else was here.
    own: VecDeque<Parcel>,
    own_bytes: usize,
    flows: Flows,
    /// Set when the link is to be closed, once all that is queued is taken.
    closing: Option<CloseReason>,
    /// Set when the link is gone.
    closed: bool,
    writer: Option<Waker>,
    /// The writer while it has no use for more, but wants to know when it is not to write any more.
    urgent: Option<Waker>,
    /// Those that wait for room and have nothing queued, in the order of asking. The others wait in their flows.
    line: VecDeque<(Ticket, Waker)>,
    /// How many wait, here and there.
    waiting: usize,
    next_ticket: Ticket,
    /// What the link has read of the announcements, once it has joined.
    news: Option<Cursor>,
    /// What keeps the joins of others waiting until this link has been told of them.
    tokens: Vec<Token>,
    /// How many bytes were taken until now.
    taken: u64,
}

type Ticket = u64;

impl Inner {
    /// How many bytes are queued, with what it takes to queue them.
    fn memory(&self) -> usize {
        self.own_bytes + self.flows.memory()
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.flows.is_empty()
    }

    /// How many bytes the server's own messages take, with those of dials up to `limit`: what is small may exceed
    /// it, and is not to blame on the link.
    fn held(&self, limit: usize) -> usize {
        self.own_bytes + self.flows.notices() + self.flows.data().min(limit)
    }

    /// Whether data of a dial has room, for one who waits with this ticket.
    fn has_room(&self, flow: FlowId, cost: usize, limit: usize, ticket: Option<Ticket>) -> bool {
        let first = self.line.front().map(|(ticket, _)| *ticket);
        let is_next = first.is_none() || first == ticket;
        self.flows.has_room(flow, cost, limit, is_next)
    }

    fn is_closing(&self) -> bool {
        self.closed || self.closing.is_some()
    }

    /// Returns who is to be woken, when the lock is released.
    #[must_use]
    fn push_own(&mut self, parcel: Parcel) -> Option<Waker> {
        self.own_bytes += parcel.cost();
        self.own.push_back(parcel);
        self.writer.take()
    }

    /// The same for data of a dial.
    #[must_use]
    fn push_data(&mut self, flow: FlowId, parcel: Parcel) -> Option<Waker> {
        // There is nobody to take turns with.
        if self.is_empty() {
            return self.push_own(parcel);
        }
        self.flows.push(flow, parcel);
        self.writer.take()
    }

    /// Takes what is next, if it has so many messages at most and waits for nothing.
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

    /// The first in line, if there may be room for it. It stays in line until it has put its parcel in.
    fn first_in_line(&self, limit: usize) -> Option<Waker> {
        let first = self.line.front().map(|(_, waker)| waker.clone());
        first.filter(|_| self.flows.takes_first(limit))
    }

    /// Takes all that is queued, to drop it.
    fn clear(&mut self) -> (VecDeque<Parcel>, Flows) {
        self.own_bytes = 0;
        (
            std::mem::take(&mut self.own),
            std::mem::take(&mut self.flows),
        )
    }

    /// All who wait, to be woken.
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
    /// An empty one, where data may take up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            version: Version::default(),
            account: None,
            is_way: false,
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
                account.set_queued(inner.memory());
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

    /// The same, for a link that may lead to several ones at another node.
    pub(super) fn with_way(mut self, is_way: bool) -> Self {
        self.is_way = is_way;
        self
    }

    /// Whether it leads to several links, at another node.
    pub(super) fn is_way(&self) -> bool {
        self.is_way
    }

    /// In which version items are to be put in.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts data of a dial in if there is room for it; otherwise a [`Push`] is to be made.
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

    /// Puts in a message of the server's own. When even the reserve is used up, the link is closed.
    pub(super) fn push_own(&self, message: Message) {
        self.push_parcel(Parcel::One(message), None);
    }

    /// The same for the answer to a join, which may wait, with all behind it, until a gate opens.
    pub(super) fn push_welcome(&self, welcome: Welcome, gate: Option<Arc<Gate>>) {
        self.push_parcel(Parcel::Welcome(Box::new(welcome), gate), None);
    }

    /// The same for what is said of a dial, which comes behind the data of the dial.
    pub(super) fn push_notice(&self, flow: FlowId, message: Message) {
        self.push_parcel(Parcel::Notice(message), Some(flow));
    }

    /// Drops the data that is queued of a dial.
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

    /// Puts in what does not wait for room: behind the data of a dial, if there is any.
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
        let waiting = inner.all_waiting();
        let mut dropped = None;
        if reason.is_urgent() {
            dropped = Some(inner.clear());
            if !inner.closing.as_ref().is_some_and(CloseReason::is_urgent) {
                inner.closing = Some(reason.clone());
            }
        }
        inner.closing.get_or_insert(reason);
        // It is told nothing more.
        let tokens = std::mem::take(&mut inner.tokens);
        let writer = inner.writer.take();
        let urgent = inner.urgent.take();
        // With no look at what all hold, which may be why the link is closed: this makes it no more.
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

    /// The link is gone: what is queued, and what still comes, is dropped.
    pub(super) fn shut(&self) {
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

    /// Takes what is new, unless very much of the server's own waits; whether there may be more. When there is
    /// none, nobody has to wait for this link any more.
    fn take_news(
        &self,
        inner: &mut Inner,
        feed: &Feed,
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

    /// Ready when the link is to be closed without writing what was taken already.
    pub(super) fn poll_urgent(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut inner = self.lock();
        if let Some(reason) = inner.closing.as_ref().filter(|reason| reason.is_urgent()) {
            return Poll::Ready(reason.clone());
        }
        register(&mut inner.urgent, cx);
        Poll::Pending
    }

    /// Whether so much waits that no more requests of this link are to be answered before it has read what is
    /// there.
    pub(super) fn is_clogged(&self) -> bool {
        self.lock().held(self.limit) > self.limit + CLOGGED
    }

    /// Whether the link may be offered dials: not if it does not read what is there.
    pub(super) fn takes_dials(&self) -> bool {
        self.lock().held(self.limit) <= self.limit + OFFERS
    }

    /// How many bytes were taken to be written until now.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Whether somebody waits for room.
    pub(super) fn holds_up(&self) -> bool {
        self.lock().waiting > 0
    }

    /// How many bytes are queued.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let inner = self.lock();
        inner.own_bytes + inner.flows.data() + inner.flows.notices()
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
