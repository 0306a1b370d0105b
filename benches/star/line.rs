//! Rates over a long line: some rows are measured at the same time, each behind a line of its own.

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use crate::{
    PATIENCE, Result,
    lineup::{Id, Pair, Servers},
    plan::Plan,
    results::Results,
    subjects::line::{BITS, DELAY},
    work::{Bulk, Figures, MIB, Metric, Pings, dials, percentile},
};

const MICROS_PER_MILLI: f64 = 1e3;

/// The number of rows that are measured at the same time. Each is limited by its line, which leaves processor time to
/// the others.
const AT_ONCE: usize = 4;
/// The minimum share of the line's rate that direct TCP reaches when the processors are not busy with something else.
const UNDISTURBED: f64 = 0.8;

/// Measures all rows in every round.
pub async fn measure(ids: &[Id], plan: &Plan, results: &mut Results) -> Result<()> {
    let needs_js = ids.iter().any(|id| id.needs_js());
    let servers = Servers::start(plan.with_js && needs_js).await?;
    let mut pairs = Vec::new();
    for id in ids {
        let pair = servers.far(*id).await;
        let pair = pair.map_err(|error| format!("{}, line: {error}", id.name()))?;
        pairs.extend(pair.map(|pair| (*id, pair)));
    }
    for round in 0..plan.line_rounds {
        for some in pairs.chunks(AT_ONCE) {
            at_once(some, round, plan, results).await;
        }
    }
    results.failed.extend(disturbed(results));
    Ok(())
}

async fn at_once(pairs: &[(Id, Pair)], round: usize, plan: &Plan, results: &mut Results) {
    let rows = pairs.iter().map(|(id, pair)| async {
        let patience = PATIENCE + plan.line_warm_up + plan.line;
        let measured = timeout(patience, row(pair, plan)).await;
        (*id, measured.unwrap_or_else(|_| Err("timed out".into())))
    });
    for (id, measured) in join_all(rows).await {
        match measured {
            Ok(figures) => results.add_all(round, id, figures),
            Err(error) => results.failed.push(format!("{}, line: {error}", id.name())),
        }
    }
}

/// Returns an error text if the figures of the long line are meaningless because the processors were busy.
fn disturbed(results: &Results) -> Option<String> {
    let taken = results.spread(Id::Tcp, Metric::LineBulk)?.median;
    let line = BITS as f64 / 8.0 / MIB;
    (taken < UNDISTURBED * line).then(|| {
        format!(
            "long line: direct TCP took {taken:.1} of {line:.1} MiB/s, so the processors were busy, and these \
             figures say nothing about lines"
        )
    })
}

async fn row(pair: &Pair, plan: &Plan) -> Result<Figures> {
    let dialer = &pair.dialer;
    let dial = dials(dialer, plan.line_dials).await?;
    let mut pings = Pings::open(dialer).await?;
    let mut alone = pings.cold(plan.line_pings).await?;
    let alone = percentile(&mut alone, 0.5) / MICROS_PER_MILLI;
    let least = 2.0 * DELAY.as_secs_f64() * 1e3;
    if alone < least {
        return Err(
            format!("a round trip took {alone:.1} ms, but the line alone takes {least}").into(),
        );
    }
    let bulk = Bulk::start([dialer]).await?;
    sleep(plan.line_warm_up).await;
    let (times, read) = bulk.during(pings.times_within(plan.line)).await;
    bulk.end().await?;
    pings.end().await?;
    let mut times = times?;
    let mut millis = |p: f64| percentile(&mut times, p) / MICROS_PER_MILLI;
    Ok(vec![
        (Metric::LineBulk, read.rate()),
        (Metric::LineAloneP50, alone),
        (Metric::LineP50, millis(0.5)),
        (Metric::LineP99, millis(0.99)),
        (Metric::LineDial, dial),
    ])
}
