//! The amounts of the measurements.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The amounts of one run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: usize,
    /// The number of bytes to send one way, in writes of 64 KiB.
    pub bulk: usize,
    /// The number of bytes to send one way, in flushed writes of 1 KiB.
    pub small: usize,
    pub echo: usize,
    /// The number of bytes to send one way while processor time is counted. Large, because that is counted in steps
    /// of 10 ms.
    pub cpu: usize,
    /// The number of bytes that JavaScript clients send, in place of `bulk` and `echo`.
    pub js: usize,
    pub pings: usize,
    pub dials: usize,
    /// The number of streams at once, and the time for which they run.
    pub streams: usize,
    pub window: Duration,
    /// The time for which one of the streams is not read in each turn, and the number of turns.
    pub unread: Duration,
    pub unread_turns: u32,
    /// The long line: the number of rounds, the dials and round trips before the bulk, and the times for which the
    /// bulk runs before and during the measurement.
    pub line_rounds: usize,
    pub line_dials: usize,
    pub line_pings: usize,
    pub line_warm_up: Duration,
    pub line: Duration,
    /// The number of bytes that are offered to a reader of 1 MiB/s, and the time for which it reads.
    pub offered: usize,
    pub slow: Duration,
    pub with_js: bool,
}

impl Plan {
    pub fn full() -> Self {
        Self {
            rounds: 7,
            bulk: 128 * MIB,
            small: 16 * MIB,
            echo: 64 * MIB,
            cpu: 2048 * MIB,
            js: 32 * MIB,
            pings: 2000,
            dials: 50,
            streams: 100,
            window: Duration::from_secs(2),
            unread: Duration::from_secs(2),
            unread_turns: 4,
            line_rounds: 3,
            line_dials: 10,
            line_pings: 20,
            line_warm_up: Duration::from_secs(5),
            line: Duration::from_secs(30),
            offered: 256 * MIB,
            slow: Duration::from_secs(60),
            with_js: true,
        }
    }

    pub fn quick() -> Self {
        Self {
            rounds: 3,
            bulk: 32 * MIB,
            small: 4 * MIB,
            echo: 16 * MIB,
            cpu: 256 * MIB,
            js: 16 * MIB,
            pings: 300,
            dials: 15,
            window: Duration::from_millis(700),
            unread: Duration::from_secs(1),
            unread_turns: 2,
            line_rounds: 1,
            line_dials: 5,
            line_pings: 10,
            line_warm_up: Duration::from_secs(3),
            line: Duration::from_secs(5),
            offered: 64 * MIB,
            slow: Duration::from_secs(6),
            ..Self::full()
        }
    }

    /// Returns the duration of the longest measurement that has a fixed duration.
    pub fn longest(&self) -> Duration {
        let unread = self.unread * (2 * self.unread_turns + 1);
        unread.max(3 * self.window)
    }

    /// Returns a plan that only checks that everything works, for `cargo test`.
    pub fn smoke() -> Self {
        Self {
            rounds: 1,
            bulk: MIB,
            small: 64 * KIB,
            echo: MIB,
            cpu: MIB,
            pings: 10,
            dials: 2,
            streams: 5,
            window: Duration::from_millis(50),
            unread: Duration::from_millis(50),
            unread_turns: 1,
            line_rounds: 1,
            line_dials: 1,
            line_pings: 1,
            line_warm_up: Duration::ZERO,
            line: Duration::from_millis(200),
            offered: MIB,
            slow: Duration::from_millis(100),
            with_js: false,
            ..Self::full()
        }
    }
}
