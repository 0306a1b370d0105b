//! Large buffers that are reused.
//!
//! Memory fresh from the system costs a page fault for every 4 KiB that are written to it, which takes as long as
//! receiving the data. So the buffers of items are reused: a buffer that one connection has read and dropped is still
//! in the cache when the next item of any connection uses it.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// Smaller buffers are left to the allocator, which does not return them to the system. In bytes.
const SMALLEST: usize = 16 * 1024;
/// Capacities are multiples of this number of bytes, so that items of similar length fit the same buffers.
const STEP: usize = 16 * 1024;
/// The maximum number of bytes kept for reuse in the whole process: about thirty items of the usual length.
const KEPT: usize = 4 * 1024 * 1024;

static POOL: Mutex<Pool> = Mutex::new(Pool::new(KEPT));

/// A mutable byte buffer that can be frozen without a copy. The memory of large buffers is reused.
#[derive(Default)]
pub struct Buffer {
    /// Filled up to `len`. The bytes beyond it are left from earlier use.
    data: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Creates an empty buffer with room for at least `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let data = match capacity {
            0..SMALLEST => vec![0; capacity],
            _ => pool(|pool| pool.take(capacity))
                .unwrap_or_else(|| vec![0; capacity.next_multiple_of(STEP)]),
        };
        Self { data, len: 0 }
    }

    /// Appends bytes. If they exceed the capacity, the contents move to a larger buffer.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.data[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Makes room for this many more bytes.
    pub fn reserve(&mut self, more: usize) {
        let wanted = self.len + more;
        if wanted > self.data.len() {
            let mut larger = Self::with_capacity(wanted.max(2 * self.data.len()));
            larger.data[..self.len].copy_from_slice(&self.data[..self.len]);
            larger.len = self.len;
            *self = larger;
        }
    }

    /// Returns the bytes of memory that the buffer occupies.
    #[cfg(feature = "rendezvous-server")]
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Returns the free part of the buffer. Write to it before [`advance`](Self::advance).
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.data[self.len..]
    }

    /// Marks this many bytes of the free part as filled.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn advance(&mut self, filled: usize) {
        self.len = (self.len + filled).min(self.data.len());
    }

    /// Makes the buffer read-only and shared. The memory is reused when the last share of it is dropped.
    pub fn freeze(mut self) -> Bytes {
        if self.data.len() < SMALLEST {
            let mut data = std::mem::take(&mut self.data);
            data.truncate(self.len);
            return data.into();
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.data[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&&**self).finish()
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        (**self).into()
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.data.len() >= SMALLEST {
            let data = std::mem::take(&mut self.data);
            // If the pool has no room for the memory, it is freed here, after the lock is released.
            drop(pool(|pool| pool.put(data)));
        }
    }
}

fn pool<R>(with: impl FnOnce(&mut Pool) -> R) -> R {
    // The pool is consistent even if the lock is poisoned: nothing in here panics halfway through a change.
    with(&mut POOL.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Unused buffers. The last one is taken first, because it is most likely still in the cache.
#[derive(Debug)]
struct Pool {
    free: Vec<Vec<u8>>,
    bytes: usize,
    limit: usize,
}

impl Pool {
    const fn new(limit: usize) -> Self {
        Self {
            free: Vec::new(),
            bytes: 0,
            limit,
        }
    }

    /// Takes a buffer of at least `capacity` bytes, and at most twice as many.
    fn take(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let fits = |data: &Vec<u8>| (capacity..=2 * capacity).contains(&data.len());
        let n = self.free.iter().rposition(fits)?;
        let data = self.free.remove(n);
        self.bytes -= data.len();
        Some(data)
    }

    /// Keeps a buffer for reuse. Returns it if the pool has no room.
    fn put(&mut self, data: Vec<u8>) -> Option<Vec<u8>> {
        if self.bytes + data.len() > self.limit {
            return Some(data);
        }
        self.bytes += data.len();
        self.free.push(data);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        for capacity in [0, 1, 100, SMALLEST - 1, SMALLEST, 10 * STEP + 1] {
            let mut buffer = Buffer::with_capacity(capacity);
            let (mut all, mut n) = (Vec::new(), 0_u8);
            for len in [0, 1, 100, 50_000] {
                let piece = vec![n; len];
                buffer.extend_from_slice(&piece);
                all.extend(piece);
                n += 1;
            }
            buffer.reserve(3);
            buffer.room()[..3].copy_from_slice(b"end");
            buffer.advance(3);
            all.extend(b"end");
            assert_eq!(*buffer, all);
            assert_eq!(buffer.freeze(), all, "{capacity}");
        }
    }

    #[test]
    fn what_was_in_a_buffer_before_is_not_seen() {
        let mut buffer = Buffer::with_capacity(100_000);
        buffer.extend_from_slice(&[1; 100_000]);
        drop(buffer.freeze());
        let mut buffer = Buffer::with_capacity(100_000);
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&[2; 3]);
        assert_eq!(buffer.freeze(), [2; 3].as_slice());
    }

    #[test]
    fn a_pool_gives_what_fits_and_keeps_no_more_than_it_may() {
        let mut pool = Pool::new(10);
        assert_eq!(pool.put(vec![0; 4]), None);
        assert_eq!(pool.put(vec![0; 6]), None);
        assert_eq!(pool.put(vec![0; 1]), Some(vec![0; 1]));
        assert_eq!(pool.take(7), None);
        assert_eq!(pool.take(1), None, "it would waste too much");
        assert_eq!(pool.take(3).map(|data| data.len()), Some(6), "the last one");
        assert_eq!(pool.put(vec![0; 6]), None);
        assert_eq!(pool.take(4).map(|data| data.len()), Some(6));
        assert_eq!(pool.take(4).map(|data| data.len()), Some(4));
        assert_eq!((pool.take(4), pool.bytes), (None, 0));
    }
}
