//! Reads the lists: at the start, on SIGHUP, and when they have changed.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use libp2p_websocket_star::rendezvous::{Config, Server};
use tokio::task::spawn_blocking;

use super::{callout::Callout, file::FileError, lists::ListFiles, policy::Policy};

/// How often it is looked whether the files have changed: whoever is taken off a list is cut off within a second.
const LOOK: Duration = Duration::from_millis(200);
/// How many looks a file that is being written may take. Then it is read as it is.
const LOOKS: usize = 3;

/// Tells one state of a file from another.
type Fingerprint = Option<(SystemTime, u64, u64)>;

/// Keeps the lists of a server up to date.
pub struct AccessWatch {
    files: ListFiles,
    /// If anybody is to be kept out at all.
    policy: Option<Arc<Policy>>,
    seen: Vec<Fingerprint>,
}

impl AccessWatch {
    /// Reads the lists for the first time.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn new(files: ListFiles, callout: Option<Callout>) -> Result<Self, FileError> {
        // Before they are read, so that no change is missed.
        let seen = fingerprints(&files);
        let policy = match files.are_none() && callout.is_none() {
            true => None,
            false => {
                let lists = files.load()?;
                tracing::info!(?lists, "not everybody may use the rendezvous");
                Some(Arc::new(Policy::new(lists, callout)))
            }
        };
        Ok(Self {
            files,
            policy,
            seen,
        })
    }

    /// Has a server keep to the lists.
    pub fn apply(&self, config: Config) -> Config {
        match &self.policy {
            Some(policy) => config.with_access(policy.clone()),
            None => config,
        }
    }

    /// Returns when the files have changed, and are not being written any more. Cancel safe.
    pub async fn changed(&mut self) {
        if self.files.are_none() {
            return std::future::pending().await;
        }
        let mut last = None;
        let mut looks = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = fingerprints(&self.files);
            if now == self.seen {
                (last, looks) = (None, 0);
                continue;
            }
            looks += 1;
            if looks == LOOKS || last.as_ref() == Some(&now) {
                return;
            }
            last = Some(now);
        }
    }

    /// Reads the lists, and has the server cut off who is not allowed any more. If one of them is no good, all stay as
    /// they were.
    pub async fn reload(&mut self, server: &Server) {
        let Some(policy) = self.policy.as_ref().filter(|_| !self.files.are_none()) else {
            return;
        };
        self.seen = fingerprints(&self.files);
        let files = self.files.clone();
        match spawn_blocking(move || files.load()).await {
            Ok(Ok(lists)) => {
                let shown = format!("{lists:?}");
                policy.replace(lists);
                let cut_off = server.recheck_access().await;
                tracing::info!(lists = shown, cut_off, "the access lists were read anew");
            }
            Ok(Err(error)) => tracing::error!(%error, "the access lists stay as they were"),
            Err(error) => tracing::error!(%error, "the access lists stay as they were"),
        }
    }
}

fn fingerprints(files: &ListFiles) -> Vec<Fingerprint> {
    files.paths().map(fingerprint).collect()
}

/// Links are followed.
fn fingerprint(path: &Path) -> Fingerprint {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), number(&metadata)))
}

/// Another file in its place has another number.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> u64 {
    0
}
