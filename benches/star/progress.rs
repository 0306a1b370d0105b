//! Progress messages on the terminal.

use std::io::IsTerminal as _;

/// Replaces the previous message.
pub fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}
