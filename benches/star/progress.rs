//! What is being done, for somebody who waits.

use std::io::IsTerminal as _;

/// Writes over the line before.
pub fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}
