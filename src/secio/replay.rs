//! Detection of repeated frames.
//!
//! A secio frame has no number, and its MAC is valid at any position of the stream, so the protocol accepts a frame
//! that is sent again. But the keystream makes all frames different, so a frame whose MAC has been seen before is a
//! copy. This detects recent copies. It detects neither old copies nor frames that are left out or reordered; those
//! decrypt to garbage.

use std::{collections::HashSet, mem};

/// The MACs of at least this many frames, and of at most twice as many, are remembered.
const MEMORY: usize = 2048;

/// The minimum length in bytes for the check. Shorter ciphertexts can be equal by chance. At this length the
/// probability is 2^-128 for each pair.
const MIN_LEN: usize = 16;

/// The MACs of recent frames.
#[derive(Default)]
pub(super) struct Seen {
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

impl Seen {
    /// Returns whether no recent frame had this MAC, which is already verified. `len` is the length of the frame's
    /// data. Frames with little data always count as new.
    pub(super) fn is_new(&mut self, len: usize, mac: &[u8]) -> bool {
        let Some(mac) = mac.first_chunk::<16>().filter(|_| len >= MIN_LEN) else {
            return true;
        };
        if self.now.len() == MEMORY {
            self.before = mem::take(&mut self.now);
        }
        !self.before.contains(mac) && self.now.insert(*mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: usize) -> [u8; 32] {
        let mut mac = [0; 32];
        mac[..8].copy_from_slice(&n.to_le_bytes());
        mac
    }

    #[test]
    fn a_copy_among_the_last_frames_is_found() {
        let mut seen = Seen::default();
        for n in 0..10 * MEMORY {
            assert!(seen.is_new(MIN_LEN, &mac(n)));
            assert!(!seen.is_new(MIN_LEN, &mac(n.saturating_sub(MEMORY - 1))));
        }
        assert!(seen.now.len() + seen.before.len() <= 2 * MEMORY);
    }

    #[test]
    fn short_frames_may_be_alike() {
        let mut seen = Seen::default();
        assert!(seen.is_new(MIN_LEN - 1, &mac(0)));
        assert!(seen.is_new(MIN_LEN - 1, &mac(0)));
    }
}
