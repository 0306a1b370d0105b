//! The tables.

use std::fmt::Write as _;

use crate::{
    WORKERS,
    lineup::Id,
    memory::Grown,
    plan::Plan,
    results::Results,
    spread::{Spread, number},
    targets::{Bound, Outcome},
    work::{MIB, Metric},
};

const NAME: usize = 30;
const COLUMN: usize = 12;

const COLUMNS: [(Metric, &str, &str); 10] = [
    (Metric::Bulk, "one-way", "MiB/s"),
    (Metric::Small, "1K flushed", "MiB/s"),
    (Metric::Echo, "echo", "MiB/s"),
    (Metric::RttP50, "rtt p50", "µs"),
    (Metric::RttP99, "rtt p99", "µs"),
    (Metric::Dial, "dial", "ms"),
    (Metric::Many, "100 streams", "MiB/s"),
    (Metric::Share, "min÷max", "share"),
    (Metric::CpuClients, "CPU clients", "s/GiB"),
    (Metric::CpuServer, "CPU server", "s/GiB"),
];
const MEMORY: [&str; 3] = ["mem dialler", "mem listener", "mem server"];

/// Everything, one row a subject: medians, and under each the least and the most of the rounds.
pub fn everything(results: &Results, ids: &[Id]) -> String {
    let mut text = String::new();
    let heads = COLUMNS.iter().map(|(_, head, _)| *head).chain(MEMORY);
    let units = COLUMNS.iter().map(|(_, _, unit)| *unit);
    row(&mut text, "", heads.map(str::to_owned));
    row(&mut text, "", units.chain(["MiB"; 3]).map(str::to_owned));
    for id in ids {
        let spreads = COLUMNS.map(|(metric, ..)| results.spread(*id, metric));
        let found = results.memory(*id);
        let memory = [
            found.and_then(|found| found.dialer),
            found.and_then(|found| found.listener),
            found.and_then(|found| found.server),
        ];
        let medians = spreads.iter().map(|spread| median(*spread));
        row(&mut text, id.name(), medians.chain(memory.map(grown)));
        if spreads.iter().any(Option::is_some) {
            row(&mut text, "", spreads.iter().map(|spread| range(*spread)));
        }
    }
    text
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("{name:<NAME$}");
    for cell in cells {
        let _ = write!(line, " {cell:>COLUMN$}");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "·".to_owned(), |spread| number(spread.median))
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| spread.to_string())
}

fn grown(grown: Option<Grown>) -> String {
    grown.map_or_else(
        || "·".to_owned(),
        |Grown { by, still }| {
            let growing = if still { "+" } else { "" };
            format!("{}{growing}", number(by as f64 / MIB))
        },
    )
}

pub fn bound(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(value) => format!("≥ {value}"),
        Bound::AtMost(value) => format!("≤ {value}"),
    }
}

pub fn verdict(outcome: &Outcome) -> &'static str {
    match outcome.is_met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "not measured",
    }
}

/// The targets, and whether they were met; and figures without a target.
pub fn targets(outcomes: &[Outcome], notes: &[(&str, Option<Spread>)]) -> String {
    let mut text = format!(
        "{:<48} {:>8} {:>9} {:>15}\n",
        "target", "", "reached", "min–max"
    );
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "{:<48} {:>8} {:>9} {:>15}  {}",
            outcome.target.work,
            bound(outcome.target.bound),
            median(outcome.reached),
            range(outcome.reached),
            verdict(outcome),
        );
    }
    text.push_str("beside that, without a target\n");
    for (work, reached) in notes {
        let (median, range) = (median(*reached), range(*reached));
        let _ = writeln!(text, "{work:<48} {:>8} {median:>9} {range:>15}", "");
    }
    text
}

/// What the figures are, for who reads no documentation.
pub fn explanation(plan: &Plan) -> String {
    format!(
        "Medians of {} rounds, least–most below; · is not applicable or not measured.\n\
         Where: one process with {WORKERS} worker threads holds both Rust peers and, for embedded, relay and proxy, \
         what is between them.\n  The npm rendezvous and each JavaScript client have a process of their own.\n\
         one-way: {} MiB in writes of 64 KiB until the last byte is read (JavaScript {} MiB). 1K flushed: {} MiB.\n\
         echo: {} MiB there and back. rtt: 64 bytes. dial: until connected, beside the first connection; \
         with noise and yamux for swarms.\n\
         {} streams over one link for {} ms, counted where they are read; min÷max: their shares.\n\
         CPU: {} MiB one way; clients: both peers, one process; server: a process of its own.\n\
         mem: most resident memory over idle, each peer and server in a process of its own: {} MiB offered for {} s \
         to a reader of 1 MiB/s; + still growing at the end.\n",
        plan.rounds,
        plan.bulk >> 20,
        plan.js >> 20,
        plan.small >> 20,
        plan.echo >> 20,
        plan.streams,
        plan.window.as_millis(),
        plan.cpu >> 20,
        plan.offered >> 20,
        plan.slow.as_secs(),
    )
}
