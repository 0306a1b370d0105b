//! Round trips beside bulk on the same link or connection.

use std::iter::repeat_n;

use tokio::time::sleep;

use super::{Bulk, Figures, Metric, Pings, percentile};
use crate::{Result, lineup::Id, plan::Plan, subjects::Dialer};

/// The number of bulk streams that count as several: dials of a link, or substreams of a connection.
pub const DIALS: usize = 16;
pub const SUBSTREAMS: usize = 8;

const ONE: [Metric; 3] = [
    Metric::BesideOneP50,
    Metric::BesideOneP99,
    Metric::BesideOneBulk,
];
const SEVERAL: [Metric; 3] = [
    Metric::BesideSeveralP50,
    Metric::BesideSeveralP99,
    Metric::BesideSeveralBulk,
];

pub async fn measure(dialer: &Dialer, id: Id, plan: &Plan) -> Result<Figures> {
    let mut pings = Pings::open(dialer).await?;
    let mut alone = pings.times(plan.pings).await?;
    let mut figures = vec![(Metric::AloneP50, percentile(&mut alone, 0.5))];
    let several = if id.is_raw() { DIALS } else { SUBSTREAMS };
    for (streams, metrics) in [(1, ONE), (several, SEVERAL)] {
        let bulk = Bulk::start(repeat_n(dialer, streams)).await?;
        figures.extend(
            metrics
                .into_iter()
                .zip(beside(&mut pings, bulk, plan).await?),
        );
    }
    pings.end().await?;
    Ok(figures)
}

/// Returns the median and the 99th percentile of the round trips, and the rate of the bulk meanwhile in MiB/s.
pub async fn beside(pings: &mut Pings, bulk: Bulk, plan: &Plan) -> Result<[f64; 3]> {
    // Wait until the buffers on the way are full.
    sleep(plan.window / 3).await;
    let (times, read) = bulk.during(pings.times_within(plan.window)).await;
    bulk.end().await?;
    // Round trips beside a stalled stream would be too easy.
    if read.has_starved() {
        return Err("a bulk stream stalled".into());
    }
    let mut times = times?;
    let p50 = percentile(&mut times, 0.5);
    Ok([p50, percentile(&mut times, 0.99), read.rate()])
}
