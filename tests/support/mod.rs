//! What the integration tests have in common.

pub mod binary;
pub mod certificates;
pub mod counter;
pub mod forward_proxy;
pub mod js;
pub mod libp2p_js;
pub mod node;
pub mod peer;
pub mod program;
pub mod raw;
pub mod root;
pub mod scripted;
pub mod several;
pub mod socketio;
pub mod token;
pub mod traced;

use std::{cell::Cell, sync::Once, time::Duration};

use libp2p::identity::Keypair;
use libp2p_websocket_star::rendezvous::{self, Server};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest time that a test waits for something. It is reached only if something is broken.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for a future, at most [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Reads the head of a request or an answer, and nothing after it.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within("a head", stream.read_u8()).await;
        head.push(byte.expect("a byte"));
    }
    String::from_utf8(head).expect("UTF-8")
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Returns the number of panics on this thread, including those that the runtime caught in its tasks. All tasks of a
/// `#[tokio::test]` run on the thread of the test.
pub fn panics() -> usize {
    PANICS.get()
}

/// Shows the crate's log as `RUST_LOG` says, and counts panics from now on.
pub fn log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            report(panic);
        }));
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .init();
    });
}

/// Returns the bytes that the JavaScript peers send and expect, from `offset` on.
pub fn pattern(offset: usize, len: usize) -> Vec<u8> {
    js::pattern(offset as u64, len)
}

/// Returns a configuration that opens a lost link again at once.
pub fn hasty() -> libp2p_websocket_star::Config {
    let backoff = (Duration::from_millis(10), Duration::from_millis(50));
    libp2p_websocket_star::Config::default()
        .with_allow_local_rendezvous(true)
        .with_backoff(backoff.0, backoff.1)
}

pub fn ed25519() -> Keypair {
    Keypair::generate_ed25519()
}

/// Starts the crate's own rendezvous.
pub async fn embedded() -> Server {
    Server::bind(rendezvous::Config::default())
        .await
        .expect("a free port")
}

/// Returns the address at which peers listen at `server`.
pub fn address(server: &Server) -> String {
    server
        .addresses()
        .into_iter()
        .next()
        .expect("an address")
        .to_string()
}

/// Returns a key of the kind that the JavaScript peers have, made by OpenSSL.
pub fn rsa_2048() -> Keypair {
    let mut der = include_bytes!("rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a PKCS#8 RSA key")
}
