//! Output on standard output and standard error, each of which may be closed or full.

use std::io::{self, Write as _};

use crate::failure::Failure;

/// The number of characters that are shown of a text from a stranger.
const MAX_WORDS: usize = 512;

/// Writes a line to standard output, and waits until it is accepted.
///
/// # Errors
/// [`Failure::Closed`] if no one reads standard output any more, [`Failure::Output`] if the write fails for another
/// reason.
pub fn say(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.map_err(Failure::from_output)
}

/// Writes a line to standard error. Errors are ignored.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Returns a text from a stranger in one line, shortened, and without control characters that a terminal would obey.
pub fn words(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(MAX_WORDS) {
        match c {
            // Quotes end nothing here, and a backslash may come from text that was escaped before.
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Formats a time in milliseconds with three significant digits.
pub fn milliseconds(time: std::time::Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        10.0..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// Returns a time in milliseconds, rounded to a microsecond.
pub fn rounded(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn words_stay_in_their_line_and_are_short() {
        assert_eq!(words("it's\x1b[31m\r\nb"), "it's\\u{1b}[31m\\r\\nb");
        assert_eq!(words(&"x".repeat(1000)).len(), MAX_WORDS);
    }

    #[test]
    fn times_have_three_digits() {
        for (micros, expected) in [(420, "0.42 ms"), (12_345, "12.3 ms"), (123_456, "123 ms")] {
            assert_eq!(milliseconds(Duration::from_micros(micros)), expected);
        }
        assert_eq!(rounded(Duration::from_nanos(1_234_567)), 1.235);
    }
}
