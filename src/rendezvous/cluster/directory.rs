//! The engine that all nodes of a cluster write into and watch.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

/// A change that a [`Directory`] reports.
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
    /// A key is gone: it was deleted, or its time to live is over.
    Deleted {
        /// The key.
        key: String,
    },
    /// All keys that existed when the watch began have been reported. From now on, the changes are new.
    Current,
}

/// Why an operation of a [`Directory`] has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The engine cannot be reached at the moment, or did not answer in time.
    #[error("the directory cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// The engine has refused the operation. Only the administrator of the engine can change that.
    #[error("the directory refused the operation")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The engine lacks what is needed.
    #[error("the directory cannot be used: {0}")]
    Unusable(String),
}

/// A map of keys to values that all nodes of a cluster share. Every node is notified of every change.
///
/// The nodes write who has joined at them, and a lease of their own. No data of peers passes through the directory. If
/// it fails, nothing that is open ends. But until it is back, no node is notified of new peers at other nodes.
///
/// Keys have up to 150 characters, which are `a` to `z`, `0` to `9`, `-` and `.`. Values have up to 8 KiB.
pub trait Directory: fmt::Debug + Send + Sync + 'static {
    /// Reports all keys with their values, then [`Current`](Change::Current), and from then on each change. It may
    /// report a change twice, but never after a later change of the same key. The stream ends, or gives an error, when
    /// it cannot go on; it is then dropped, and another watch is begun. The node itself notices a stream that has gone
    /// silent, because it writes something every few seconds.
    fn watch(&self) -> BoxFuture<'_, Result<Changes, DirectoryError>>;

    /// Gives a key a value, for good or for this long. The end of that time need not be reported. If the future is
    /// dropped early, the value may have been written or not.
    fn put(
        &self,
        key: String,
        value: Bytes,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), DirectoryError>>;

    /// Deletes a key, whether it exists or not. If the future is dropped early, the key may have been deleted or not.
    fn delete(&self, key: String) -> BoxFuture<'_, Result<(), DirectoryError>>;
}

/// The changes of a [`Directory`], as [`watch`](Directory::watch) gives them.
pub type Changes = BoxStream<'static, Result<Change, DirectoryError>>;
