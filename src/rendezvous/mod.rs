//! The rendezvous: where the peers of a websocket-star meet.
//!
//! It speaks what `libp2p-websocket-star-rendezvous` 0.4.1 speaks, to the deployed JavaScript clients
//! and to this crate's. Peers join it, are announced to each other, and dial each other through it;
//! it relays what they send, byte for byte, and never sees what it means.
//!
//! ```
//! use libp2p_websocket_star::rendezvous::{Config, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind(Config::default().with_listen_addr(([127, 0, 0, 1], 0).into())).await?;
//! for address in server.addresses() {
//!     println!("listen on {address}");
//! }
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`Server`] has a socket of its own; a [`Rendezvous`] is mounted in an application as a [`Service`] beside its own routes.
//!
//! From the bottom up: the registry is pure and knows who is joined where; the feed is the log of what has been
//! announced; an outbox holds what waits for one link, bounded in bytes; a link reads and writes one WebSocket;
//! HTTP is only what comes before it, and before that a proxy may say whose connection it hands over; the admission says who
//! may come in, and the access, which is the application's, who may join. Each tenant has a hub, with a registry and a feed;
//! the house is what they share.
//!
//! Where it is wanted, the usage counts what each peer sends, and quotas bound it: a link is read more slowly then.
//!
//! Whatever is scarce goes by origin, an IPv4 address or an IPv6 /64: [`Config::with_origin_weight`] says how. Up to 256
//! joined links hear of a newcomer before its own join is answered; with more, the answer does not wait.

mod accept;
mod access;
#[cfg(feature = "rendezvous")]
mod admin;
mod admission;
mod body;
mod budget;
mod challenge;
#[cfg(feature = "cluster")]
#[cfg_attr(docsrs, doc(cfg(feature = "cluster")))]
pub mod cluster;
mod commons;
mod config;
mod day;
mod fair;
mod feed;
mod gate;
mod house;
mod http;
mod hub;
mod ids;
#[cfg(feature = "rendezvous")]
mod introduction;
mod link;
mod metrics;
mod names;
mod origin;
mod outbox;
mod page;
mod patient;
mod places;
mod proxy;
mod quota;
mod rates;
mod read_ahead;
mod refusals;
mod registry;
mod running;
mod server;
mod service;
mod shared;
mod shares;
mod snapshot;
mod supervised;
mod tenant;
mod tenants;
mod tls;
mod usage;

#[cfg(test)]
mod simulation_tests;

pub use crate::token::{Token, TokenError};
pub use accept::prepare_socket;
pub use access::{Access, AccessCount, Allowed, Join, Judgement, Verdict};
#[cfg(feature = "rendezvous")]
#[cfg_attr(docsrs, doc(cfg(feature = "rendezvous")))]
pub use admin::{Admin, AdminError};
pub use config::{Config, Limits};
pub use names::{PublicName, PublicNameError};
pub use proxy::{Network, NetworkError};
pub use quota::Quota;
pub use refusals::{Refusals, Refused};
pub use registry::Counters;
pub use running::{Rendezvous, ServeError};
pub use server::{BindError, Server};
pub use service::{ClientAddr, Service};
#[cfg(feature = "_lock-times")]
#[doc(hidden)]
pub use shared::times as lock_times;
pub use snapshot::Snapshot;
pub use supervised::EndError;
pub use tenant::{Tenant, TenantError};
pub use tls::{TlsConfig, TlsError};
pub use usage::PeerUsage;
