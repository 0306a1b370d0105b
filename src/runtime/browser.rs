//! The clock, timers and tasks of the browser, in a page or in a worker.
//!
//! JavaScript values stay in tasks of their own. So all types handed out can be sent to other threads, as a swarm
//! requires.

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

/// The longest time of a browser timer. Browsers treat more than about 24 days as zero.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The time by which a timer may fire too late, including the rounding to the browser's milliseconds. Setting a new
/// timer costs more.
const LATE: Duration = Duration::from_millis(2);

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The place where tasks are spawned. In a browser there always is one.
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

/// A timer that each poll sets again.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Armed>);

#[derive(Debug)]
struct Armed {
    at: Instant,
    /// Dropping this ends the timer's task.
    fired: oneshot::Receiver<()>,
}

impl Timer {
    /// Returns ready at this time. Until then it has the task woken for it.
    pub(crate) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = now();
            if at <= now {
                return Poll::Ready(());
            }
            // A timer that fires early also serves: it is then set again.
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

    /// Stops the timer, so that the task is no longer woken for it.
    pub(crate) fn stop(&mut self) {
        self.0 = None;
    }
}

fn arm(at: Instant, now: Instant) -> Armed {
    let (mut fire, fired) = oneshot::channel();
    // The browser counts whole milliseconds and truncates fractions.
    let time = at.saturating_duration_since(now) + Duration::from_micros(999);
    let time = time.min(LONGEST);
    spawn_local(async move {
        // In a page that has been hidden for long, a timer set by a chain of timers fires only once a minute. A timer
        // set by a message is at most a second late.
        let _ = soon().await;
        let first = select(Delay::new(time), fire.cancellation()).await;
        if matches!(first, Either::Left(_)) {
            // The receiver may have been dropped at this moment.
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

/// Waits until this time. Always returns `true`.
pub(crate) async fn sleep_apart(at: Instant) -> bool {
    let mut timer = Timer::default();
    std::future::poll_fn(|cx| timer.poll(at, cx)).await;
    true
}
