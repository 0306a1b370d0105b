//! The command-line node `star`, as people and scripts run it: in pipes, with `--json`, and in a terminal.

mod completions;
mod doctor;
mod identity;
mod peers;
mod ping;
mod pipe;
mod star;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod usage;
