//! The queued data of dials for one link: a queue for each dial, served in fair turns. Does no IO.
//!
//! The schedule is deficit round robin by bytes, with new queues before old ones, as in FQ-CoDel (RFC 8290, section
//! 4.2). So a dial that sends little is served at once, beside any number of dials that send much. A queue exists only
//! while something waits in it.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
};

use super::{KEPT_SLOTS, Parcel, Ticket};
use crate::rendezvous::registry::FlowId;

/// The number of bytes that a dial may write in each of its turns, and that it may always have queued: an item of 16
/// KiB with its overhead. Sixteen dials take a millisecond for a round of items of 128 KiB, so such a dial has to save
/// up several turns for each item.
pub(super) const QUANTUM: usize = 17 * 1024;
/// A dial may have queued this many times the free room: eight ninths of all when it is alone.
const SHARE: usize = 8;

/// The memory that the queue of one dial takes itself, in bytes, before there is much in it.
const FLOW: usize = 512;

/// The queue of one dial.
#[derive(Debug, Default)]
struct Flow {
    /// Accepts, which go first.
    accepts: VecDeque<Parcel>,
    parcels: VecDeque<Parcel>,
    /// The queued bytes, without notices.
    bytes: usize,
    /// The number of bytes that may be written before the next dial's turn.
    deficit: usize,
    /// Pushes that wait for room behind what is queued.
    waiting: Vec<(Ticket, Waker)>,
}

impl Flow {
    fn next(&self) -> Option<&Parcel> {
        self.accepts.front().or_else(|| self.parcels.front())
    }

    fn pop(&mut self) -> Option<Parcel> {
        let parcel = self.accepts.pop_front();
        parcel.or_else(|| self.parcels.pop_front())
    }

    fn len(&self) -> usize {
        self.accepts.len() + self.parcels.len()
    }

    fn beyond(&self) -> usize {
        self.bytes.saturating_sub(QUANTUM)
    }
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    by_id: BTreeMap<FlowId, Flow>,
    /// The dials that have had no turn yet.
    new: VecDeque<FlowId>,
    /// The other dials, in the order of their turns. Their queues may be empty by now.
    old: VecDeque<FlowId>,
    /// The number of queued parcels.
    len: usize,
    /// The number of queued bytes, without notices.
    data: usize,
    /// The number of these bytes that are beyond the quantum of their dial.
    beyond: usize,
    /// The number of queued bytes of notices, which never wait for room.
    notices: usize,
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of queued bytes, together with the memory of the queues themselves.
    pub(super) fn memory(&self) -> usize {
        self.data + self.notices + self.by_id.len() * FLOW
    }

    /// Returns the number of queued bytes of peers' data, which needs room.
    pub(super) fn data(&self) -> usize {
        self.data
    }

    /// Returns the number of queued bytes that the server itself has put in.
    pub(super) fn notices(&self) -> usize {
        self.notices
    }

    /// Returns whether a dial may have `cost` more bytes queued, where `limit` is for all dials. `is_next` tells
    /// whether no other push has waited for longer.
    ///
    /// A small amount always finds room, until twice the limit is queued. Otherwise a dial that is next may have its
    /// share of the limit, or one parcel of any size: what other dials have within their quantum does not count against
    /// that parcel.
    pub(super) fn has_room(&self, id: FlowId, cost: usize, limit: usize, is_next: bool) -> bool {
        let queued = self.by_id.get(&id).map_or(0, |flow| flow.bytes);
        let (more, all) = (queued + cost, self.data + cost);
        if more <= QUANTUM && all <= limit.saturating_mul(2) {
            return true;
        }
        if !is_next {
            return false;
        }
        let free = limit.saturating_sub(self.data);
        let has_share = all <= limit && more <= free.saturating_mul(SHARE);
        has_share || (queued == 0 && self.takes_first(limit))
    }

    /// Returns whether a dial that has nothing queued may queue one parcel of any size. Small amounts leave room for
    /// that.
    pub(super) fn takes_first(&self, limit: usize) -> bool {
        self.beyond <= limit && self.data <= limit.saturating_mul(2)
    }

    /// Queues data of a dial.
    pub(super) fn push(&mut self, id: FlowId, parcel: Parcel) {
        let cost = parcel.cost();
        let new = &mut self.new;
        let flow = self.by_id.entry(id).or_insert_with(|| {
            new.push_back(id);
            Flow {
                deficit: QUANTUM,
                ..Flow::default()
            }
        });
        self.beyond = self.beyond.saturating_sub(flow.beyond());
        flow.bytes += cost;
        self.beyond += flow.beyond();
        self.data += cost;
        self.len += 1;
        match parcel {
            Parcel::Accept(_) => flow.accepts.push_back(parcel),
            parcel => flow.parcels.push_back(parcel),
        }
    }

