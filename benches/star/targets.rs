//! The targets, as ratios within one run.

use crate::{
    lineup::Id,
    results::Results,
    spread::Spread,
    work::{MIB, Metric},
};

/// The bound of a target, and on which side of it the target lies.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The quantity that is compared with the bound.
#[derive(Debug, Clone, Copy)]
enum Quantity {
    Ratio(Metric, Id, Id),
    /// Two figures of one row: their quotient, and their difference.
    Within(Id, Metric, Metric),
    Beyond(Id, Metric, Metric),
    Figure(Metric, Id),
    /// The growth of the process that grew most, in MiB.
    Memory(Id),
}

pub struct Target {
    pub work: &'static str,
    quantity: Quantity,
    pub bound: Bound,
}

/// A target, and the value that was reached.
pub struct Outcome {
    pub target: &'static Target,
    pub reached: Option<Spread>,
}

impl Outcome {
    /// Returns whether the target was met; `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        let reached = self.reached?.median;
        Some(match self.target.bound {
            Bound::AtLeast(bound) => reached >= bound,
            Bound::AtMost(bound) => reached <= bound,
        })
    }

    /// Returns the score of a value: 1 at the bound, more is better.
    pub fn score(&self, value: f64) -> f64 {
        match self.target.bound {
            Bound::AtLeast(bound) => value / bound,
            Bound::AtMost(bound) => bound / value.max(f64::MIN_POSITIVE),
        }
    }
}

pub fn outcomes(results: &Results) -> Vec<Outcome> {
    let outcome = |target: &'static Target| Outcome {
        reached: reached(target.quantity, results),
        target,
    };
    TARGETS.iter().map(outcome).collect()
}

/// Returns figures of interest that have no target.
pub fn notes(results: &Results) -> Vec<(&'static str, Option<Spread>)> {
    let note = |(work, quantity)| (work, reached(quantity, results));
    NOTES.map(note).into()
}

fn reached(quantity: Quantity, results: &Results) -> Option<Spread> {
    match quantity {
        Quantity::Ratio(metric, of, to) => {
            results.compared((of, metric), (to, metric), |of, to| of / to)
        }
        Quantity::Within(id, of, to) => results.compared((id, of), (id, to), |of, to| of / to),
        Quantity::Beyond(id, of, to) => results.compared((id, of), (id, to), |of, to| of - to),
        Quantity::Figure(metric, id) => results.spread(id, metric),
        Quantity::Memory(id) => {
            let found = results.memory(id)?;
            let each = [found.dialer, found.listener, found.server];
            let most = each.into_iter().flatten().map(|grown| grown.by).max()?;
            let most = most as f64 / MIB;
            Some(Spread {
                median: most,
                min: most,
                max: most,
            })
        }
    }
}

use Bound::{AtLeast, AtMost};
use Id::{
    JsNpm, Proxied, RawEmbedded, RawNpm, RawWss, Relay, SwarmEmbedded, SwarmEven, SwarmWss, Tcp,
};
use Quantity::{Beyond, Figure, Memory, Ratio, Within};

const NOTES: [(&str, Quantity); 8] = [
    (
        "smallest ÷ largest share: swarm, embedded",
        Figure(Metric::Share, SwarmEmbedded),
    ),
    (
        "smallest ÷ largest share: direct TCP",
        Figure(Metric::Share, Tcp),
    ),
    (
        "100 streams: swarm, even ÷ default windows",
        Ratio(Metric::Many, SwarmEven, SwarmEmbedded),
    ),
    (
        "one-way: raw, wss ÷ ws",
        Ratio(Metric::Bulk, RawWss, RawEmbedded),
    ),
    (
        "server CPU: swarm, wss ÷ ws",
        Ratio(Metric::CpuServer, SwarmWss, SwarmEmbedded),
    ),
    (
        "beside one: swarm, wss ÷ relay v2",
        Ratio(Metric::BesideOneP50, SwarmWss, Relay),
    ),
    (
        "bulk beside 64 bytes: swarm, embedded ÷ relay v2",
        Ratio(Metric::BesideOneBulk, SwarmEmbedded, Relay),
    ),
    (
        "long line, dial: swarm, embedded ÷ direct TCP",
        Ratio(Metric::LineDial, SwarmEmbedded, Tcp),
    ),
];

