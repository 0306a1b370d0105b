//! Many connections on one link, one of which nobody reads.

use std::{
    iter::repeat_n,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{task::JoinSet, time::sleep};

use super::{Bulk, Figures, Metric, bulk::write_until};
use crate::{
    Result,
    plan::Plan,
    serve::{self, Request},
    subjects::Dialer,
};

pub async fn measure(dialer: &Dialer, plan: &Plan) -> Result<Figures> {
    let bulk = Bulk::start(repeat_n(dialer, plan.streams - 1)).await?;
    sleep(plan.window / 3).await;
    let ((), without) = bulk.during(sleep(plan.window)).await;
    let unread = Unread::start(dialer).await?;
    // Until it takes no more.
    sleep(plan.window / 3).await;
    let ((), beside) = bulk.during(sleep(plan.unread)).await;
    unread.end().await?;
    // Before and after, because streams become faster while they run.
    sleep(plan.window / 3).await;
    let ((), after) = bulk.during(sleep(plan.window)).await;
    bulk.end().await?;
    Ok(vec![
        (Metric::AllRead, (without.rate() + after.rate()) / 2.0),
        (Metric::BesideUnread, beside.rate()),
    ])
}

/// A stream that is always full, and that the other end reads when this is ended or dropped.
struct Unread {
    stop: Arc<AtomicBool>,
    release: Release,
    writer: JoinSet<Result<()>>,
}

impl Unread {
    async fn start(dialer: &Dialer) -> Result<Self> {
        let number = serve::next_counter();
        let release = Release(serve::counter(number));
        let stream = dialer.open(Request::Nothing(number)).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writer = JoinSet::new();
        writer.spawn(write_until(stream, stop.clone()));
        Ok(Self {
            stop,
            release,
            writer,
        })
    }

    /// Has it read to its end.
    ///
    /// # Errors
    /// If the connection was reset meanwhile.
    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.release);
        while let Some(ended) = self.writer.join_next().await {
            ended?.map_err(|error| format!("what nobody read was reset: {error}"))?;
        }
        Ok(())
    }
}

/// Has the other end read when it is dropped, so that it never waits for ever.
struct Release(Arc<AtomicU64>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}
