//! Certificates for the tests, and the folders with their files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// A self-signed certificate for loopback addresses.
pub struct Certificate {
    pub der: Vec<u8>,
    pub pem: String,
    pub key_pem: String,
    key_der: Vec<u8>,
}

impl Certificate {
    pub fn new() -> Self {
        Self::valid(2020, 4000)
    }

    /// Makes a certificate that is valid from the beginning of year `from` to the beginning of year `to`.
    pub fn valid(from: i32, to: i32) -> Self {
        let key = KeyPair::generate().expect("a key");
        // The names of a server, and the address of a proxy in front of it.
        let names = ["localhost", "127.0.0.1", "127.0.0.78"];
        let names = names.map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.distinguished_name.push(DnType::CommonName, "test");
        Self::signed(params, &key)
    }

    /// Makes a self-signed certificate.
    pub fn signed(params: CertificateParams, key: &KeyPair) -> Self {
        let certificate = params.self_signed(key).expect("signed");
        Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }

    /// Returns an acceptor that uses this certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = vec![CertificateDer::from(self.der.clone())];
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key for its certificate");
        TlsAcceptor::from(Arc::new(config))
    }

    pub fn pfx(&self, passphrase: &str, algorithm: EncryptionAlgorithm) -> Vec<u8> {
        let certificate = p12_keystore::Certificate::from_der(&self.der).expect("a certificate");
        let key = PrivateKey::from_der(&self.key_der).expect("a key");
        let chain = PrivateKeyChain::new("id", key, [certificate]);
        let mut store = KeyStore::new();
        store.add_entry("server", KeyStoreEntry::PrivateKeyChain(chain));
        let writer = store.writer(passphrase).encryption_algorithm(algorithm);
        writer.write().expect("a PFX file")
    }
}

/// A folder that is removed after the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Makes a folder with `cert.pem` and `key.pem`.
    pub fn with(certificate: &Certificate) -> Self {
        let folder = Self::new();
        folder.put(certificate);
        folder
    }

    /// Writes `cert.pem` and `key.pem` like tools that renew certificates: each file is replaced at once.
    pub fn put(&self, certificate: &Certificate) {
        for (name, text) in [
            ("cert.pem", &certificate.pem),
            ("key.pem", &certificate.key_pem),
        ] {
            self.replace(name, text);
        }
    }

    /// Writes a file, or replaces it at once.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.write("new", content);
        std::fs::rename(new, self.path(name)).expect("renamed");
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the flags that use `cert.pem` and `key.pem`.
    pub fn flags(&self) -> [String; 4] {
        let path = |name| text(&self.path(name));
        [
            "--cert".into(),
            path("cert.pem"),
            "--key".into(),
            path("key.pem"),
        ]
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
