//! Many connections on one link, one of which is not read.

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
    let mut all_read = vec![rate(&bulk, plan).await];
    let mut beside = Vec::new();
    // In turns, because the speed of the machine varies, and because streams become faster while they run.
    for _ in 0..plan.unread_turns {
        let unread = Unread::start(dialer).await?;
        beside.push(rate(&bulk, plan).await);
        unread.end().await?;
        all_read.push(rate(&bulk, plan).await);
    }
    bulk.end().await?;
    Ok(vec![
        (Metric::AllRead, between(&all_read)),
        (Metric::BesideUnread, mean(&beside)),
    ])
}

/// Returns the rate of the bulk in one turn, in MiB/s. Waits first until the bulk has adapted to the change and an
/// unread stream is full.
async fn rate(bulk: &Bulk, plan: &Plan) -> f64 {
    sleep(plan.window / 3).await;
    let ((), read) = bulk.during(sleep(plan.unread)).await;
    read.rate()
}

/// Returns the rate expected for the turns between these ones. The first and the last are next to one turn, the
/// others to two.
fn between(rates: &[f64]) -> f64 {
    let expected: Vec<f64> = rates.windows(2).map(mean).collect();
    mean(&expected)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A stream that is always full. The other end reads it when this is ended or dropped.
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

    /// Has the stream read to its end.
    ///
    /// # Errors
    /// If the connection was reset meanwhile.
    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.release);
        while let Some(ended) = self.writer.join_next().await {
            ended?.map_err(|error| format!("the unread stream was reset: {error}"))?;
        }
        Ok(())
    }
}

/// Makes the other end read when it is dropped, so that the other end never waits for ever.
struct Release(Arc<AtomicU64>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}
