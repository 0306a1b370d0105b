//! The command-line node `star`, as people and scripts run it: in pipes, with `--json`, and in a terminal.

mod completions;
mod doctor;
mod forward_proxies;
mod identity;
mod operations;
mod peers;
mod ping;
mod pipe;
mod star;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../it/support/mod.rs"]
mod support;
mod terminal;
mod usage;
