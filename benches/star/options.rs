//! What is asked for on the command line.

use std::time::Duration;

use crate::{Result, lineup::Id, plan::Plan};

const USAGE: &str = "\
cargo bench --bench star -- [options]
  --quick          under a minute, with more noise
  --rounds <n>     default 7, quick 3
  --window <s>     how long 100 streams share a link; default 2
  --slow <s>       how long a slow reader reads, a MiB each second; default 60, of 256 MiB
  --only <name>    only the rows whose name contains this
  --work <name>    only bulk, small, echo, rtt, dial, many, cpu or memory
  --svg            write benches/results.svg; a full run does";

/// What is to be run.
pub struct Options {
    pub plan: Plan,
    /// Whether to see only that everything works.
    pub smoke: bool,
    only: Option<String>,
    work: Option<String>,
    pub svg: bool,
}

impl Options {
    /// `cargo bench` gives `--bench`; without it, as `cargo test` starts us, only the smoke is run.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let (plan, svg) = match (has("--bench"), has("--quick")) {
            (false, _) => (Plan::smoke(), false),
            (true, true) => (Plan::quick(), false),
            (true, false) => (Plan::full(), true),
        };
        let mut options = Self {
            plan,
            smoke: !has("--bench"),
            only: None,
            work: None,
            svg,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match argument.as_str() {
                "--bench" | "--test" | "--quick" => {}
                "--svg" => options.svg = true,
                "--rounds" => options.plan.rounds = value()?.parse()?,
                "--window" => options.plan.window = Duration::from_secs(value()?.parse()?),
                "--slow" => {
                    let seconds = value()?.parse()?;
                    options.plan.slow = Duration::from_secs(seconds);
                    options.plan.offered = usize::try_from(seconds)? << 20;
                }
                "--only" => options.only = Some(value()?.clone()),
                "--work" => options.work = Some(value()?.clone()),
                _ => return Err(USAGE.into()),
            }
        }
        // A picture of a part would pass for the whole.
        options.svg &= options.only.is_none() && options.work.is_none();
        Ok(options)
    }

    /// The rows.
    pub fn ids(&self) -> Vec<Id> {
        let wanted = |id: &Id| match &self.only {
            Some(only) => id.name().contains(only.as_str()),
            None => true,
        };
        Id::ALL.into_iter().filter(wanted).collect()
    }

    pub fn wants(&self, work: &str) -> bool {
        self.work.as_ref().is_none_or(|only| only == work)
    }
}
