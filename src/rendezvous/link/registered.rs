//! Whether the task of a link may sleep.

use std::task::Poll;

/// A proof that the task is woken when there is something to do again. It comes only out of a poll that is pending, so
/// a link cannot go to sleep without a waker. It is valid for the poll of the link in which it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Registered(());

impl Registered {
    /// Returns the value of a poll, or the proof that the task is woken when the poll may be ready.
    pub(super) fn unless_ready<T>(poll: Poll<T>) -> Result<T, Self> {
        match poll {
            Poll::Ready(value) => Ok(value),
            Poll::Pending => Err(Self(())),
        }
    }
}

/// The outcome of a part of a link's work.
#[derive(Debug)]
pub(super) enum Step {
    /// There may be more to do now.
    Again,
    /// There is nothing to do until the task is woken.
    Sleep(Registered),
}

impl Step {
    /// Returns that there may be more to do, for example to write, if something was done; otherwise that there is not.
    pub(super) fn after(done: usize, registered: Registered) -> Self {
        match done {
            0 => Self::Sleep(registered),
            _ => Self::Again,
        }
    }
}
