//! The server's certificate: reads it, checks it, and replaces it while the server runs.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio_rustls::rustls::{
    self, InconsistentKeys, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use x509_cert::{
    certificate::{CertificateInner, Raw, TbsCertificateInner},
    der::Decode as _,
    time::Time,
};

use crate::{crypto, error::Cause};

/// The protocol that the server offers by ALPN: a WebSocket begins as HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const OLD_ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";
/// The first byte of every TLS connection: RFC 8446, section 5.1.
pub(super) const HANDSHAKE_RECORD: u8 = 22;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The text is not PEM.
    #[error("the {what} is not valid PEM: {source}")]
    Pem {
        /// "certificate" or "key".
        what: &'static str,
        /// The error of the parser.
        source: Cause,
    },
    /// There is no certificate in the text.
    #[error("no certificate in it (PEM begins with `-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// There is no private key in the text.
    #[error("no private key in it (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoKey,
    /// The key is encrypted, and there is no passphrase.
    #[error("the private key is encrypted: a passphrase is needed")]
    EncryptedKey,
    /// The key is encrypted in OpenSSL's own old format.
    #[error(
        "the private key is encrypted in an old format: convert it with `openssl pkcs8 -topk8`"
    )]
    OldEncryptedKey,
    /// The certificate cannot be parsed.
    #[error("the certificate is malformed: {0}")]
    Certificate(#[source] Cause),
    /// The key cannot be used to sign.
    #[error("the private key cannot be used: {0}")]
    Key(#[source] Cause),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// The certificate has expired.
    #[error("the certificate expired at {0}")]
    Expired(String),
    /// The certificate is not valid yet.
    #[error("the certificate is not valid before {0}; is the clock right?")]
    NotYetValid(String),
    /// The PFX file cannot be read.
    #[cfg(feature = "rendezvous")]
    #[error("the PFX file cannot be read; is the passphrase right? ({0})")]
    Pfx(#[source] Cause),
    /// The encrypted key cannot be read.
    #[cfg(feature = "rendezvous")]
    #[error("the encrypted private key cannot be read; is the passphrase right? ({0})")]
    Decrypt(#[source] Cause),
    /// The certificate cannot be replaced, because the server uses none.
    #[error("the server was started without TLS")]
    NotInUse,
}

/// A certificate chain and its private key, for [`Config::with_tls`](super::Config::with_tls) and
/// [`Server::reload_tls`](super::Server::reload_tls).
///
/// The constructors check that the key belongs to the certificate. Whether the certificate is valid at present is
/// checked when it is put to use.
#[derive(Clone)]
pub struct TlsConfig {
    key: Arc<CertifiedKey>,
    not_before: Time,
    not_after: Time,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("certificates", &self.key.cert.len())
            .field("not_before", &self.not_before.to_string())
            .field("not_after", &self.not_after.to_string())
            .finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// Creates a configuration from a chain, with the server's own certificate first, and its key.
    ///
    /// # Errors
    /// If there is no certificate, it is malformed, or the key cannot be used or does not belong to the certificate.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let own = chain.first().ok_or(TlsError::NoCertificate)?;
        let own = parse(own)?;
        let (not_before, not_after) = (own.validity().not_before, own.validity().not_after);
        let key =
            CertifiedKey::from_der(chain, key, &crypto::provider()).map_err(
                |error| match error {
                    rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                        TlsError::Mismatch
                    }
                    error => TlsError::Key(Cause::new(error)),
                },
            )?;
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
        })
    }

    /// The same from PEM: `chain` with all certificates, `key` in PKCS#8, PKCS#1 or SEC1. Both may be in the same
    /// file.
    ///
    /// # Errors
    /// As [`from_der`](Self::from_der), and if the text is not PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        if contains(key, OLD_ENCRYPTED) {
            return Err(TlsError::OldEncryptedKey);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| match source {
            rustls::pki_types::pem::Error::NoItemsFound if contains(key, ENCRYPTED) => {
                TlsError::EncryptedKey
            }
            rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey,
            source => TlsError::Pem {
                what: "key",
                source: Cause::new(source),
            },
        })?;
        Self::from_der(pem_chain(chain)?, key)
    }

    #[cfg(feature = "cluster")]
    pub(super) fn key(&self) -> CertifiedKey {
        CertifiedKey::clone(&self.key)
    }

    /// Returns the time at which the certificate expires.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + self.not_after.to_unix_duration()
    }

    pub(super) fn check_validity(&self, now: SystemTime) -> Result<(), TlsError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if now > self.not_after.to_unix_duration() {
            return Err(TlsError::Expired(self.not_after.to_string()));
        }
        if now < self.not_before.to_unix_duration() {
            return Err(TlsError::NotYetValid(self.not_before.to_string()));
        }
        Ok(())
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(crypto::provider())
            .with_safe_default_protocol_versions()
            .expect("its suites support the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        Arc::new(config)
    }
}

