//! Frames that come for the second time.
//!
//! A frame of secio carries no number, and its MAC is good at any place of the stream: the protocol
//! has nothing against one that is sent again. But the keystream makes no two frames alike, so one
//! whose MAC has been seen is a copy. That finds copies of late, not those of long ago, and neither
//! frames left out nor frames in another order: those come out as garbage.

use std::{collections::HashSet, mem};

/// Of that many frames at least, and of twice as many at most, the MACs are remembered.
const MEMORY: usize = 2048;

/// Shorter data has equal ciphertexts by chance. Of this length, never: 2^-128 for each pair.
const MIN_LEN: usize = 16;

/// The MACs of late.
#[derive(Default)]
pub(super) struct Seen {
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

impl Seen {
    /// Whether a frame with `len` bytes of data and that MAC, which is good, has not come of late.
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
