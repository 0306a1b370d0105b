//! Keeps small messages from holding on to large buffers.
//!
//! A received message is a slice of the buffer it was read into. While it waits in a queue, where it
//! is counted with its own length, it keeps the whole buffer: behind a message of a megabyte, that is
//! a megabyte. Such a message is copied.

use tokio_websockets::Message;

/// The smallest buffer that is read into (tokio-util's).
const MIN_BUFFER: usize = 8 * 1024;
/// A message that is at least this part of its buffer is not copied.
const WORTHY: usize = 4;

/// Knows how large the buffer of the next message may be.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    /// The largest message that may share it.
    largest: usize,
    /// How many bytes were read after that one.
    since: usize,
}

impl Compactor {
    /// Notes that a message of so many bytes was read.
    pub(super) fn note(&mut self, len: usize) {
        self.since = self.since.saturating_add(len);
        // A buffer is at most twice as large as the largest message it was made for.
        if len >= self.largest || self.since > 2 * self.largest {
            self.largest = len;
            self.since = 0;
        }
    }

    /// The message, in memory of its own if it is much smaller than its buffer may be.
    pub(super) fn compact(&self, message: Message) -> Message {
        let payload = message.as_payload();
        if payload.len() >= self.largest.max(MIN_BUFFER) / WORTHY {
            return message;
        }
        match message.as_text() {
            Some(text) => Message::text(text.to_owned()),
            None => Message::binary(payload.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a message of `len` bytes is copied when it comes next.
    fn copies(compactor: &mut Compactor, len: usize) -> bool {
        compactor.note(len);
        let message = Message::binary(vec![7; len]);
        let before = message.as_payload().as_ptr();
        let compacted = compactor.compact(message);
        assert_eq!(**compacted.as_payload(), vec![7; len]);
        compacted.as_payload().as_ptr() != before
    }

    #[test]
    fn messages_of_one_size_are_handed_on_as_they_are() {
        let mut compactor = Compactor::default();
        for len in [4096, 64 * 1024, 900_000] {
            for _ in 0..5 {
                assert!(!copies(&mut compactor, len), "{len}");
            }
        }
    }

    #[test]
    fn a_message_in_the_shadow_of_a_larger_one_is_copied() {
        let mut compactor = Compactor::default();
        assert!(!copies(&mut compactor, 900_000));
        assert!(copies(&mut compactor, 100_000));
        assert!(!copies(&mut compactor, 300_000));
        assert!(copies(&mut compactor, 1));
        // By now the buffer is another one.
        for _ in 0..20 {
            copies(&mut compactor, 100_000);
        }
        assert!(!copies(&mut compactor, 100_000));
    }

    #[test]
    fn a_tiny_message_is_copied_out_of_the_smallest_buffer() {
        let mut compactor = Compactor::default();
        assert!(copies(&mut compactor, 2000));
        assert!(!copies(&mut compactor, 3000));
    }

    #[test]
    fn text_stays_text() {
        let compactor = Compactor::default();
        let message = compactor.compact(Message::text("a"));
        assert_eq!(message.as_text(), Some("a"));
    }
}
