//! What the integration tests have in common.

pub mod js;
pub mod libp2p_js;
pub mod node;
pub mod peer;
pub mod raw;

use std::{sync::Once, time::Duration};

use libp2p::identity::Keypair;

/// No wait of a test takes longer, unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited a minute for {what}"),
    }
}

/// Shows the crate's log with `RUST_LOG` set.
pub fn log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .init();
    });
}

/// The bytes that the JavaScript peers send and expect, from `offset` on.
pub fn pattern(offset: usize, len: usize) -> Vec<u8> {
    js::pattern(offset as u64, len)
}

pub fn ed25519() -> Keypair {
    Keypair::generate_ed25519()
}

/// A key as the JavaScript peers have it, made by OpenSSL.
pub fn rsa_2048() -> Keypair {
    let mut der = include_bytes!("rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a PKCS#8 RSA key")
}
