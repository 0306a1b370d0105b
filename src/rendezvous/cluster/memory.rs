//! A directory in memory, for nodes in one process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use tokio::{sync::watch, time::Instant};

use super::directory::{Change, Changes, Directory, DirectoryError};

/// The number of changes that are kept for watchers. A watcher that is further behind has to begin anew.
const KEPT: usize = 64 * 1024;

/// A [`Directory`] in memory, for several nodes in one process: for tests, and to try out a cluster. Clones are the
/// same directory.
#[derive(Debug, Clone, Default)]
pub struct MemoryDirectory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The number of the last change.
    latest: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, (Bytes, Option<Instant>)>,
    /// The numbers and keys of the last changes, in order.
    log: VecDeque<(u64, String)>,
    revision: u64,
}

impl State {
    fn note(&mut self, key: String) {
        self.revision += 1;
        self.log.push_back((self.revision, key));
        if self.log.len() > KEPT {
            self.log.pop_front();
        }
    }

    /// Deletes the keys whose time to live is over.
    fn expire(&mut self, now: Instant) {
        let is_over = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        let over = self.keys.iter().filter(|(_, (_, until))| is_over(until));
        let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            self.keys.remove(&key);
            self.note(key);
        }
    }

    /// Returns when the next key expires.
    fn next_expiry(&self) -> Option<Instant> {
        self.keys.values().filter_map(|(_, until)| *until).min()
    }

    /// Returns the current state of a key, as a change.
    fn change(&self, key: &str) -> Change {
        let key = key.to_owned();
        match self.keys.get(&key) {
            Some((value, _)) => Change::Put {
                key,
                value: value.clone(),
            },
            None => Change::Deleted { key },
        }
    }

    /// Returns the changes after a revision and the number of the last one; `None` if not all of them are kept.
    fn since(&self, revision: u64) -> Option<(Vec<Change>, u64)> {
        let first = self
            .log
            .front()
            .map_or(self.revision + 1, |(first, _)| *first);
        let has_all = first <= revision + 1;
        let behind = self.log.iter().filter(|(number, _)| *number > revision);
        let changes = behind.map(|(_, key)| self.change(key));
        has_all.then(|| (changes.collect(), self.revision))
    }
}

impl MemoryDirectory {
    /// Creates an empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        state.expire(Instant::now());
        let result = change(&mut state);
        let revision = state.revision;
        drop(state);
        self.0.latest.send_if_modified(|latest| {
            let is_new = *latest < revision;
            *latest = revision.max(*latest);
            is_new
        });
        result
    }

    /// Waits for changes after a revision and returns them; `None` if not all of them are kept.
    async fn next(&self, revision: u64) -> Option<(Vec<Change>, u64)> {
        let mut latest = self.0.latest.subscribe();
        loop {
            self.change(|_| ());
            let (changes, expiry) = {
                let state = self.lock();
                (state.since(revision), state.next_expiry())
            };
            match changes {
                Some((changes, _)) if changes.is_empty() => {}
                changes => return changes,
            }
            let expiry = async {
                match expiry {
                    Some(expiry) => tokio::time::sleep_until(expiry).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // This cannot fail: `self` holds the sender.
                _ = latest.changed() => {}
                () = expiry => {}
            }
        }
    }
}

impl Directory for MemoryDirectory {
    fn watch(&self) -> BoxFuture<'_, Result<Changes, DirectoryError>> {
        let (listed, revision) = self.change(|state| {
            let all = state.keys.iter();
            let all = all.map(|(key, (value, _))| Change::Put {
                key: key.clone(),
                value: value.clone(),
            });
            (
                all.chain([Change::Current]).map(Ok).collect::<Vec<_>>(),
                state.revision,
            )
        });
        let news = futures::stream::unfold(
            (self.clone(), revision),
            |(directory, revision)| async move {
                let (changes, last) = directory.next(revision).await?;
                let changes = changes.into_iter().map(Ok).collect::<Vec<_>>();
                Some((changes, (directory, last)))
            },
        );
        let all = futures::stream::iter([listed]).chain(news);
        let changes = all.flat_map(futures::stream::iter).boxed();
        futures::future::ready(Ok(changes)).boxed()
    }

    fn put(
        &self,
        key: String,
        value: Bytes,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), DirectoryError>> {
        let until = time_to_live.map(|time| Instant::now() + time);
        self.change(|state| {
            state.note(key.clone());
            state.keys.insert(key, (value, until));
        });
        futures::future::ready(Ok(())).boxed()
    }

    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), DirectoryError>> {
        self.change(|state| {
            if state.keys.remove(&key).is_some() {
                state.note(key);
            }
        });
        futures::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &'static str) -> Change {
        Change::Put {
            key: key.to_owned(),
            value: Bytes::from_static(value.as_bytes()),
        }
    }

    async fn next(changes: &mut Changes) -> Change {
        changes.next().await.expect("goes on").expect("no error")
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_is_told_all_and_then_what_changes() {
        let directory = MemoryDirectory::new();
        let value = Bytes::from_static(b"1");
        directory
            .put("a".to_owned(), value.clone(), None)
            .await
            .expect("written");
        let mut changes = directory.watch().await.expect("watched");
        assert_eq!(next(&mut changes).await, put("a", "1"));
        assert_eq!(next(&mut changes).await, Change::Current);
        let ttl = Some(Duration::from_secs(30));
        directory
            .put("b".to_owned(), value, ttl)
            .await
            .expect("written");
        assert_eq!(next(&mut changes).await, put("b", "1"));
        directory.delete("a".to_owned()).await.expect("deleted");
        directory
            .delete("a".to_owned())
            .await
            .expect("nothing to do");
        let deleted = |key: &str| Change::Deleted {
            key: key.to_owned(),
        };
        assert_eq!(next(&mut changes).await, deleted("a"));
        let start = Instant::now();
        assert_eq!(next(&mut changes).await, deleted("b"));
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn who_is_too_far_behind_has_to_begin_anew() {
        let directory = MemoryDirectory::new();
        let mut changes = directory.watch().await.expect("watched");
        assert_eq!(next(&mut changes).await, Change::Current);
        for _ in 0..=KEPT {
            let written = directory.put("a".to_owned(), Bytes::new(), None).await;
            written.expect("written");
        }
        assert!(changes.next().await.is_none());
    }
}
