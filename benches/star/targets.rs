//! What is aimed at, as ratios within one run.

use crate::{
    lineup::Id,
    results::Results,
    spread::Spread,
    work::{MIB, Metric},
};

/// On which side of the bound the target is.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What is compared with the bound.
#[derive(Debug, Clone, Copy)]
enum Quantity {
    Ratio(Metric, Id, Id),
    Figure(Metric, Id),
    /// In MiB, the process that grew most.
    Memory(Id),
}

pub struct Target {
    pub work: &'static str,
    quantity: Quantity,
    pub bound: Bound,
}

/// A target and what was reached.
pub struct Outcome {
    pub target: &'static Target,
    pub reached: Option<Spread>,
}

impl Outcome {
    /// Whether it was met; `None` if it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        let reached = self.reached?.median;
        Some(match self.target.bound {
            Bound::AtLeast(bound) => reached >= bound,
            Bound::AtMost(bound) => reached <= bound,
        })
    }

    /// How good a value is: 1 is the bound, more is better.
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

/// What is worth a look beside the targets, and has none: yamux decides it.
pub fn notes(results: &Results) -> Vec<(&'static str, Option<Spread>)> {
    let note = |(work, quantity)| (work, reached(quantity, results));
    NOTES.map(note).into()
}

fn reached(quantity: Quantity, results: &Results) -> Option<Spread> {
    match quantity {
        Quantity::Ratio(metric, of, to) => results.ratio(metric, of, to),
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
use Id::{JsNpm, Proxied, RawEmbedded, RawNpm, Relay, SwarmEmbedded, SwarmEven, Tcp};
use Quantity::{Figure, Memory, Ratio};

const NOTES: [(&str, Quantity); 3] = [
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
];

static TARGETS: [Target; 12] = [
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
];
