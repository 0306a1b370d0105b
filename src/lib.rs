//! websocket-star for rust-libp2p.

pub mod address;
mod behaviour;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the links announce; the transport subscribes")
)]
mod discovery;
pub mod protocol;

pub use address::StarAddr;
pub use behaviour::Behaviour;
pub use discovery::{Discovery, Event};
