//! Words from outside, as they may be shown.
//!
//! What a peer, a server, a proxy or a resolver says ends up in errors and log lines, and from there on terminals
//! and in log files. There it must not be able to begin a line of its own, or to command the terminal.

use std::fmt::{self, Display, Write as _};

/// How much is shown, in bytes.
const MAX: usize = 512;

/// Shows what comes from outside in one line: with everything escaped that is not printable, backslashes too, and cut
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

/// Whether nothing in `text` would be escaped.
#[cfg(feature = "rendezvous-server")]
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|c| escape(c).eq([c]))
}

/// Escapes and cuts what is written to it.
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
    // They end nothing here.
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
