//! The channels of one open link.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use web_time::Instant;

use super::{
    Channel, Ready,
    pledges::Pledges,
    turns::{Ended, Turn, Turns},
};
use crate::protocol::{
    credit::Grant,
    event::{DialId, Event, StreamEvent},
    stream::StreamError,
};

/// The channels of a link. They end with the link.
#[derive(Default)]
pub(crate) struct Channels {
    open: HashMap<DialId, Arc<Channel>>,
    /// The channels that have something to send.
    turns: Turns<Arc<Channel>>,
    /// The channels that may have to grant something.
    granting: VecDeque<Arc<Channel>>,
    pledges: Pledges,
    /// The channels whose end is with the socket but not flushed.
    ending: Vec<Arc<Channel>>,
}

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn get(&self, dial_id: &str) -> Option<&Arc<Channel>> {
        self.open.get(dial_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.open.values()
    }

    pub(crate) fn insert(&mut self, channel: Arc<Channel>) {
        self.open.insert(channel.dial_id().clone(), channel);
    }

    /// Forgets the channel if nothing more comes or goes on it.
    pub(crate) fn forget_if_over(&mut self, channel: &Channel) {
        if channel.is_over() && self.open.remove(channel.dial_id()).is_some() {
            channel.forgotten(&mut self.pledges);
        }
    }

    /// Makes the channels give back the credit that they do not need. The caller calls this every few seconds. Gives up
    /// the channels whose peer has kept credit that it does not need for `limit` calls.
    pub(crate) fn give_back(&mut self, now: Instant, limit: Option<u32>) {
        for channel in self.open.values() {
            let times = channel.give_back(now, &mut self.pledges);
            if limit.is_some_and(|limit| times >= limit) {
                channel.abort(StreamError::CreditKept, "credit was kept but not used");
            }
        }
    }

    /// Takes the channels that have something to send or to grant from the queue.
    pub(crate) fn take_ready(&mut self, ready: &Ready<Channel>) {
        let turns = &mut self.turns;
        let wait = |channel: Arc<Channel>| {
            let (last, bytes) = channel.next_turn();
            turns.push(channel, last, bytes);
        };
        ready.take(wait, &mut self.granting);
    }

    /// Returns the next grant as a text frame. The total pledge of each connection is at most `most`.
    pub(crate) fn poll_grant(&mut self, now: Instant, most: u64) -> Option<String> {
        while let Some(channel) = self.granting.pop_front() {
            if let Some(grant) = channel.poll_grant(now, &mut self.pledges, most) {
                return Some(accept(&channel, grant));
            }
        }
        None
    }

    /// Returns the channel whose turn is next.
    pub(crate) fn next_turn(&mut self) -> Option<(Arc<Channel>, Turn)> {
        self.turns.pop()
    }

    /// Queues a channel again after its turn.
    pub(crate) fn end_turn(&mut self, channel: Arc<Channel>, turn: Ended, next_bytes: usize) {
        self.turns.push(channel, turn, next_bytes);
    }

    /// Notes that the end of the channel's direction is with the socket.
    pub(crate) fn push_ending(&mut self, channel: Arc<Channel>) {
        self.ending.push(channel);
    }

    pub(crate) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Handles that the socket has written everything it was given.
    pub(crate) fn handle_flushed(&mut self) {
        for channel in self.ending.drain(..) {
            channel.flushed();
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for channel in self.open.values().chain(&self.ending) {
            channel.reset(StreamError::LinkLost);
            // The channel may still be in the queue, for the next link.
            channel.forgotten(&mut self.pledges);
        }
    }
}

/// Returns the event that grants something to the sender of the stream that `channel` receives.
fn accept(channel: &Channel, grant: Grant) -> String {
    let event = Event::Stream {
        stream: channel.stream(channel.side().other()),
        event: StreamEvent::Accept(Some(grant)),
    };
    event.encode(None)
}
