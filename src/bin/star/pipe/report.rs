//! What a pipe writes to standard error: its progress, on a terminal, and its result, for scripts.

use std::{
    io::IsTerminal as _,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::{task::JoinHandle, time::interval};

use super::carry::Moved;
use crate::{errors::with_sources, failure::Failure, output::note};

/// The interval at which the progress is updated.
const TICK: Duration = Duration::from_millis(200);
const WITH_END: &str =
    "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const WITHOUT_END: &str = "{msg} {binary_bytes_per_sec} {elapsed}";

/// The progress on a terminal, if there is one.
pub struct Report(Option<Shown>);

struct Shown {
    progress: Progress,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Progress {
    bar: ProgressBar,
    moved: Arc<Moved>,
}

impl Report {
    /// Shows the progress from now on. `len` is the number of bytes to send, if it is known.
    pub fn new(wanted: bool, len: Option<u64>, moved: Arc<Moved>) -> Self {
        let is_typed = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        // The progress would mix with what people type to each other.
        if !wanted || is_typed || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(len, target);
        let template = if len.is_some() { WITH_END } else { WITHOUT_END };
        // Both templates are valid, as a test checks.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let progress = Progress { bar, moved };
        let shown = progress.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(TICK);
            loop {
                ticks.tick().await;
                shown.show();
            }
        });
        Self(Some(Shown { progress, task }))
    }

    /// Leaves the last state on the terminal, and the cursor on a new line.
    pub fn end(self) {
        if let Self(Some(Shown { progress, task })) = self {
            task.abort();
            progress.show();
            progress.bar.abandon();
        }
    }
}

impl Progress {
    fn show(&self) {
        let (bar, moved) = (&self.bar, &self.moved);
        let (sent, received) = (moved.sent.load(Relaxed), moved.received.load(Relaxed));
        if bar.length().is_some() {
            bar.set_message(format!("received {}", BinaryBytes(received)));
            bar.set_position(sent);
        } else {
            let (to, from) = (BinaryBytes(sent), BinaryBytes(received));
            bar.set_message(format!("sent {to}, received {from}"));
            bar.set_position(sent + received);
        }
    }
}

/// Prints the result, and the error if there is one.
pub fn print_json(moved: &Moved, took: Duration, failure: Option<&Failure>) {
    let end = json!({
        "event": "end",
        "sent": moved.sent.load(Relaxed),
        "received": moved.received.load(Relaxed),
        "seconds": took.as_secs_f64(),
        "error": failure.map(|failure| with_sources(failure)),
    });
    note(&end.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_good() {
        for template in [WITH_END, WITHOUT_END] {
            ProgressStyle::with_template(template).expect(template);
        }
    }
}
