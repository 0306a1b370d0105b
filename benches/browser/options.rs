//! The options on the command line.

use std::time::Duration;

use crate::{Result, lineup::Id};

pub const USAGE: &str = "\
cargo bench --bench browser -- [options]
  --quick          fewer and shorter rounds, with more noise
  --rounds <n>     default 7, quick 3
  --only <name>    only the rows whose name contains this
  --sizes          only the sizes
  --check          ends with an error if a bound is missed
  --help           shows this";

/// The amounts of one run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    /// The number of bytes to transfer one way.
    pub bulk: u32,
    /// The number of bytes to transfer before each measurement, so that the browser has compiled the code.
    pub warm_up: u32,
    pub pings: u32,
    /// The minimum time for which a page is hidden before it is measured. By then, its timers fire once a minute.
    pub hidden: Duration,
}

/// The parsed command line.
#[derive(Debug)]
pub struct Options {
    pub plan: Plan,
    pub ids: Vec<Id>,
    pub check: bool,
}

impl Options {
    /// # Errors
    /// If an argument is unknown or invalid. For an unknown one, the error is the usage text.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let is_quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Self {
            plan: Plan {
                rounds: if is_quick { 3 } else { 7 },
                bulk: if is_quick { 32 << 20 } else { 64 << 20 },
                warm_up: 16 << 20,
                pings: if is_quick { 200 } else { 1000 },
                hidden: Duration::from_secs(12),
            },
            ids: Id::ALL.into(),
            check: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match argument.as_str() {
                "--bench" | "--quick" => {}
                "--check" => options.check = true,
                "--sizes" => options.ids.clear(),
                "--rounds" => options.plan.rounds = value()?.parse()?,
                "--only" => {
                    let only = value()?;
                    options.ids.retain(|id| id.name().contains(only));
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}
