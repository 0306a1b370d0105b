//! Error messages of the programs, each in one line.

use std::error::Error;

/// Returns the message of the error, followed by its causes, except for those that the message already contains.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Returns clap's error message in one line, without its usage text.
pub fn one_line(error: &str) -> String {
    let lines = error.lines().map(str::trim);
    let told: Vec<_> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let told = told.join("; ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told} (--help says more)")
}
