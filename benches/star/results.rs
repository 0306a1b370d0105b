//! What was measured, round by round.

use std::collections::HashMap;

use crate::{lineup::Id, memory::Found, spread::Spread, work::Metric};

#[derive(Default)]
pub struct Results {
    /// By round.
    figures: HashMap<(Id, Metric), Vec<Option<f64>>>,
    pub memory: Vec<Found>,
    /// What could not be had.
    pub missing: Vec<String>,
    /// What went wrong.
    pub failed: Vec<String>,
}

impl Results {
    pub fn add(&mut self, round: usize, id: Id, metric: Metric, value: f64) {
        let rounds = self.figures.entry((id, metric)).or_default();
        if rounds.len() <= round {
            rounds.resize(round + 1, None);
        }
        rounds[round] = Some(value);
    }

    pub fn spread(&self, id: Id, metric: Metric) -> Option<Spread> {
        let rounds = self.figures.get(&(id, metric))?;
        Spread::of(rounds.iter().flatten().copied())
    }

    /// The ratio of two rows in each round, in which they were measured one after the other: what
    /// disturbs a whole round is not in it.
    pub fn ratio(&self, metric: Metric, of: Id, to: Id) -> Option<Spread> {
        let of = self.figures.get(&(of, metric))?;
        let to = self.figures.get(&(to, metric))?;
        let ratios = of
            .iter()
            .zip(to)
            .filter_map(|(of, to)| Some((*of)? / (*to)?));
        Spread::of(ratios)
    }

    pub fn memory(&self, id: Id) -> Option<&Found> {
        self.memory.iter().find(|found| found.id == id)
    }
}
