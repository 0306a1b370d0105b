//! Holds back the answer to a join until other links have been told of the newcomer.
//!
//! The npm server has this order, and the tests of its clients rely on it. Each link that is to be told first holds a
//! [`Token`]. The gate opens when the last token is dropped, or when that takes too long.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::outbox::Outbox;

/// Holds back the answer to one join until it is opened.
#[derive(Debug)]
pub(super) struct Gate {
    tokens: AtomicUsize,
    is_open: AtomicBool,
    /// The outbox in which the answer waits.
    outbox: Weak<Outbox>,
}

impl Gate {
    /// Creates a closed gate with its first token.
    pub(super) fn new(outbox: &Arc<Outbox>) -> (Arc<Self>, Token) {
        let gate = Arc::new(Self {
            tokens: AtomicUsize::new(1),
            is_open: AtomicBool::new(false),
            outbox: Arc::downgrade(outbox),
        });
        (gate.clone(), Token(gate))
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Opens the gate, so that the answer is sent. This locks the outbox in which the answer waits, so the caller must
    /// not hold the lock of any outbox.
    pub(super) fn open(&self) {
        if !self.is_open.swap(true, Ordering::AcqRel)
            && let Some(outbox) = self.outbox.upgrade()
        {
            outbox.wake_writer();
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
