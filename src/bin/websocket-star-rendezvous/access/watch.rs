//! Reads the access lists: at the start, on SIGHUP, and when they have changed.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use libp2p_websocket_star::rendezvous::{Config, Server};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    callout::{Callout, CalloutSettings, RootsError},
    changes::Changes,
    counts::Counts,
    file::FileError,
    policy::Policy,
    rules::{RuleFiles, Rules},
};

/// The interval at which the files are checked for changes. It is short, so that a peer taken off a list is
/// disconnected within a second.
const LOOK: Duration = Duration::from_millis(200);

/// The reason why access control cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Lists(#[from] FileError),
    #[error(transparent)]
    Callout(#[from] RootsError),
}

/// Identifies one state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    modified: Option<SystemTime>,
    len: u64,
    #[cfg(unix)]
    inode: Inode,
}

/// The identity of the file, and the time of its last status change. Programs cannot set this time.
#[cfg(unix)]
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
    changed: (i64, i64),
}

impl Fingerprint {
    /// Returns the fingerprint of a file; `None` if it cannot be looked up. Symbolic links are followed.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            #[cfg(unix)]
            inode: Inode::of(&metadata),
        })
    }
}

#[cfg(unix)]
impl Inode {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

type Fingerprints = Vec<Option<Fingerprint>>;

/// Keeps the access lists of a server up to date.
pub struct AccessWatch {
    files: RuleFiles,
    /// The access policy; `None` if everyone is let in.
    policy: Option<Arc<Policy>>,
    changes: Changes<Fingerprints>,
    /// The last error, so that each error is logged only once.
    told: Option<String>,
}

impl AccessWatch {
    /// Reads the lists for the first time.
    ///
    /// # Errors
    /// If a list cannot be used, or the service cannot be asked.
    pub fn new(files: RuleFiles, callout: Option<&CalloutSettings>) -> Result<Self, AccessError> {
        let counts = Arc::<Counts>::default();
        let callout = callout.map(|settings| Callout::new(settings, counts.clone()));
        let callout = callout.transpose()?;
        // The fingerprints are taken before the files are read, so that no change is missed.
        let seen = fingerprints(&files);
        let policy = match files.are_none() && callout.is_none() {
            true => None,
            false => {
                let rules = files.load()?;
                tracing::info!(lists = ?rules, "access to the rendezvous is restricted");
                if callout.is_none() {
                    warn_of_open_tenants(&rules);
                }
                Some(Arc::new(Policy::new(rules, callout, counts)))
            }
        };
        Ok(Self {
            files,
            policy,
            changes: Changes::new(seen),
            told: None,
        })
    }

    /// Adds the access policy to the configuration of a server.
    pub fn apply(&self, config: Config) -> Config {
        match &self.policy {
            Some(policy) => config.with_access(policy.clone()),
            None => config,
        }
    }

    /// Reloads the lists whenever they change, and whenever `asked` is notified. Files are accessed only on blocking
    /// threads, where they hold up no other task.
    pub async fn run(&mut self, server: &Server, asked: &Notify) -> Infallible {
        let Some(policy) = self.policy.clone() else {
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                () = asked.notified() => {
                    policy.forget_answers();
                    self.told = None;
                    self.reload(&policy, server).await;
                }
                is_due = self.is_due() => if is_due {
                    self.reload(&policy, server).await;
                }
            }
        }
    }

    /// Waits for one interval, and returns whether the files are to be read.
    async fn is_due(&mut self) -> bool {
        if self.files.are_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(LOOK).await;
        let files = self.files.clone();
        let looked = spawn_blocking(move || fingerprints(&files)).await;
        looked.is_ok_and(|files| self.changes.look(files, Instant::now()))
    }

    /// Reloads the lists, and disconnects the peers that are no longer allowed. If one list cannot be used, all stay as
    /// they were.
    async fn reload(&mut self, policy: &Policy, server: &Server) {
        if self.files.are_none() {
            tracing::info!("the cached answers of the access service are cleared");
            return;
        }
        tracing::debug!("reading the access lists");
        let files = self.files.clone();
        let reading = spawn_blocking(move || (fingerprints(&files), files.load()));
        let (state, rules) = match reading.await {
            Ok(read) => read,
            Err(error) => return self.failed(policy, &error.to_string()),
        };
        let may_pass = rules.as_ref().is_err_and(FileError::may_pass);
        self.changes.read(state, may_pass, Instant::now());
        match rules {
            Ok(rules) => self.use_rules(rules, policy, server).await,
            Err(error) => self.failed(policy, &error.to_string()),
        }
    }

    async fn use_rules(&mut self, rules: Rules, policy: &Policy, server: &Server) {
        self.told = None;
        let shown = format!("{rules:?}");
        policy.replace(rules);
        let cut_off = server.recheck_access().await;
        tracing::info!(lists = shown, cut_off, "the access lists are reloaded");
    }

    fn failed(&mut self, policy: &Policy, error: &str) {
        policy.count_failed_reload();
        if self.told.as_deref() != Some(error) {
            tracing::error!(%error, "cannot reload the access lists; the old ones stay in use");
            self.told = Some(error.to_owned());
        }
    }
}

/// Warns of tenants that everyone may join although other tenants have lists: a list for one tenant does not protect
/// another.
fn warn_of_open_tenants(rules: &Rules) {
    let tenants = rules.open_tenants();
    if !tenants.is_empty() {
        let tenants = tenants.join(", ");
        tracing::warn!(
            tenants,
            "every peer that is not on a deny list may join these tenants"
        );
    }
}

fn fingerprints(files: &RuleFiles) -> Fingerprints {
    files.paths().map(Fingerprint::of).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek as _, SeekFrom, Write as _},
    };

    use super::*;

    #[cfg(unix)]
    #[test]
    fn what_is_written_looks_different_though_it_is_as_long_and_as_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        fs::write(&path, "a").expect("written");
        let state = || Fingerprint::of(&path);
        let before = state();
        assert_eq!(state(), before);
        let mut file = File::options().write(true).open(&path).expect("there");
        let modified = file.metadata().and_then(|data| data.modified());
        let set_back = fs::FileTimes::new().set_modified(modified.expect("a time"));
        // The file times of the system advance in steps.
        let began = Instant::now();
        while state() == before {
            file.seek(SeekFrom::Start(0)).expect("a file");
            file.write_all(b"b").expect("written");
            file.set_times(set_back).expect("set");
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        let modified = |state: Option<Fingerprint>| state.and_then(|state| state.modified);
        assert_eq!(modified(state()), modified(before));
        fs::remove_file(&path).expect("there");
        assert_eq!(state(), None);
    }
}
