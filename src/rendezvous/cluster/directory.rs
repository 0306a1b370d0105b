//! The engine that all nodes of a cluster write into and watch.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

/// What a [`Directory`] tells of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A key has this value now.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
    },
    /// A key is no more: it was deleted, or its time was up.
    Deleted {
        /// The key.
        key: String,
    },
    /// All keys that there were when the watch began have been told. What comes from now on is news.
    Current,
}

/// Why something could not be done with a [`Directory`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The engine is not to be reached at the moment, or did not answer in time.
    #[error("the directory is not to be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The engine has refused it: nothing will change that but whoever looks after the engine.
    #[error("the directory has refused it")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The engine lacks what is needed.
    #[error("the directory cannot be used: {0}")]
    Unusable(String),
}

/// A map of keys to values that all nodes of a cluster share, and in which every change is told to all.
///
/// The nodes write who has joined at them, and a lease of their own. No data of peers passes through, and nothing that is open
/// ends if it fails: then nobody hears of new peers at other nodes until it is back.
///
/// Keys have the characters `a` to `z`, `0` to `9`, `-` and `.`, and up to 150 of them; values up to 8 KiB.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Tells all keys with their values, [`Current`](Change::Current), and from then on each change. It may tell a change twice,
    /// but none behind a later one of the same key. The stream ends, or gives an error, when it cannot go on; it is then
    /// dropped, and another watch is begun. One that goes silent is noticed by the node itself, which writes something every few
    /// seconds.
    fn watch(&self) -> BoxFuture<'_, Result<Changes, DirectoryError>>;

    /// Gives a key a value, for good or for so long; that the time is up need not be told. Cancelled, it may have been done or
    /// not.
    fn put(
        &self,
        key: String,
        value: Bytes,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), DirectoryError>>;

    /// Deletes a key, whether there is one or not. Cancelled, it may have been done or not.
    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), DirectoryError>>;
}

/// The changes of a [`Directory`], as [`watch`](Directory::watch) gives them.
pub type Changes = BoxStream<'static, Result<Change, DirectoryError>>;
