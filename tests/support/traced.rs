//! The log of one test among others in its process.

use std::sync::LazyLock;

use tracing::{
    Dispatch, Subscriber,
    subscriber::{DefaultGuard, NoSubscriber, set_default},
};

/// Sends what this thread logs to `subscriber`, until the returned guard is dropped. A test runs on its thread only.
///
/// tracing remembers for each log statement whether anybody wants it. As long as there is one subscriber in the process,
/// it asks only the thread that reaches the statement first, which may belong to another test that wants nothing. A
/// second subscriber makes it ask all.
pub fn traced(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
    LazyLock::force(&SECOND);
    set_default(subscriber)
}
