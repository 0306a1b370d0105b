//! The files of the certificate. They are read at the start, on SIGHUP, and when they have changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use libp2p_websocket_star::rendezvous::{Server, TlsConfig, TlsError};

use crate::arguments::CertificateFiles;

/// The reason why the certificate cannot be used, with the file that is at fault.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot use {0} as a PFX file without its passphrase: add --passphrase (or PFX_PASSPHRASE)"
    )]
    NoPassphrase(PathBuf),
    #[error("cannot use {files}: {source}")]
    Use { files: String, source: TlsError },
}

impl CertificateFiles {
    pub fn load(&self) -> Result<TlsConfig, CertificateError> {
        let tls = match self {
            Self::Pem {
                cert,
                key,
                passphrase,
            } => {
                let (cert, key) = (read(cert)?, read(key)?);
                match passphrase {
                    Some(passphrase) => TlsConfig::from_encrypted_pem(&cert, &key, passphrase),
                    None => TlsConfig::from_pem(&cert, &key),
                }
            }
            Self::Pfx { pfx, passphrase } => {
                let bytes = read(pfx)?;
                match passphrase {
                    Some(passphrase) => TlsConfig::from_pfx(&bytes, passphrase),
                    // Some PFX files have an empty passphrase.
                    None => Ok(TlsConfig::from_pfx(&bytes, "")
                        .map_err(|_| CertificateError::NoPassphrase(pfx.clone()))?),
                }
            }
        };
        tls.map_err(|source| CertificateError::Use {
            files: self.to_string(),
            source,
        })
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Self::Pem { cert, key, .. } => (cert, Some(key)),
            Self::Pfx { pfx, .. } => (pfx, None),
        };
        std::iter::once(first).chain(second).map(PathBuf::as_path)
    }

    /// Returns a value that changes when one of the files does. Symbolic links are followed, because many tools renew
    /// certificates by replacing a link.
    fn fingerprint(&self) -> Vec<Option<(SystemTime, u64)>> {
        let of = |path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.paths().map(of).collect()
    }
}

impl std::fmt::Display for CertificateFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pem { cert, key, .. } => write!(f, "{} and {}", cert.display(), key.display()),
            Self::Pfx { pfx, .. } => pfx.display().fmt(f),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Keeps the server's certificate up to date.
pub struct Watch {
    files: Option<CertificateFiles>,
    interval: Duration,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Watch {
    /// Starts to watch the files. Call this before the files are read, so that no change is missed.
    pub fn new(files: Option<CertificateFiles>, interval: Duration) -> Self {
        let seen = files.as_ref().map(CertificateFiles::fingerprint);
        Self {
            files,
            interval,
            seen: seen.unwrap_or_default(),
        }
    }

    /// Returns when the files have changed. Cancel safe.
    pub async fn changed(&mut self) {
        let Some(files) = self.files.as_ref().filter(|_| !self.interval.is_zero()) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(self.interval).await;
            if files.fingerprint() != self.seen {
                return;
            }
        }
    }

    /// Reloads the files into the server. If they cannot be used, the server keeps its current certificate.
    pub fn reload(&mut self, server: &Server) {
        let Some(files) = &self.files else {
            tracing::info!("no certificate to reload: the server runs without TLS");
            return;
        };
        self.seen = files.fingerprint();
        let use_it = |source| CertificateError::Use {
            files: files.to_string(),
            source,
        };
        let result = files.load();
        if let Err(error) = result.and_then(|tls| server.reload_tls(tls).map_err(use_it)) {
            tracing::error!(%error, "cannot reload the certificate; the old one stays in use");
        }
    }
}
