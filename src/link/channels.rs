//! The channels of one open link.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Mailbox, channel::Channel};
use crate::protocol::{event::DialId, stream::StreamError};

/// The channels of a link, which end with it.
#[derive(Default)]
pub(super) struct Channels {
    open: HashMap<DialId, Arc<Channel>>,
    /// Those with something to send, served in turn.
    ready: VecDeque<Arc<Channel>>,
    /// Those whose end is with the socket, but not flushed.
    ending: Vec<Arc<Channel>>,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn get(&self, dial_id: &str) -> Option<&Arc<Channel>> {
        self.open.get(dial_id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Channel>> {
        self.open.values()
    }

    pub(super) fn insert(&mut self, channel: Arc<Channel>) {
        self.open.insert(channel.dial_id().clone(), channel);
    }

    /// Forgets the channel if nothing more comes or goes there.
    pub(super) fn forget_if_over(&mut self, channel: &Channel) {
        if channel.is_over() {
            self.open.remove(channel.dial_id());
        }
    }

    /// Gives the channels that became ready a turn, behind those that have one.
    pub(super) fn take_ready(&mut self, mailbox: &Mailbox) {
        mailbox.take_ready(&mut self.ready);
    }

    /// The channel whose turn it is.
    pub(super) fn pop_ready(&mut self) -> Option<Arc<Channel>> {
        self.ready.pop_front()
    }

    /// Gives a channel that has had its turn another one.
    pub(super) fn push_ready(&mut self, channel: Arc<Channel>) {
        self.ready.push_back(channel);
    }

    /// The end of the channel's direction is with the socket.
    pub(super) fn push_ending(&mut self, channel: Arc<Channel>) {
        self.ending.push(channel);
    }

    pub(super) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// The socket has all that was given to it.
    pub(super) fn handle_flushed(&mut self) {
        for channel in self.ending.drain(..) {
            channel.flushed();
        }
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for channel in self.open.values().chain(&self.ending) {
            channel.reset(StreamError::LinkLost);
        }
    }
}