static TARGETS: [Target; 23] = [
    Target {
        work: "one-way: swarm, embedded ÷ relay v2",
        quantity: Ratio(Metric::Bulk, SwarmEmbedded, Relay),
        bound: AtLeast(1.5),
    },
    Target {
        work: "one-way: swarm, embedded ÷ direct TCP",
        quantity: Ratio(Metric::Bulk, SwarmEmbedded, Tcp),
        bound: AtLeast(0.65),
    },
    Target {
        work: "one-way: raw, embedded ÷ raw, npm",
        quantity: Ratio(Metric::Bulk, RawEmbedded, RawNpm),
        bound: AtLeast(4.0),
    },
    Target {
        work: "echo: raw, embedded ÷ JavaScript, npm",
        quantity: Ratio(Metric::Echo, RawEmbedded, JsNpm),
        bound: AtLeast(10.0),
    },
    Target {
        work: "1 KiB flushed: raw, embedded ÷ relay v2",
        quantity: Ratio(Metric::Small, RawEmbedded, Relay),
        bound: AtLeast(1.0),
    },
    Target {
        work: "round trip p50: raw, embedded ÷ copying proxy",
        quantity: Ratio(Metric::RttP50, RawEmbedded, Proxied),
        bound: AtMost(1.5),
    },
    Target {
        work: "round trip p50: swarm, embedded ÷ relay v2",
        quantity: Ratio(Metric::RttP50, SwarmEmbedded, Relay),
        bound: AtMost(1.0),
    },
    Target {
        work: "dial: raw, embedded ÷ JavaScript, npm",
        quantity: Ratio(Metric::Dial, RawEmbedded, JsNpm),
        bound: AtMost(0.25),
    },
    Target {
        work: "smallest ÷ largest share: raw, embedded",
        quantity: Figure(Metric::Share, RawEmbedded),
        bound: AtLeast(0.8),
    },
    Target {
        work: "smallest ÷ largest share: swarm, even windows",
        quantity: Figure(Metric::Share, SwarmEven),
        bound: AtLeast(0.8),
    },
    Target {
        work: "slow reader, MiB over idle: raw, embedded",
        quantity: Memory(RawEmbedded),
        bound: AtMost(8.0),
    },
    Target {
        work: "slow reader, MiB over idle: swarm, embedded",
        quantity: Memory(SwarmEmbedded),
        bound: AtMost(8.0),
    },
    Target {
        work: "server CPU: raw, wss ÷ ws",
        quantity: Ratio(Metric::CpuServer, RawWss, RawEmbedded),
        bound: AtMost(2.2),
    },
    Target {
        work: "beside one, p50: swarm, embedded ÷ relay v2",
        quantity: Ratio(Metric::BesideOneP50, SwarmEmbedded, Relay),
        bound: AtMost(0.3),
    },
    Target {
        work: "beside one, p99: swarm, embedded ÷ direct TCP",
        quantity: Ratio(Metric::BesideOneP99, SwarmEmbedded, Tcp),
        bound: AtMost(1.0),
    },
    Target {
        work: "bulk beside 64 bytes ÷ one-way: swarm, embedded",
        quantity: Within(SwarmEmbedded, Metric::BesideOneBulk, Metric::Bulk),
        bound: AtLeast(0.85),
    },
    Target {
        work: "p50 beside 16 ÷ alone: raw, embedded",
        quantity: Within(RawEmbedded, Metric::BesideSeveralP50, Metric::AloneP50),
        bound: AtMost(8.0),
    },
    Target {
        work: "p50 beside 7 senders ÷ alone: raw, embedded",
        quantity: Within(RawEmbedded, Metric::SenderP50, Metric::SenderAloneP50),
        bound: AtMost(10.0),
    },
    Target {
        work: "others beside an unread one ÷ without: raw",
        quantity: Within(RawEmbedded, Metric::BesideUnread, Metric::AllRead),
        bound: AtLeast(0.95),
    },
    Target {
        work: "long line, bulk: raw, embedded ÷ direct TCP",
        quantity: Ratio(Metric::LineBulk, RawEmbedded, Tcp),
        bound: AtLeast(0.9),
    },
    Target {
        work: "long line, bulk: swarm, embedded ÷ direct TCP",
        quantity: Ratio(Metric::LineBulk, SwarmEmbedded, Tcp),
        bound: AtLeast(0.9),
    },
    Target {
        work: "long line, ms beside bulk less alone: raw",
        quantity: Beyond(RawEmbedded, Metric::LineP50, Metric::LineAloneP50),
        bound: AtMost(100.0),
    },
    Target {
        work: "long line, ms beside bulk less alone: swarm",
        quantity: Beyond(SwarmEmbedded, Metric::LineP50, Metric::LineAloneP50),
        bound: AtMost(100.0),
    },
];
