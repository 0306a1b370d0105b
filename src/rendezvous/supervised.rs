//! Tasks whose end is noticed.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::task::{AbortHandle, JoinError};

use super::house::House;

/// Why a server does not run any more, though nobody has stopped it.
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

/// A task that anybody may wait for.
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

/// Serves one connection. A panic ends that and nothing else; what the connection held is given back as it is dropped.
///
/// No `async fn`: that would have room for `serving` twice.
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
}
