//! websocket-star for rust-libp2p.

pub mod address;
pub mod protocol;
#[cfg(feature = "rendezvous")]
pub mod rendezvous;

pub use address::StarAddr;
