//! The clock, timers and tasks of Tokio, so that tests can pause the time.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

pub(crate) use tokio::runtime::Handle;
use tokio::{task::JoinSet, time::Sleep};

use super::{Changed, Elapsed};

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A timer that each poll sets again. It holds nothing before the first poll, which needs a runtime.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns ready at this time. Until then it has the task woken for it.
    ///
    /// # Panics
    /// Outside of a Tokio runtime with time.
    pub(crate) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.into();
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }

    /// Stops the timer, so that the task is no longer woken for it.
    pub(crate) fn stop(&mut self) {
        self.0 = None;
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

pub(crate) async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let result = tokio::time::timeout_at(at.into(), future).await;
    result.map_err(|_| Elapsed)
}

/// Waits in a separate task, so that in a runtime without timers the panic happens there and not in the swarm's task.
/// Returns `false` after such a panic.
pub(crate) async fn sleep_apart(at: Instant) -> bool {
    // Dropping the set with this future ends the wait.
    let mut waiting = JoinSet::new();
    waiting.spawn(tokio::time::sleep_until(at.into()));
    matches!(waiting.join_next().await, Some(Ok(())))
}

/// What a browser reports about the network and the page. Natively there is nothing to report.
#[derive(Default)]
pub(crate) struct Changes(());

impl Changes {
    /// Returns what has changed since the last call.
    pub(crate) fn poll(&mut self, _: &mut Context<'_>) -> Option<Changed> {
        None
    }
}
