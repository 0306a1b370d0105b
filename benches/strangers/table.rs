//! The output, and the bounds.

use crate::{attack::Attack, plan::Plan, source::Family, spread::number, watch::Figures};

/// The number of connection attempts per second that the server must bear within the bound for its processor time.
const BORNE: usize = 1000;
/// The processor time allowed for each attempt beyond that, in seconds.
const COST: f64 = 100e-6;

pub const HEAD: &str = "\
| attack | honest places | of rest | repeated after s | of rest | dial ms | of rest | join ms | failed | lost | \
CPU % | of rest | refused/s | µs each | MiB | exceeded |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// The bounds beside an attacker of a family, relative to the rest.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    places: f64,
    interval: f64,
    dial: f64,
    cpu: f64,
}

impl Bounds {
    fn of(family: Family) -> Self {
        let (places, interval) = match family {
            Family::V4 => (0.9, 1.2),
            Family::V6 | Family::Forwarded => (0.7, 1.5),
        };
        Self {
            places,
            interval,
            dial: 2.0,
            cpu: 2.0,
        }
    }
}

/// One attack, and the rest before it.
#[derive(Debug)]
pub struct Row {
    pub family: Family,
    pub attack: Attack,
    pub rest: Figures,
    pub seen: Figures,
    /// The number of connections that the attacker tried per second.
    pub tried: f64,
    /// The number of honest links that were cut.
    pub lost: u64,
}

impl Row {
    fn exceeded(&self, plan: Plan) -> Vec<&'static str> {
        let (rest, seen, bounds) = (&self.rest, &self.seen, Bounds::of(self.family));
        let beyond = (self.tried - plan.scaled(BORNE) as f64).max(0.0);
        [
            ("places", seen.places < rest.places * bounds.places),
            ("interval", seen.interval > rest.interval * bounds.interval),
            ("dials", seen.dial > rest.dial * bounds.dial),
            (
                "CPU",
                self.attack.is_flood() && seen.cpu > rest.cpu * bounds.cpu + beyond * COST,
            ),
            ("failed", seen.failed > 0),
            ("lost", self.lost > 0),
        ]
        .into_iter()
        .filter_map(|(name, is_exceeded)| is_exceeded.then_some(name))
        .collect()
    }

    /// Prints the row. Returns whether all bounds are kept.
    pub fn print(&self, plan: Plan) -> bool {
        let (rest, seen) = (&self.rest, &self.seen);
        let exceeded = self.exceeded(plan);
        let each = (seen.cpu - rest.cpu) / seen.refused * 1e6;
        println!(
            "| {} | {} | {:.2} | {} | {:.2} | {:.2} | {:.2} | {:.1} | {} | {} | {:.1} | {:.2} | {:.0} | {} | {:.0} | {} |",
            self.attack.name(),
            number(seen.places),
            seen.places / rest.places,
            number(seen.interval),
            seen.interval / rest.interval,
            seen.dial * 1e3,
            seen.dial / rest.dial,
            seen.join * 1e3,
            seen.failed,
            self.lost,
            seen.cpu * 100.0,
            seen.cpu / rest.cpu,
            seen.refused,
            match seen.refused >= 1.0 {
                true => number(each),
                false => String::new(),
            },
            seen.rss / (1024.0 * 1024.0),
            match exceeded.is_empty() {
                true => "nothing".to_owned(),
                false => exceeded.join(", "),
            },
        );
        exceeded.is_empty()
    }
}