#[cfg(feature = "rendezvous")]
impl TlsConfig {
    /// Creates a configuration from a chain in PEM and its encrypted key, also in PEM (PKCS#8,
    /// `BEGIN ENCRYPTED PRIVATE KEY`). A key that is not encrypted is accepted, too.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), and if the key cannot be decrypted.
    pub fn from_encrypted_pem(
        chain: &[u8],
        key: &[u8],
        passphrase: &str,
    ) -> Result<Self, TlsError> {
        if !contains(key, ENCRYPTED) {
            return Self::from_pem(chain, key);
        }
        let decrypted =
            decrypt(key, passphrase).map_err(|error| TlsError::Decrypt(Cause::new(error)))?;
        let key = PrivateKeyDer::Pkcs8(decrypted.as_bytes().to_vec().into());
        Self::from_der(pem_chain(chain)?, key)
    }

    /// Creates a configuration from a PFX file (PKCS#12, `.p12`): its first private key, the certificate of that key,
    /// and the certificates that certify it, in any order in the file.
    ///
    /// # Errors
    /// As [`from_der`](Self::from_der), and if the file cannot be decrypted.
    pub fn from_pfx(pfx: &[u8], passphrase: &str) -> Result<Self, TlsError> {
        let archive = p12_keystore::Pkcs12Archive::from_pkcs12(pfx, passphrase);
        let archive = archive.map_err(|error| TlsError::Pfx(Cause::new(error)))?;
        let key = archive.keys.first().ok_or(TlsError::NoKey)?;
        let key = PrivateKeyDer::Pkcs8(key.key.as_der().to_vec().into());
        let certificates = archive.certs.iter();
        let certificates: Vec<CertificateDer<'static>> = certificates
            .map(|bag| bag.cert.as_der().to_vec().into())
            .collect();
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let own = certificates.iter().position(|certificate| {
            Self::from_der(vec![certificate.clone()], key.clone_key()).is_ok()
        });
        match own {
            Some(own) => Self::from_der(chain_from(own, certificates)?, key),
            // No certificate fits the key: this returns the error for the first.
            None => Self::from_der(certificates, key),
        }
    }
}

/// Returns the chain that begins with the certificate at `own`.
#[cfg(feature = "rendezvous")]
fn chain_from(
    own: usize,
    mut rest: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut chain = vec![rest.swap_remove(own)];
    while let Some(last) = chain.last() {
        let issuer = parse(last)?.issuer().clone();
        let next = rest.iter().position(|certificate| {
            parse(certificate).is_ok_and(|certificate| *certificate.subject() == issuer)
        });
        match next {
            Some(next) => chain.push(rest.swap_remove(next)),
            None => break,
        }
    }
    Ok(chain)
}

#[cfg(feature = "rendezvous")]
fn decrypt(key: &[u8], passphrase: &str) -> Result<pkcs8::SecretDocument, pkcs8::Error> {
    let (_, document) = pkcs8::SecretDocument::from_pem(&String::from_utf8_lossy(key))?;
    pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())?.decrypt(passphrase)
}

fn contains(pem: &[u8], mark: &[u8]) -> bool {
    pem.windows(mark.len()).any(|window| window == mark)
}

fn pem_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|source| TlsError::Pem {
        what: "certificate",
        source: Cause::new(source),
    })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(chain)
}

/// Parses a certificate without the checks of the Internet profile: what rustls accepts is good enough.
fn parse(certificate: &CertificateDer<'_>) -> Result<TbsCertificateInner<Raw>, TlsError> {
    let certificate = CertificateInner::<Raw>::from_der(certificate);
    let certificate = certificate.map_err(|error| TlsError::Certificate(Cause::new(error)))?;
    Ok(certificate.tbs_certificate().clone())
}

/// The certificate for new connections.
#[derive(Debug)]
pub(super) struct CurrentCertificate(RwLock<(TlsConfig, Arc<ServerConfig>)>);

impl CurrentCertificate {
    pub(super) fn new(tls: TlsConfig) -> Self {
        let config = tls.server_config();
        Self(RwLock::new((tls, config)))
    }

    /// Returns the configuration for one handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.1.clone()
    }

    pub(super) fn expires(&self) -> SystemTime {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.0.expires()
    }

    /// Uses `tls` for handshakes from now on. A new configuration knows no earlier sessions, so no session is resumed
    /// under the old certificate.
    pub(super) fn replace(&self, tls: TlsConfig) -> Result<(), TlsError> {
        tls.check_validity(SystemTime::now())?;
        let config = tls.server_config();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (tls, config);
        Ok(())
    }
}

// The tests need the code for encrypted keys, which only the stand-alone server has.
#[cfg(all(test, feature = "rendezvous"))]
#[path = "tls_tests.rs"]
mod tests;
