//! The findings of the checks, each printed in one line as soon as it is known.

use std::time::{Duration, Instant};

use console::style;
use serde_json::json;

use crate::{
    failure::Failure,
    output::{rounded, say, words},
};

/// The width of the column for the names of checks.
const NAMES: usize = 10;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn shown(self) -> String {
        // The text is padded before it is coloured, because the formatter counts colour codes as width.
        let padded = |text| format!("{text:<7}");
        match self {
            Self::Ok => style(padded("ok")).green().to_string(),
            Self::Warning => style(padded("warning")).yellow().to_string(),
            Self::Failed => style(padded("FAILED")).red().bold().to_string(),
            Self::Skipped => style(padded("skipped")).dim().to_string(),
        }
    }
}

/// The finding of a check, with advice on what to do about it.
#[derive(Debug)]
pub struct Finding {
    pub status: Status,
    seen: String,
    advice: Option<String>,
    took: Option<Duration>,
}

impl Finding {
    fn new(status: Status, seen: impl Into<String>, advice: Option<String>) -> Self {
        Self {
            status,
            // The text may contain words of a server or a certificate.
            seen: words(&seen.into()),
            advice,
            took: None,
        }
    }

    pub fn ok(seen: impl Into<String>) -> Self {
        Self::new(Status::Ok, seen, None)
    }

    pub fn warning(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Status::Warning, seen, Some(advice.into()))
    }

    pub fn failed(seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Status::Failed, seen, Some(advice.into()))
    }

    pub fn skipped(why: impl Into<String>) -> Self {
        Self::new(Status::Skipped, why, None)
    }

    /// Adds the time that the check took.
    pub fn since(mut self, begin: Instant) -> Self {
        self.took = Some(begin.elapsed());
        self
    }
}

/// The report of all findings.
#[derive(Debug, Default)]
pub struct Report {
    json: bool,
    failed: usize,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            ..Self::default()
        }
    }

    /// Prints the finding of a check.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn tell(&mut self, check: &str, finding: &Finding) -> Result<(), Failure> {
        self.failed += usize::from(finding.status == Status::Failed);
        if self.json {
            return say(&json!({
                "check": check,
                "status": finding.status.name(),
                "seen": finding.seen,
                "advice": finding.advice,
                "milliseconds": finding.took.map(rounded),
            })
            .to_string());
        }
        let Finding {
            status,
            seen,
            advice,
            ..
        } = finding;
        let mut line = format!("{} {check:<NAMES$} {seen}", status.shown());
        if let Some(advice) = advice {
            line += &format!(". {advice}");
        }
        say(&line)
    }

    /// Returns the overall result.
    ///
    /// # Errors
    /// [`Failure::Told`] if a check has failed.
    pub fn end(&self) -> Result<(), Failure> {
        match self.failed {
            0 => Ok(()),
            _ => Err(Failure::Told),
        }
    }
}
