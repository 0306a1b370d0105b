//! The tables of the output.

use std::fmt::Write as _;

use crate::{
    lineup::Id,
    measure::{Metric, Results},
    options::Plan,
    pages::{Pages, Size},
    spread::{Spread, number},
    targets::Outcome,
};

const NAME: usize = 52;
const COLUMN: usize = 13;

fn row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>) {
    let mut line = format!("{name:<NAME$}");
    for cell in cells {
        let _ = write!(line, " {cell:>COLUMN$}");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn verdict(is_met: bool) -> String {
    if is_met { "met" } else { "missed" }.to_owned()
}

/// Returns a table of the bytes that each page loads.
pub fn sizes(pages: &Pages) -> String {
    let mut text = String::new();
    let heads = ["wasm", "beside it", "all", "gzip -9", "at most", ""];
    row(&mut text, "size, bytes", heads.map(str::to_owned));
    for sizes in &pages.sizes {
        let Size { raw, compressed } = sizes.all();
        let cells = [
            sizes.wasm.raw.to_string(),
            sizes.rest.raw.to_string(),
            raw.to_string(),
            compressed.to_string(),
            sizes.bound.to_string(),
            verdict(sizes.is_met()),
        ];
        row(&mut text, sizes.what, cells);
    }
    let Size { raw, compressed } = pages.npm;
    let cells = [
        String::new(),
        String::new(),
        raw.to_string(),
        compressed.to_string(),
    ];
    row(&mut text, "npm client, raw: its bundle without keys", cells);
    text
}

/// Returns a table of the medians, with the minimum and the maximum of the rounds below each.
pub fn speeds(results: &Results, ids: &[Id]) -> String {
    let mut text = String::new();
    let heads = ["up", "down", "64 bytes"];
    row(
        &mut text,
        "browser and native node",
        heads.map(str::to_owned),
    );
    row(&mut text, "", ["MiB/s", "MiB/s", "µs"].map(str::to_owned));
    for id in ids {
        let spreads = Metric::ALL.map(|metric| results.spread(*id, metric));
        row(&mut text, id.name(), spreads.map(median));
        row(&mut text, "", spreads.map(range));
    }
    text
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "·".to_owned(), |spread| number(spread.median))
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| spread.to_string())
}

/// Returns a table of the targets, and of ratios without a target.
pub fn targets(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let heads = ["at least", "reached", "least–most", ""];
    row(&mut text, "ratio", heads.map(str::to_owned));
    for outcome in outcomes {
        let cells = [
            outcome.bound.map_or_else(String::new, number),
            number(outcome.reached.median),
            outcome.reached.to_string(),
            outcome.is_met().map_or_else(String::new, verdict),
        ];
        row(&mut text, outcome.what, cells);
    }
    text
}

/// Returns an explanation of the figures, for readers without the documentation.
pub fn explanation(plan: &Plan) -> String {
    format!(
        "Medians of {} rounds, least–most below; a ratio is the median of the ratios of the rounds.\n\
         up and down: {} MiB in writes of 64 KiB, until the last byte is read, after {} MiB each way. 64 bytes: there and \
         back, the mean of {}.\n\
         Each row has a page of its own, loaded again in each round; the rendezvous and the native peers are in \
         this process.\n\
         plain WebSocket: without WebSocketStream, as in other browsers. hidden: for at least {} s, in a window that \
         is minimized; its timers fire once a minute.\n",
        plan.rounds,
        plan.bulk >> 20,
        plan.warm_up >> 20,
        plan.pings,
        plan.hidden.as_secs(),
    )
}
