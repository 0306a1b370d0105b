//! The options on the command line, and the sizes that follow from them.

use std::{io, time::Duration};

use libp2p_websocket_star::rendezvous::Limits;

use crate::attack::Attack;

pub const USAGE: &str = "\
cargo bench --bench strangers -- [options]
  --quick            a tenth of the links and of all limits, and shorter windows
  --honest <n>       how many honest links there are; default 5000, quick 500
  --window <s>       how long each row is measured; default 20, quick 6
  --only <name>      only the attacks whose name contains this; may be repeated
  --family <name>    only attackers of \"v4\" or \"v6\"
  --check            ends with an error if a bound is exceeded";

/// The number of honest links that the default limits of the server are for.
const WHOLE: usize = 5_000;
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
            "{} honest links of {} addresses; the limits of the server are {limits} of the defaults, but for:",
            self.honest,
            self.origins()
        );
        println!(
            "- the rate of announcements, {factor} times what repeats them as often as 5,000 links have it,"
        );
        println!("- an origin's joins at once, eight times as many.");
        println!(
            "Each attack has an address of its own, and yields the processor to everybody else."
        );
    }
}

/// The parsed command line.
#[derive(Debug)]
pub struct Options {
    pub plan: Plan,
    pub check: bool,
    only: Vec<String>,
    family: Option<String>,
}

impl Options {
    pub fn parse(arguments: &[String]) -> io::Result<Self> {
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let plan = Plan {
            honest: if quick { WHOLE / 10 } else { WHOLE },
            window: Duration::from_secs(if quick { 6 } else { 20 }),
        };
        let mut options = Self {
            plan,
            check: false,
            only: Vec::new(),
            family: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().cloned().ok_or_else(usage);
            match argument.as_str() {
                "--bench" | "--quick" => {}
                "--check" => options.check = true,
                "--honest" => options.plan.honest = number(&value()?)?,
                "--window" => options.plan.window = Duration::from_secs(number(&value()?)? as u64),
                "--only" => options.only.push(value()?),
                "--family" => options.family = Some(value()?),
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }

    pub fn attacks(&self) -> Vec<Attack> {
        let wanted = |attack: &Attack| {
            self.only.is_empty() || self.only.iter().any(|only| attack.name().contains(only))
        };
        Attack::ALL.into_iter().filter(wanted).collect()
    }

    pub fn wants_family(&self, name: &str) -> bool {
        self.family.as_ref().is_none_or(|only| only == name)
    }
}

pub fn usage() -> io::Error {
    io::Error::other(USAGE)
}

pub fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| usage())
}
