//! The targets.

use crate::{
    lineup::Id::{self, HiddenSwarm, HiddenSwarmPlain, Npm, Raw, RawPlain, Swarm, SwarmPlain},
    measure::{
        Metric::{self, Down, RoundTrip, Up},
        Results,
    },
    spread::Spread,
};

/// One row divided by another one in the same round.
struct Ratio {
    what: &'static str,
    metric: Metric,
    of: Id,
    to: Id,
    /// The minimum of the ratio; `None` if there is no target.
    bound: Option<f64>,
}

const RATIOS: [Ratio; 10] = [
    Ratio {
        what: "up: noise and yamux ÷ npm client, raw",
        metric: Up,
        of: Swarm,
        to: Npm,
        bound: Some(1.0),
    },
    Ratio {
        what: "down: noise and yamux ÷ npm client, raw",
        metric: Down,
        of: Swarm,
        to: Npm,
        bound: Some(0.6),
    },
    Ratio {
        what: "up: hidden ÷ visible",
        metric: Up,
        of: HiddenSwarm,
        to: Swarm,
        bound: Some(0.5),
    },
    Ratio {
        what: "up, plain WebSocket: hidden ÷ visible",
        metric: Up,
        of: HiddenSwarmPlain,
        to: SwarmPlain,
        bound: Some(0.5),
    },
    Ratio {
        what: "up: the same, plain WebSocket ÷ npm client, raw",
        metric: Up,
        of: SwarmPlain,
        to: Npm,
        bound: None,
    },
    Ratio {
        what: "down: the same, plain WebSocket ÷ npm client, raw",
        metric: Down,
        of: SwarmPlain,
        to: Npm,
        bound: None,
    },
    Ratio {
        what: "up: raw ÷ npm client, raw",
        metric: Up,
        of: Raw,
        to: Npm,
        bound: None,
    },
    Ratio {
        what: "down: raw ÷ npm client, raw",
        metric: Down,
        of: Raw,
        to: Npm,
        bound: None,
    },
    Ratio {
        what: "up: raw, plain WebSocket ÷ npm client, raw",
        metric: Up,
        of: RawPlain,
        to: Npm,
        bound: None,
    },
    Ratio {
        what: "64 bytes: noise and yamux ÷ npm client, raw",
        metric: RoundTrip,
        of: Swarm,
        to: Npm,
        bound: None,
    },
];

/// A ratio, and the value that was reached.
pub struct Outcome {
    pub what: &'static str,
    pub bound: Option<f64>,
    pub reached: Spread,
}

impl Outcome {
    /// Returns whether the bound was met; `None` if there is no bound.
    pub fn is_met(&self) -> Option<bool> {
        self.bound.map(|bound| self.reached.median >= bound)
    }
}

/// Compares the results with the targets.
pub fn outcomes(results: &Results) -> Vec<Outcome> {
    let outcome = |ratio: &Ratio| {
        Some(Outcome {
            what: ratio.what,
            bound: ratio.bound,
            reached: results.ratio(ratio.metric, ratio.of, ratio.to)?,
        })
    };
    RATIOS.iter().filter_map(outcome).collect()
}
