//! Text from outside, made safe to display.
//!
//! Text from a peer, a server, a proxy or a resolver ends up in errors and log lines, and from there on terminals and
//! in log files. There it must not be able to start a new line or to control the terminal.

use std::fmt::{self, Display, Write as _};

/// The number of bytes that are shown.
const MAX: usize = 512;

/// Shows text from outside in one line. It escapes everything that is not printable, and backslashes, and cuts the text
/// after 512 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<T>(pub(crate) T);

impl<T: Display> Display for Words<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line {
            to: f,
            room: MAX,
            is_cut: false,
        };
        match write!(line, "{}", self.0) {
            Err(fmt::Error) if line.is_cut => f.write_char('…'),
            result => result,
        }
    }
}

/// Returns whether nothing in `text` would be escaped.
#[cfg(feature = "rendezvous-server")]
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|c| escape(c).eq([c]))
}

/// Escapes what is written to it, and cuts it after `room` bytes.
struct Line<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    room: usize,
    is_cut: bool,
}

impl fmt::Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let escaped = escape(c);
            let len = escaped.clone().map(char::len_utf8).sum();
            let Some(room) = self.room.checked_sub(len) else {
                self.is_cut = true;
                return Err(fmt::Error);
            };
            self.room = room;
            for c in escaped {
                self.to.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn escape(c: char) -> impl Iterator<Item = char> + Clone {
    // Quotes are not escaped, because they end nothing here.
    let is_plain = matches!(c, '"' | '\'');
    let escaped = (!is_plain).then(|| c.escape_debug());
    is_plain
        .then_some(c)
        .into_iter()
        .chain(escaped.into_iter().flatten())
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
