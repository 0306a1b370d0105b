//! The options on the command line.

use std::time::Duration;

use crate::{Result, lineup::Id, plan::Plan, works::Work};

const USAGE: &str = "\
cargo bench --bench star -- [options]
  --quick          a few minutes, with more noise
  --rounds <n>     default 7, quick 3
  --window <s>     how long 100 streams share a link; default 2
  --slow <s>       how long a slow reader reads, at 1 MiB/s; default 60, of 256 MiB
  --line <s>       how long a long line is measured; default 30
  --unread <s>     how long one of many streams stays unread at a time; default 4 times 2
  --only <name>    only the row of this name, or the rows whose name contains this
  --work <names>   only these of bulk, small, echo, rtt, dial, many, cpu, beside, senders, unread, line and memory,
                   with commas between them
  --svg            write benches/results.svg; a full run always does";

/// The names of the measurements that are not done row by row.
const BESIDE: [&str; 2] = ["line", "memory"];

/// The parsed command line.
pub struct Options {
    pub plan: Plan,
    /// Whether to check only that everything works.
    pub smoke: bool,
    only: Option<String>,
    work: Option<String>,
    pub svg: bool,
}

impl Options {
    /// Parses the arguments. `cargo bench` passes `--bench`; without it, as under `cargo test`, only the smoke test
    /// is run.
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
                "--unread" => {
                    options.plan.unread = Duration::from_secs(value()?.parse()?);
                    options.plan.unread_turns = 1;
                }
                "--line" => options.plan.line = Duration::from_secs(value()?.parse()?),
                "--slow" => {
                    let seconds = value()?.parse()?;
                    options.plan.slow = Duration::from_secs(seconds);
                    options.plan.offered = usize::try_from(seconds)? << 20;
                }
                "--only" => options.only = Some(value()?.clone()),
                "--work" => {
                    let works = value()?;
                    if !works.split(',').all(is_work) {
                        return Err(USAGE.into());
                    }
                    options.work = Some(works.clone());
                }
                _ => return Err(USAGE.into()),
            }
        }
        // A picture of a part would be taken for the whole.
        options.svg &= options.only.is_none() && options.work.is_none();
        Ok(options)
    }

    /// Returns the rows to measure.
    pub fn ids(&self) -> Vec<Id> {
        let Some(only) = &self.only else {
            return Id::ALL.into();
        };
        let named = |id: &Id| id.name() == only;
        match Id::ALL.into_iter().find(named) {
            Some(id) => vec![id],
            None => {
                let wanted = |id: &Id| id.name().contains(only.as_str());
                Id::ALL.into_iter().filter(wanted).collect()
            }
        }
    }

    pub fn wants(&self, work: &str) -> bool {
        let works = self.work.as_ref();
        works.is_none_or(|works| works.split(',').any(|only| only == work))
    }
}

fn is_work(name: &str) -> bool {
    BESIDE.contains(&name) || Work::ALL.into_iter().any(|work| work.name() == name)
}
