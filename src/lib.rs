//! websocket-star for rust-libp2p.

pub mod address;
pub mod protocol;

pub use address::StarAddr;
