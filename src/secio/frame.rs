//! Frames: a length of four bytes, big-endian, followed by as many bytes of data.

use std::ops::Range;

use super::FrameError;

pub(super) const HEADER: usize = 4;

/// The bytes requested at a time, so that small frames share a read.
const READ: usize = 16 * 1024;

/// Splits a stream of bytes into frames, without IO. [`space`](Self::space) takes the bytes, [`filled`](Self::filled)
/// says how many came, and [`next_frame`](Self::next_frame) finds the frames in them.
///
/// It holds the received bytes only. An announced length alone allocates nothing.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    unread: Range<usize>,
    max: usize,
}

impl FrameDecoder {
    /// Creates a decoder that refuses frames of more than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            unread: 0..0,
            max,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Returns the buffer for the next bytes. It is never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
            // After one large frame, its memory is not held for ever.
            if self.buffer.len() > 8 * READ {
                self.buffer = Vec::new();
            }
        }
        if self.unread.end == self.buffer.len() {
            self.make_room();
        }
        &mut self.buffer[self.unread.end..]
    }

    /// Notes that `len` bytes were put into the space.
    ///
    /// # Panics
    ///
    /// If the space is smaller than that.
    pub fn filled(&mut self, len: usize) {
        assert!(len <= self.buffer.len() - self.unread.end);
        self.unread.end += len;
    }

    /// Returns the next complete frame, as a range for [`get`](Self::get). The range is valid until the next call of
    /// [`space`](Self::space).
    ///
    /// # Errors
    /// If the frame is longer than the decoder permits.
    pub fn next_frame(&mut self) -> Result<Option<Range<usize>>, FrameError> {
        let Some((header, rest)) = self.buffer[self.unread.clone()].split_first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.unread.start + HEADER;
        self.unread.start = start + len;
        Ok(Some(start..start + len))
    }

    /// Returns the bytes of a frame, or of a part of it.
    ///
    /// # Panics
    ///
    /// If the range is not within the buffer.
    pub fn get(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.buffer[place]
    }

    /// Returns whether a frame has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Moves the unread bytes to the front. If they still fill the buffer, doubles its size.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.buffer.len() - self.unread.end < READ {
            let len = (2 * self.unread.end).max(READ).max(self.unread.end + READ);
            self.buffer.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn frame(data: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(data.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        frame.extend(data);
        frame
    }

    /// Feeds the pieces to the decoder and returns the frames.
    fn decode<'a>(
        decoder: &mut FrameDecoder,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut frames = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                let space = decoder.space();
                let len = space.len().min(piece.len());
                space[..len].copy_from_slice(&piece[..len]);
                decoder.filled(len);
                piece = &piece[len..];
                while let Some(place) = decoder.next_frame()? {
                    frames.push(decoder.get(place).to_vec());
                }
            }
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn frames_survive_any_splits(
            frames in vec(vec(any::<u8>(), 0..40_000), 0..8),
            piece in 1..5000_usize,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|data| frame(data)).collect();
            let mut decoder = FrameDecoder::new(40_000);
            prop_assert_eq!(decode(&mut decoder, wire.chunks(piece)), Ok(frames));
            prop_assert!(!decoder.is_partial());
        }
    }

    #[test]
    fn a_length_alone_makes_nobody_allocate() {
        let mut decoder = FrameDecoder::new(usize::MAX);
        let frames = decode(&mut decoder, [&[0xff; 4][..]].into_iter());
        assert_eq!(frames, Ok(vec![]));
        assert!(decoder.is_partial());
        assert!(decoder.buffer.capacity() <= 2 * READ);
    }

    #[test]
    fn a_large_frame_does_not_hold_its_memory_for_ever() {
        let mut decoder = FrameDecoder::new(1 << 20);
        let large = frame(&vec![7; 1 << 20]);
        assert!(decode(&mut decoder, [&large[..]].into_iter()).is_ok());
        decoder.space();
        assert!(decoder.buffer.capacity() <= 2 * READ);
    }

    #[test]
    fn a_frame_over_the_bound_is_refused_before_its_data() {
        let mut decoder = FrameDecoder::new(9);
        let frames = decode(&mut decoder, [&[0, 0, 0, 10][..]].into_iter());
        assert_eq!(frames, Err(FrameError::TooLong { len: 10, max: 9 }));
    }
}
