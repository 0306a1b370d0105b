//! The measured figures, round by round.

use std::collections::HashMap;

use crate::{
    lineup::Id,
    memory::Found,
    spread::Spread,
    work::{Figures, Metric},
};

#[derive(Default)]
pub struct Results {
    /// The figures, indexed by round.
    figures: HashMap<(Id, Metric), Vec<Option<f64>>>,
    pub memory: Vec<Found>,
    /// The rows that could not be measured.
    pub missing: Vec<String>,
    /// The errors.
    pub failed: Vec<String>,
}

impl Results {
    pub fn add_all(&mut self, round: usize, id: Id, figures: Figures) {
        for (metric, value) in figures {
            let rounds = self.figures.entry((id, metric)).or_default();
            if rounds.len() <= round {
                rounds.resize(round + 1, None);
            }
            rounds[round] = Some(value);
        }
    }

    pub fn spread(&self, id: Id, metric: Metric) -> Option<Spread> {
        let rounds = self.figures.get(&(id, metric))?;
        Spread::of(rounds.iter().flatten().copied())
    }

    /// Combines two figures in each round. They were measured one after the other, so a disturbance of the whole
    /// round affects both.
    pub fn compared(
        &self,
        one: (Id, Metric),
        other: (Id, Metric),
        how: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let (one, other) = (self.figures.get(&one)?, self.figures.get(&other)?);
        let rounds = one.iter().zip(other);
        Spread::of(rounds.filter_map(|(one, other)| Some(how((*one)?, (*other)?))))
    }

    /// Returns whether a figure was measured at all.
    pub fn has(&self, id: Id, metric: Metric) -> bool {
        self.figures.contains_key(&(id, metric))
    }

    pub fn memory(&self, id: Id) -> Option<&Found> {
        self.memory.iter().find(|found| found.id == id)
    }
}
