//! Eight senders to one receiver, each on a link of its own. One of them sends little.

use super::{Bulk, Figures, Metric, Pings, beside::beside, percentile};
use crate::{Result, lineup::Pair, plan::Plan};

pub const SENDERS: usize = 8;

pub async fn measure(pair: &Pair, plan: &Plan) -> Result<Figures> {
    let mut others = Vec::new();
    for _ in 1..SENDERS {
        others.push(pair.another().await?);
    }
    let mut pings = Pings::open(&pair.dialer).await?;
    let mut alone = pings.times(plan.pings).await?;
    let bulk = Bulk::start(&others).await?;
    let [p50, p99, rate] = beside(&mut pings, bulk, plan).await?;
    pings.end().await?;
    Ok(vec![
        (Metric::SenderAloneP50, percentile(&mut alone, 0.5)),
        (Metric::SenderP50, p50),
        (Metric::SenderP99, p99),
        (Metric::SendersBulk, rate),
    ])
}
