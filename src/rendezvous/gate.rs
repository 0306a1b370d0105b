//! Holds the answer to a join back until the others have been told of the newcomer.
//!
//! The npm server has that order, and the tests of its clients rely on it. Each link that is to be told first
//! holds a [`Token`]; the gate opens when the last of them is gone, or when it has taken too long.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::outbox::Outbox;

#[derive(Debug)]
pub(super) struct Gate {
    tokens: AtomicUsize,
    is_open: AtomicBool,
    /// Where the answer waits.
    outbox: Weak<Outbox>,
}

impl Gate {
    /// A closed one, with its first token.
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

    /// Lets the answer through. Locks the outbox where it waits, so no other outbox may be locked.
    pub(super) fn open(&self) {
        if !self.is_open.swap(true, Ordering::AcqRel)
            && let Some(outbox) = self.outbox.upgrade()
        {
            outbox.wake_writer();
        }
    }
}

/// Keeps a gate closed; dropping the last one opens it.
#[derive(Debug)]
pub(super) struct Token(Arc<Gate>);

impl Token {
    /// Whether it is too late: the gate was opened without waiting for this one.
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
