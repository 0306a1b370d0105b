//! The feed: a log of announcements, to which each announcement is appended once, and which each link reads at its own
//! pace.
//!
//! An announcement is encoded once and is in memory once, for any number of links. A link keeps a [`Cursor`], reads
//! when it can write, and skips what the log no longer holds. Appending costs the same for one link and for a hundred
//! thousand. The links are woken in slices, and no lock is held between two slices.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{
    registry::{Announced, LinkId},
    shared::{Guard, Name, Shared},
};
use crate::websocket;

/// The maximum number of announcements in one chunk: about as many as one vectored write holds.
const BATCH: usize = 64;
/// The number of bytes that the logs of all tenants may hold together. A link that is further behind skips the oldest
/// announcements.
const KEPT: usize = 4 * 1024 * 1024;
/// The minimum size of each log if there are many tenants, in bytes.
const LEAST_KEPT: usize = 64 * 1024;
/// The memory for an announcement in addition to its frame, in bytes.
const OVERHEAD: usize = 64;
/// The number of links that are looked up while a lock is held.
const SLICE: usize = 256;

/// The position up to which a link has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The number of the next announcement to read.
    next: u64,
    /// The number of the link's join. The link has been told everything since then; see [`Announced::hears`].
    since: u64,
}

/// One announcement within its chunk.
#[derive(Debug)]
struct Entry {
    /// The link of the announced peer. It does not hear the announcement.
    link: LinkId,
    /// The links that hear the announcement, by the numbers of their joins.
    hears: (Bound<u64>, Bound<u64>),
    /// The end of the announcement's frame, as an offset into the chunk.
    end: usize,
}

impl Entry {
    fn is_for(&self, link: LinkId, since: u64) -> bool {
        use std::ops::RangeBounds as _;
        self.link != link && self.hears.contains(&since)
    }
}

/// Several announcements that were made together.
#[derive(Debug)]
struct Chunk {
    /// The number of the chunk's first announcement.
    first: u64,
    frames: Bytes,
    entries: Box<[Entry]>,
}

impl Chunk {
    fn new(first: u64, announced: &[Announced]) -> Self {
        let mut frames = Vec::new();
        let entries = announced.iter().map(|peer| {
            websocket::encode_text(&peer.text, &mut frames);
            Entry {
                link: peer.link,
                hears: peer.hears,
                end: frames.len(),
            }
        });
        Self {
            first,
            entries: entries.collect(),
            frames: frames.into(),
        }
    }

    fn cost(&self) -> usize {
        self.frames.len() + self.entries.len() * OVERHEAD
    }

    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds the frames for a link to `pieces`, in as few pieces as possible.
    fn read(&self, link: LinkId, cursor: Cursor, pieces: &mut Vec<Bytes>) {
        let skipped = usize::try_from(cursor.next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut start = 0;
        let mut piece = 0..0;
        for (n, entry) in self.entries.iter().enumerate() {
            if n >= skipped && entry.is_for(link, cursor.since) {
                if piece.end != start {
                    self.cut(&piece, pieces);
                    piece = start..start;
                }
                piece.end = entry.end;
            }
            start = entry.end;
        }
        self.cut(&piece, pieces);
    }

    fn cut(&self, piece: &std::ops::Range<usize>, pieces: &mut Vec<Bytes>) {
        if !piece.is_empty() {
            pieces.push(self.frames.slice(piece.clone()));
        }
    }
}

/// The log of the announcements in one tenant, with the readers `R` of the links that have joined.
#[derive(Debug)]
pub(super) struct Feed<R> {
    log: Shared<Log<R>>,
    /// The number of bytes that the log may hold.
    kept: usize,
    /// The number of the next announcement. It changes under the lock, but is read without the lock, because links look
    /// often and mostly find nothing new.
    next: AtomicU64,
    missed: AtomicU64,
}

#[derive(Debug)]
struct Log<R> {
    chunks: VecDeque<Arc<Chunk>>,
    cost: usize,
    /// The links that have joined.
    readers: BTreeMap<LinkId, Arc<R>>,
}

impl<R> Log<R> {
    fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            cost: 0,
            readers: BTreeMap::new(),
        }
    }
}

