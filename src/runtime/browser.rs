//! The browser's: of a page or of a worker.
//!
//! What belongs to JavaScript stays in tasks of its own, so that all that is handed out may be sent to other threads, as a
//! swarm asks for.

mod changes;
mod soon;

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _,
    channel::oneshot,
    future::{Either, select},
};
use futures_timer::Delay;
use wasm_bindgen_futures::spawn_local;
use web_time::Instant;

pub(crate) use self::{
    changes::{Changes, is_hidden},
    soon::soon,
};
use super::Elapsed;

/// Browsers take a longer time than some 24 days for none at all.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// A timer may fire so much too late, the milliseconds that the browser counts included: setting a new one costs more.
const LATE: Duration = Duration::from_millis(2);

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Where tasks are spawned; there is always one.
pub(crate) struct Handle;

impl Handle {
    /// # Errors
    /// None.
    pub(crate) fn try_current() -> Result<Self, Infallible> {
        Ok(Self)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn_local(task);
    }
}

/// A timer that is set anew with each poll.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Armed>);

#[derive(Debug)]
struct Armed {
    at: Instant,
    /// The task of the timer ends when this is dropped.
    fired: oneshot::Receiver<()>,
}

impl Timer {
    /// Ready at this time; until then the task is woken for it.
    pub(crate) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = now();
            if at <= now {
                return Poll::Ready(());
            }
            // One that fires early is as good: it is set anew then.
            let armed = match self.0.take() {
                Some(armed) if armed.at <= at + LATE => armed,
                _ => arm(at, now),
            };
            let armed = self.0.insert(armed);
            match armed.fired.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => self.0 = None,
            }
        }
    }

    /// Has the task woken for nothing any more.
    pub(crate) fn stop(&mut self) {
        self.0 = None;
    }
}

fn arm(at: Instant, now: Instant) -> Armed {
    let (mut fire, fired) = oneshot::channel();
    // The browser counts whole milliseconds, and cuts off what is less.
    let time = at.saturating_duration_since(now) + Duration::from_micros(999);
    let time = time.min(LONGEST);
    spawn_local(async move {
        // In a page that is hidden for long, a timer that was set by a timer, and so on, fires once a minute. One that a
        // message has set is a second late at most.
        let _ = soon().await;
        let first = select(Delay::new(time), fire.cancellation()).await;
        if matches!(first, Either::Left(_)) {
            // It may have been dropped at this moment.
            let _ = fire.send(());
        }
    });
    Armed {
        at: now + time,
        fired,
    }
}

pub(crate) async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut timer = Timer::default();
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        timer.poll(at, cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Waits; always `true`.
pub(crate) async fn sleep_apart(at: Instant) -> bool {
    let mut timer = Timer::default();
    std::future::poll_fn(|cx| timer.poll(at, cx)).await;
    true
}
