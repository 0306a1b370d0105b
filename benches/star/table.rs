//! The tables of the output.

use std::fmt::Write as _;

use crate::{
    WORKERS,
    lineup::Id,
    memory::Grown,
    plan::Plan,
    results::Results,
    spread::{Spread, number},
    subjects::line,
    targets::{Bound, Outcome},
    work::{MIB, Metric, beside, senders},
};

const NAME: usize = 30;
const COLUMN: usize = 12;

/// A figure, its name and its unit.
type Column = (Metric, &'static str, &'static str);

const COLUMNS: [Column; 10] = [
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
const MEMORY: [&str; 3] = ["mem dialer", "mem listener", "mem server"];
/// Figures in separate tables. Each table shows only the rows that have any of its figures.
const BESIDE: [Column; 7] = [
    (Metric::AloneP50, "alone p50", "µs"),
    (Metric::BesideOneP50, "one: p50", "µs"),
    (Metric::BesideOneP99, "one: p99", "µs"),
    (Metric::BesideOneBulk, "one: bulk", "MiB/s"),
    (Metric::BesideSeveralP50, "more: p50", "µs"),
    (Metric::BesideSeveralP99, "more: p99", "µs"),
    (Metric::BesideSeveralBulk, "more: bulk", "MiB/s"),
];
const SHARED: [Column; 6] = [
    (Metric::SenderAloneP50, "alone p50", "µs"),
    (Metric::SenderP50, "of 8: p50", "µs"),
    (Metric::SenderP99, "of 8: p99", "µs"),
    (Metric::SendersBulk, "of 8: bulk", "MiB/s"),
    (Metric::AllRead, "all read", "MiB/s"),
    (Metric::BesideUnread, "one unread", "MiB/s"),
];
const LINE: [Column; 5] = [
    (Metric::LineBulk, "bulk", "MiB/s"),
    (Metric::LineAloneP50, "alone p50", "ms"),
    (Metric::LineP50, "beside: p50", "ms"),
    (Metric::LineP99, "beside: p99", "ms"),
    (Metric::LineDial, "dial", "ms"),
];

/// Returns the tables of all figures, one row for each subject: medians, with the minimum and the maximum of the
/// rounds below each.
pub fn everything(results: &Results, ids: &[Id]) -> String {
    let mut text = String::new();
    let with_memory = ids.iter().any(|id| results.memory(*id).is_some());
    if with_memory || ids.iter().any(|id| has_any(&COLUMNS, results, *id)) {
        text.push_str(&first(results, ids));
    }
    part(&mut text, "64 bytes beside bulk", &BESIDE, results, ids);
    part(&mut text, "shared", &SHARED, results, ids);
    part(&mut text, "long line", &LINE, results, ids);
    text
}

fn has_any(columns: &[Column], results: &Results, id: Id) -> bool {
    columns.iter().any(|(metric, ..)| results.has(id, *metric))
}

fn part(text: &mut String, title: &str, columns: &[Column], results: &Results, ids: &[Id]) {
    let ids = ids.iter().filter(|id| has_any(columns, results, **id));
    let mut ids = ids.peekable();
    if ids.peek().is_none() {
        return;
    }
    text.push('\n');
    let heads = columns.iter().map(|(_, head, _)| *head);
    row(text, title, heads.map(str::to_owned));
    let units = columns.iter().map(|(.., unit)| *unit);
    row(text, "", units.map(str::to_owned));
    for id in ids {
        let spread = |(metric, ..): &Column| results.spread(*id, *metric);
        let spreads = columns.iter().map(spread);
        row(text, id.name(), spreads.clone().map(median));
        row(text, "", spreads.map(range));
    }
}

fn first(results: &Results, ids: &[Id]) -> String {
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

/// Returns a table of the targets, and of figures without a target.
pub fn targets(outcomes: &[Outcome], notes: &[(&str, Option<Spread>)]) -> String {
    let mut text = format!(
        "{:<50} {:>8} {:>9} {:>15}\n",
        "target", "", "reached", "min–max"
    );
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "{:<50} {:>8} {:>9} {:>15}  {}",
            outcome.target.work,
            bound(outcome.target.bound),
            median(outcome.reached),
            range(outcome.reached),
            verdict(outcome),
        );
    }
    text.push_str("other ratios, without a target\n");
    for (work, reached) in notes {
        let (median, range) = (median(*reached), range(*reached));
        let _ = writeln!(text, "{work:<50} {:>8} {median:>9} {range:>15}", "");
    }
    text
}

/// Returns an explanation of the figures, for readers without the documentation.
pub fn explanation(plan: &Plan) -> String {
    format!(
        "Medians of {} rounds, least–most below; · is not applicable or not measured.\n\
         Where: one process with {WORKERS} worker threads contains both Rust peers and, for embedded, relay and proxy, \
         what is between them.\n  The npm rendezvous and each JavaScript client have a process of their own.\n\
         one-way: {} MiB in writes of 64 KiB until the last byte is read (JavaScript {} MiB). 1K flushed: {} MiB.\n\
         echo: {} MiB there and back. rtt: 64 bytes. dial: until connected, beside the first connection; \
         with noise and yamux for swarms.\n\
         {} streams over one link for {} ms, counted where they are read; min÷max: their shares.\n\
         CPU: {} MiB one way; clients: both peers, one process; server: a process of its own.\n\
         64 bytes beside bulk, on the same link or connection, for {} ms each: one bulk stream, and more: {} of raw, \
         {} of swarms.\n  Raw: dials, with the server in a process of its own.\n\
         shared: a sender beside {} that send all they can to the same receiver, each on a link of its own; and the \
         rate of all streams but one while that one is unread, {} times {} ms, in turn with the rate while it is \
         read.\n  The server has a process of its own.\n\
         long line: {} ms each way and {} Mbit/s between the dialer and the next hop, {} rounds of {} s after {} s; \
         four rows at the same time.\n\
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
        plan.window.as_millis(),
        beside::DIALS,
        beside::SUBSTREAMS,
        senders::SENDERS - 1,
        plan.unread_turns,
        plan.unread.as_millis(),
        line::DELAY.as_millis(),
        line::BITS / 1_000_000,
        plan.line_rounds,
        plan.line.as_secs(),
        plan.line_warm_up.as_secs(),
        plan.offered >> 20,
        plan.slow.as_secs(),
    )
}