impl<R> Feed<R> {
    /// Creates the feed of one of `tenants` tenants.
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            log: Shared::new(Name::Feed, Log::new()),
            kept: (KEPT / tenants.max(1)).max(LEAST_KEPT),
            next: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> Guard<'_, Log<R>> {
        self.log.lock()
    }

    /// Appends announcements. Wakes no link.
    pub(super) fn append(&self, announced: &[Announced]) {
        // The frames are encoded with no lock held. There is only one writer, so the chunk can get its number
        // afterwards.
        for some in announced.chunks(BATCH) {
            let mut chunk = Chunk::new(0, some);
            let mut dropped = Vec::new();
            let mut log = self.lock();
            chunk.first = self.next.load(Ordering::Relaxed);
            self.next.store(chunk.end(), Ordering::Release);
            log.cost += chunk.cost();
            log.chunks.push_back(Arc::new(chunk));
            while log.cost > self.kept
                && log.chunks.len() > 1
                && let Some(oldest) = log.chunks.pop_front()
            {
                log.cost -= oldest.cost();
                dropped.push(oldest);
            }
            drop(log);
            drop(dropped);
        }
    }

    /// Returns the number of announcements that links have missed because they were too far behind.
    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Adds a link that has joined. It reads what is announced from now on.
    pub(super) fn subscribe(&self, link: LinkId, reader: Arc<R>, since: u64) -> Cursor {
        let mut log = self.lock();
        log.readers.insert(link, reader);
        Cursor {
            next: self.next.load(Ordering::Relaxed),
            since,
        }
    }

    /// Removes a link.
    pub(super) fn unsubscribe(&self, link: LinkId) {
        let reader = self.lock().readers.remove(&link);
        drop(reader);
    }

    /// Reads the next announcements for a link, from one chunk at most, as whole frames. They may be none. Returns
    /// false if the link has read everything.
    pub(super) fn read(&self, link: LinkId, cursor: &mut Cursor, frames: &mut Vec<Bytes>) -> bool {
        if cursor.next >= self.next.load(Ordering::Acquire) {
            return false;
        }
        let (chunk, oldest) = {
            let log = self.lock();
            let Some(oldest) = log.chunks.front().map(|chunk| chunk.first) else {
                return false;
            };
            // There are few chunks, and they are sorted.
            let at = cursor.next.max(oldest);
            let n = log.chunks.partition_point(|chunk| chunk.end() <= at);
            match log.chunks.get(n) {
                Some(chunk) => (chunk.clone(), oldest),
                None => return false,
            }
        };
        let missed = oldest.saturating_sub(cursor.next);
        if missed > 0 {
            self.missed.fetch_add(missed, Ordering::Relaxed);
        }
        chunk.read(link, *cursor, frames);
        cursor.next = chunk.end();
        true
    }

    /// Returns the links that have joined, if there are at most `max`.
    pub(super) fn few_readers(&self, max: usize) -> Option<Vec<Arc<R>>> {
        let log = self.lock();
        (log.readers.len() <= max).then(|| log.readers.values().cloned().collect())
    }

    /// Returns some of the links that have joined, after `last`. Sets `last` to the last one that is returned.
    pub(super) fn some_readers(&self, last: &mut Option<LinkId>) -> Vec<Arc<R>> {
        next_slice(&self.lock().readers, last)
    }
}

/// Returns some of what `links` holds, after the link `last`, so that a caller can go through all without holding their
/// lock all the time. Sets `last` to the link of the last one that is returned.
pub(super) fn next_slice<T>(
    links: &BTreeMap<LinkId, Arc<T>>,
    last: &mut Option<LinkId>,
) -> Vec<Arc<T>> {
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    let some = links.range((after, Bound::Unbounded)).take(SLICE);
    some.map(|(link, one)| {
        *last = Some(*link);
        one.clone()
    })
    .collect()
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
