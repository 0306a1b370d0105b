//! How long dialled peers take to answer.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// The upper bounds of the buckets, in seconds: from the answer of a neighbour up to the deadline of a dial.
const DIAL_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// A histogram of the times that dialled peers take to answer.
#[derive(Debug, Clone)]
pub(super) struct DialTime(Histogram);

impl Default for DialTime {
    fn default() -> Self {
        Self(Histogram::new(DIAL_BUCKETS))
    }
}

impl DialTime {
    pub(super) fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }

    pub(super) fn histogram(&self) -> &Histogram {
        &self.0
    }
}
