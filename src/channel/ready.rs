//! The queue through which connections tell their link that there is something to do.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Waker,
};

use futures::task::AtomicWaker;

use crate::sync::lock;

/// The channels for which a link has something to do, and the waker of the link's task.
#[derive(Debug)]
pub(crate) struct Ready<C> {
    queues: Mutex<Queues<C>>,
    waker: AtomicWaker,
}

/// Each channel is at most once in each queue.
#[derive(Debug)]
struct Queues<C> {
    /// The channels that have something to send.
    sending: VecDeque<Arc<C>>,
    /// The channels that may have to grant something.
    granting: VecDeque<Arc<C>>,
}

impl<C> Default for Ready<C> {
    fn default() -> Self {
        Self {
            queues: Mutex::new(Queues {
                sending: VecDeque::new(),
                granting: VecDeque::new(),
            }),
            waker: AtomicWaker::new(),
        }
    }
}

impl<C> Ready<C> {
    /// Passes the channels that became ready to `send`, and appends those that may have to grant to `granting`.
    pub(super) fn take(&self, send: impl FnMut(Arc<C>), granting: &mut VecDeque<Arc<C>>) {
        let mut queues = lock(&self.queues);
        granting.append(&mut queues.granting);
        let sending = std::mem::take(&mut queues.sending);
        // Lock order: a channel locks itself first and these queues second. `send` locks channels, so the queues are
        // unlocked here.
        drop(queues);
        sending.into_iter().for_each(send);
    }

    pub(super) fn push_sending(&self, channel: Arc<C>) {
        lock(&self.queues).sending.push_back(channel);
        self.wake();
    }

    pub(super) fn push_granting(&self, channel: Arc<C>) {
        lock(&self.queues).granting.push_back(channel);
        self.wake();
    }

    /// Sets the waker of the link's task.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Wakes the link's task.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}
