//! What the integration tests have in common.

pub mod binary;
pub mod js;
pub mod node;
pub mod raw;

use std::{sync::Once, time::Duration};

use libp2p::identity::Keypair;
use libp2p_websocket_star::rendezvous::{self, Server};

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

/// The crate's own rendezvous.
pub async fn embedded() -> Server {
    Server::bind(rendezvous::Config::default())
        .await
        .expect("a free port")
}

/// Where to listen at `server`.
pub fn address(server: &Server) -> String {
    server
        .addresses()
        .into_iter()
        .next()
        .expect("an address")
        .to_string()
}
