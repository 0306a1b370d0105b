//! Builds a page that is a libp2p node, and serves it beside a rendezvous.
//!
//! ```console
//! $ cargo run --package star-browser-example
//! ```

#[cfg(not(target_arch = "wasm32"))]
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod serve;
#[cfg(not(target_arch = "wasm32"))]
mod site;

#[cfg(not(target_arch = "wasm32"))]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    serve::run().await
}

/// For wasm32, only the library is used. The binary target still needs a `main`.
#[cfg(target_arch = "wasm32")]
fn main() {}
