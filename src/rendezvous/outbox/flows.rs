//! What waits for one link of the data of its dials: a queue for each dial, in fair turns. No IO.
//!
//! Deficit round robin by bytes with the new queues before the old ones, as in FQ-CoDel (RFC 8290, section 4.2): a
//! dial that sends little is served at once, beside however many that send much. A queue is there only while something waits
//! in it.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
};

use super::{KEPT_SLOTS, Parcel, Ticket};
use crate::rendezvous::registry::FlowId;

/// What a dial may have written at each of its turns, in bytes, and what it may always have queued: an item of
/// 16 KiB with all that it costs. Sixteen dials take a millisecond for a round of items of 128 KiB, so
/// these have to save up several turns for each.
pub(super) const QUANTUM: usize = 17 * 1024;
/// How many times as much as is free a dial may have queued: eight ninths of all when it is alone.
const SHARE: usize = 8;

/// What the queue of one dial takes, in bytes, before there is much in it.
const FLOW: usize = 512;

/// What waits of one dial.
#[derive(Debug, Default)]
struct Flow {
    /// These go first.
    accepts: VecDeque<Parcel>,
    parcels: VecDeque<Parcel>,
    /// Without notices.
    bytes: usize,
    /// What may be written before it is the next one's turn.
    deficit: usize,
    /// Who waits for room behind what is queued.
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
    /// Those that have had no turn yet.
    new: VecDeque<FlowId>,
    /// The others, in the order of their turns; some may be empty by now.
    old: VecDeque<FlowId>,
    /// How many parcels there are.
    len: usize,
    /// How many bytes they have, without notices.
    data: usize,
    /// How many of these are beyond the quantum of their dial.
    beyond: usize,
    /// How many bytes the notices have, which wait for no room.
    notices: usize,
}

impl Flows {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes wait, with those of the queues themselves.
    pub(super) fn memory(&self) -> usize {
        self.data + self.notices + self.by_id.len() * FLOW
    }

    /// How many bytes wait that have waited for room.
    pub(super) fn data(&self) -> usize {
        self.data
    }

    /// How many bytes wait that the server itself has put in.
    pub(super) fn notices(&self) -> usize {
        self.notices
    }

    /// Whether a dial may have so much more queued, where `limit` is for all of them. `is_next` is whether nobody
    /// has waited for longer.
    ///
    /// What is small always finds room, until there is twice the limit. Otherwise a dial may have its share of the limit, or
    /// one parcel of any size when it is next: what others have within their quantum is not in its way.
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

    /// Whether a dial that has nothing queued may have one parcel of any size. What is small leaves room for that.
    pub(super) fn takes_first(&self, limit: usize) -> bool {
        self.beyond <= limit && self.data <= limit.saturating_mul(2)
    }

    /// Puts data in.
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

    /// Puts a notice in behind the data of its dial; gives it back if there is none.
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

    /// Takes what is next, if it has so many messages at most. Who waits for room behind it is to be woken.
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
                    // One that had nothing for a moment is not new again at once.
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

    /// Forgets those that are empty when all are.
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

    /// Takes all that waits of a dial, in no order. Who waits for room behind it is to be woken.
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

    /// Has somebody woken when something of a dial is taken; false if nothing of it waits.
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

    /// Somebody does not wait for a dial any more.
    pub(super) fn forget(&mut self, id: FlowId, ticket: Ticket) {
        if let Some(flow) = self.by_id.get_mut(&id) {
            flow.waiting.retain(|(other, _)| *other != ticket);
        }
    }

    /// All who wait, to be woken.
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
