//! The options on the command line.

use std::{io, time::Duration};

use crate::{
    attack::Attack,
    plan::{Plan, WHOLE},
    usage::{number, usage},
};

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
