//! websocket-star for rust-libp2p.

pub mod address;
mod behaviour;
mod config;
mod connection;
mod discovery;
pub mod error;
mod link;
pub mod protocol;
mod transport;

pub use address::StarAddr;
pub use behaviour::Behaviour;
pub use config::{Config, Limits, MAX_ITEM};
pub use connection::Connection;
pub use discovery::{Discovery, Event};
pub use error::Error;
pub use transport::WebSocketStarTransport;
