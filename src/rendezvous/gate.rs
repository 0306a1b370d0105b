//! Holds back the answer to a join until other links have been told of the newcomer.
//!
//! The npm server has this order, and the tests of its clients rely on it. Each link that is to be told first holds a
//! [`Token`]. The gate opens when the last token is dropped, or when that takes too long.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The queue in which an answer waits.
pub(super) trait Queue: fmt::Debug + Send + Sync {
    /// Wakes the task that writes what is queued. This locks the queue.
    fn wake_writer(&self);
}

/// Holds back the answer to one join until it is opened.
#[derive(Debug)]
pub(super) struct Gate {
    tokens: AtomicUsize,
    is_open: AtomicBool,
    /// The queue in which the answer waits.
    queue: Weak<dyn Queue>,
}

impl Gate {
    /// Creates a closed gate with its first token.
    pub(super) fn new<Q: Queue + 'static>(queue: &Arc<Q>) -> (Arc<Self>, Token) {
        let gate = Arc::new(Self {
            tokens: AtomicUsize::new(1),
            is_open: AtomicBool::new(false),
            queue: Arc::<Q>::downgrade(queue),
        });
        (gate.clone(), Token(gate))
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Opens the gate, so that the answer is sent. This locks the queue in which the answer waits, so the caller must
    /// not hold the lock of any queue.
    pub(super) fn open(&self) {
        if !self.is_open.swap(true, Ordering::AcqRel)
            && let Some(queue) = self.queue.upgrade()
        {
            queue.wake_writer();
        }
    }
}

/// Keeps a gate closed. The gate opens when the last token is dropped.
#[derive(Debug)]
pub(super) struct Token(Arc<Gate>);

impl Token {
    /// Returns whether this token is too late: the gate was opened without waiting for it.
    pub(super) fn is_late(&self) -> bool {
        self.0.is_open()
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        self.0.tokens.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.tokens.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.open();
        }
    }
}
