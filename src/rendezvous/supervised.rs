//! Tasks whose end is noticed.

#[cfg(feature = "rendezvous")]
use std::time::Duration;
use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::task::{AbortHandle, JoinError};

use super::house::House;

/// The pause before a task that has panicked is started again.
#[cfg(feature = "rendezvous")]
const PAUSE: Duration = Duration::from_secs(1);

/// Why a server does not run any more, although nobody has stopped it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// A task of the server panicked, with this message.
    #[error("a task of the rendezvous panicked: {0:?}")]
    Panicked(Arc<str>),
    /// The server's Tokio runtime was shut down.
    #[error("the Tokio runtime of the rendezvous was shut down")]
    Aborted,
}

impl From<JoinError> for EndError {
    fn from(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => Self::Panicked(message(&*panic).into()),
            Err(_) => Self::Aborted,
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

/// A task whose end any number of callers can wait for.
pub(super) struct Supervised {
    abort: AbortHandle,
    end: Shared<BoxFuture<'static, Result<(), EndError>>>,
}

impl Supervised {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        let task = tokio::spawn(task);
        Self {
            abort: task.abort_handle(),
            end: task.map(|end| end.map_err(EndError::from)).boxed().shared(),
        }
    }

    /// Waits for the end of the task. Cancel safe.
    pub(super) async fn end(&self) -> Result<(), EndError> {
        self.end.clone().await
    }

    pub(super) fn abort(&self) {
        self.abort.abort();
    }
}

impl fmt::Debug for Supervised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised").finish_non_exhaustive()
    }
}

/// Runs a task that lasts as long as the server. If it panics, starts it again after a second. The server goes on.
#[cfg(feature = "rendezvous")]
pub(super) async fn again_after_panics<F: Future<Output = ()>>(
    house: &House,
    begin: impl Fn() -> F,
) {
    while let Err(panic) = AssertUnwindSafe(begin()).catch_unwind().await {
        house.count_panic();
        tracing::error!(panic = ?message(&*panic), "a task of the server panicked and is started again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Serves one connection. A panic ends that connection and nothing else. What the connection held is given back when it
/// is dropped.
///
/// This is not an `async fn`, because that would have room for `serving` twice.
pub(super) fn contained(
    house: Arc<House>,
    serving: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let served = AssertUnwindSafe(serving).catch_unwind();
    served.map(move |served| {
        if let Err(panic) = served {
            house.count_panic();
            tracing::error!(panic = ?message(&*panic), "a connection ended with a panic");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_task_is_told_as_often_as_it_is_asked_for() {
        let task = Supervised::spawn(async {
            tokio::task::yield_now().await;
            panic!("number {}", 7);
        });
        let told = Err(EndError::Panicked("number 7".into()));
        let (one, other) = futures::future::join(task.end(), task.end()).await;
        assert_eq!(
            [one, other, task.end().await],
            [(); 3].map(|()| told.clone())
        );

        let task = Supervised::spawn(std::future::pending());
        task.abort();
        assert_eq!(task.end().await, Err(EndError::Aborted));

        let task = Supervised::spawn(std::future::ready(()));
        assert_eq!(task.end().await, Ok(()));
    }

    #[cfg(feature = "rendezvous")]
    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_again_and_the_server_goes_on() {
        let house = House::new(crate::rendezvous::Config::default());
        let begun = std::cell::Cell::new(0);
        let start = tokio::time::Instant::now();
        again_after_panics(&house, || async {
            begun.set(begun.get() + 1);
            tokio::task::yield_now().await;
            assert!(begun.get() > 2, "number {}", begun.get());
        })
        .await;
        assert_eq!((begun.get(), house.panics()), (3, 2));
        assert_eq!(start.elapsed(), PAUSE * 2);
    }
}
