//! The load of a rendezvous in the last hour, second by second. No IO.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::rendezvous::hub::Figures;

/// The interval between two samples.
pub(super) const STEP: Duration = Duration::from_secs(1);
/// The number of samples that are kept: those of an hour.
const SAMPLES: usize = 3600;
/// The number of samples in one column of a picture, and the number of columns.
const IN_COLUMN: usize = 20;
pub(super) const COLUMNS: usize = SAMPLES / IN_COLUMN;

/// The load at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// The number of bytes relayed per second since the sample before.
    pub(super) rate: u64,
    pub(super) peers: u64,
    pub(super) links: u64,
    pub(super) dials: u64,
}

impl Sample {
    pub(super) fn of(figures: &Figures, rate: u64) -> Self {
        Self {
            rate,
            peers: figures.peers as u64,
            links: figures.snapshot.links as u64,
            dials: figures.snapshot.dials as u64,
        }
    }
}

/// The samples of an hour: about 115 KB when it is full.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// The number of samples ever added.
    taken: usize,
    /// The time of the last sample, and the total of relayed bytes at that time.
    last: Option<(Instant, u64)>,
}

impl History {
    /// Adds a sample. `relayed` is the total of relayed bytes so far, from which the rate is computed.
    pub(super) fn add(&mut self, now: Instant, relayed: u64, sample: Sample) {
        let (since, before) = self.last.unwrap_or((now, relayed));
        let passed = now.saturating_duration_since(since);
        let bytes = relayed.saturating_sub(before);
        let rate = match passed.is_zero() {
            true => 0,
            false => u64::try_from(u128::from(bytes) * 1000 / passed.as_millis().max(1))
                .unwrap_or(u64::MAX),
        };
        self.last = Some((now, relayed));
        // A very busy machine, or one that was suspended, misses samples. Copies of this one fill the gap.
        let steps = (passed.as_secs_f64() / STEP.as_secs_f64()).round() as usize;
        for _ in 0..steps.clamp(1, SAMPLES) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample { rate, ..sample });
            self.taken += 1;
        }
    }

    /// Returns the latest sample.
    pub(super) fn latest(&self) -> Sample {
        self.samples.back().copied().unwrap_or_default()
    }

    /// Returns the highest value in each 20 s of the hour, of which the last 20 s are not over yet; `None` where
    /// nothing is known.
    pub(super) fn columns(&self, value: impl Fn(&Sample) -> u64) -> [Option<u64>; COLUMNS] {
        let mut columns = [None; COLUMNS];
        let first = self.taken - self.samples.len();
        let current = self.taken.saturating_sub(1) / IN_COLUMN;
        for (number, sample) in (first..).zip(&self.samples) {
            let age = current - number / IN_COLUMN;
            let column = (COLUMNS - 1).checked_sub(age);
            if let Some(column) = column.and_then(|column| columns.get_mut(column)) {
                *column = (*column).max(Some(value(sample)));
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(peers: u64) -> Sample {
        Sample {
            peers,
            ..Sample::default()
        }
    }

    #[test]
    fn the_rate_is_what_was_relayed_since_the_last_sample() {
        let mut history = History::default();
        let start = Instant::now();
        assert_eq!(history.latest(), Sample::default());
        for (millis, relayed, rate) in [
            (0, 5000, 0),
            (1000, 6000, 1000),
            (2500, 9000, 2000),
            (3500, 9000, 0),
            (3500, 9500, 0),
        ] {
            history.add(start + Duration::from_millis(millis), relayed, peers(7));
            let expected = Sample { rate, ..peers(7) };
            assert_eq!(history.latest(), expected, "{millis}");
        }
    }

    #[test]
    fn a_picture_has_the_highest_of_each_20_seconds_of_an_hour() {
        let mut history = History::default();
        let start = Instant::now();
        assert_eq!(history.columns(|sample| sample.peers), [None; COLUMNS]);
        for second in 0..45 {
            history.add(start + STEP * second, 0, peers(second.into()));
        }
        let columns = history.columns(|sample| sample.peers);
        let known: Vec<_> = columns.into_iter().flatten().collect();
        assert_eq!(known, [19, 39, 44]);
        assert_eq!(columns[COLUMNS - 1], Some(44));
        for second in 45..10_000 {
            history.add(start + STEP * second, 0, peers(second.into()));
        }
        assert_eq!(history.samples.len(), SAMPLES);
        let columns = history.columns(|sample| sample.peers);
        assert_eq!(columns[COLUMNS - 1], Some(9999));
        assert_eq!(columns[0], Some(6419));
    }

    #[test]
    fn a_gap_is_filled_so_that_an_hour_stays_an_hour() {
        let mut history = History::default();
        let start = Instant::now();
        history.add(start, 0, peers(1));
        history.add(start + STEP * 100, 5000, peers(2));
        assert_eq!(history.samples.len(), 101);
        assert_eq!(history.latest().rate, 50);
        history.add(start + Duration::from_secs(1_000_000_000), 5000, peers(3));
        assert_eq!(history.samples.len(), SAMPLES);
    }
}