    /// Queues a notice behind the data of its dial; gives the notice back if no data is queued.
    pub(super) fn push_notice(&mut self, id: FlowId, notice: Parcel) -> Result<(), Parcel> {
        match self.by_id.get_mut(&id).filter(|flow| flow.len() > 0) {
            None => Err(notice),
            Some(flow) => {
                self.notices += notice.cost();
                self.len += 1;
                flow.parcels.push_back(notice);
                Ok(())
            }
        }
    }

    /// Takes the next parcel, if it has at most `slots` messages. Adds to `woken` the pushes that wait for room behind
    /// it.
    pub(super) fn pop(&mut self, slots: usize, woken: &mut Vec<Waker>) -> Option<Parcel> {
        loop {
            let is_new = !self.new.is_empty();
            let turns = if is_new { &mut self.new } else { &mut self.old };
            let id = *turns.front()?;
            let is_alone = self.by_id.len() == 1;
            let flow = self.by_id.get_mut(&id);
            let Some(flow) = flow.filter(|flow| is_new || flow.len() > 0) else {
                turns.pop_front();
                self.by_id.remove(&id);
                continue;
            };
            match flow.next() {
                Some(next) if next.cost() <= flow.deficit || is_alone => {
                    if next.messages() > slots {
                        return None;
                    }
                }
                next => {
                    // A dial whose queue is empty for a moment becomes an old one, so that it is not new again at once.
                    if next.is_some() {
                        flow.deficit += QUANTUM;
                    }
                    turns.pop_front();
                    self.old.push_back(id);
                    continue;
                }
            }
            let parcel = flow.pop()?;
            let cost = parcel.cost();
            flow.deficit = flow.deficit.saturating_sub(cost);
            if let Parcel::Notice(_) = parcel {
                self.notices = self.notices.saturating_sub(cost);
            } else {
                self.beyond = self.beyond.saturating_sub(flow.beyond());
                flow.bytes = flow.bytes.saturating_sub(cost);
                self.beyond += flow.beyond();
                self.data = self.data.saturating_sub(cost);
            }
            self.len = self.len.saturating_sub(1);
            woken.extend(flow.waiting.drain(..).map(|(_, waker)| waker));
            self.tidy();
            return Some(parcel);
        }
    }

    /// Forgets all queues when all are empty.
    fn tidy(&mut self) {
        if self.len > 0 {
            return;
        }
        self.by_id.clear();
        for turns in [&mut self.new, &mut self.old] {
            turns.clear();
            turns.shrink_to(KEPT_SLOTS);
        }
    }

    /// Removes the queue of a dial and returns its parcels, in the order of writing. Adds to `woken` the pushes that
    /// wait for room behind them.
    pub(super) fn remove(&mut self, id: FlowId, woken: &mut Vec<Waker>) -> Vec<Parcel> {
        let Some(mut flow) = self.by_id.remove(&id) else {
            return Vec::new();
        };
        self.new.retain(|other| *other != id);
        self.old.retain(|other| *other != id);
        self.data = self.data.saturating_sub(flow.bytes);
        self.beyond = self.beyond.saturating_sub(flow.beyond());
        self.len = self.len.saturating_sub(flow.len());
        woken.extend(flow.waiting.drain(..).map(|(_, waker)| waker));
        self.tidy();
        let parcels: Vec<_> = flow.accepts.into_iter().chain(flow.parcels).collect();
        let all = parcels.iter();
        let notices = all.filter(|parcel| matches!(parcel, Parcel::Notice(_)));
        self.notices = self.notices.saturating_sub(notices.map(Parcel::cost).sum());
        parcels
    }

    /// Registers a push to be woken when a parcel of the dial is taken; returns `false` if nothing of the dial is
    /// queued.
    pub(super) fn wait(&mut self, id: FlowId, ticket: Ticket, waker: &Waker) -> bool {
        let Some(flow) = self.by_id.get_mut(&id).filter(|flow| flow.len() > 0) else {
            return false;
        };
        match flow.waiting.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, old)) => old.clone_from(waker),
            None => flow.waiting.push((ticket, waker.clone())),
        }
        true
    }

    /// Forgets a push that does not wait for a dial any more.
    pub(super) fn forget(&mut self, id: FlowId, ticket: Ticket) {
        if let Some(flow) = self.by_id.get_mut(&id) {
            flow.waiting.retain(|(other, _)| *other != ticket);
        }
    }

    /// Removes and returns the wakers of all pushes that wait.
    pub(super) fn drain_waiting(&mut self) -> Vec<Waker> {
        let flows = self.by_id.values_mut();
        let waiting = flows.flat_map(|flow| flow.waiting.drain(..));
        waiting.map(|(_, waker)| waker).collect()
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.by_id.len() + self.new.capacity() + self.old.capacity()
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
