//! The size of a run, and the limits that follow from it.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::Limits;

/// The number of honest links that the default limits of the server are for.
pub const WHOLE: usize = 5_000;
/// The share of the honest links that have the same address.
const PER_ORIGIN: f64 = 1.0 / 50.0;
/// The factor by which a smaller server repeats announcements faster, so that a window contains enough of them.
const HURRY: f64 = 4.0;

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub honest: usize,
    pub window: Duration,
}

impl Plan {
    pub fn scale(self) -> f64 {
        self.honest as f64 / WHOLE as f64
    }

    /// Scales a number for 5,000 honest links to this size.
    pub fn scaled(self, whole: usize) -> usize {
        ((whole as f64 * self.scale()) as usize).max(1)
    }

    /// Returns the number of addresses that the honest links come from.
    pub fn origins(self) -> usize {
        (1.0 / PER_ORIGIN) as usize
    }

    /// Returns the default limits, scaled to this size.
    pub fn limits(self) -> Limits {
        let rate = |whole: usize| self.scaled(whole) as u32;
        let announcements = 16.0 * 1024.0 * 1024.0 * self.scale() * self.scale();
        Limits::default()
            .with_max_links(self.scaled(10_000))
            .with_max_links_per_ip(self.links_per_ip())
            .with_connection_rate(rate(25), rate(1200))
            // An attacker joins all its peers at once instead of after minutes.
            .with_origin_join_rate(rate(100), rate(16_000))
            .with_origin_dial_rate(rate(1000), rate(10_000))
            .with_max_open_dials(self.scaled(4096))
            .with_announce_rate((announcements * self.hurry()) as usize)
    }

    pub fn links_per_ip(self) -> usize {
        self.scaled(1000)
    }

    fn hurry(self) -> f64 {
        if self.honest < WHOLE { HURRY } else { 1.0 }
    }

    pub fn print(self) {
        let (limits, factor) = (self.scale(), self.hurry());
        println!(
            "{} honest links from {} addresses; the limits of the server are {limits} of the defaults, except for:",
            self.honest,
            self.origins()
        );
        println!(
            "- the rate of announcements: {factor} times the rate that repeats each as often as with 5,000 links,"
        );
        println!("- the joins of an origin at once: eight times as many.");
        println!(
            "Each attack has an address of its own, and yields the CPU to all other processes."
        );
    }
}
