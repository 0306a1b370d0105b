//! The rendezvous: the server at which the peers of a websocket-star meet.
//!
//! It speaks the protocol of `libp2p-websocket-star-rendezvous` 0.4.1, with the deployed JavaScript clients and with
//! this crate's clients. Peers join it, are announced to each other, and dial each other through it. It relays their
//! data byte for byte and never interprets it.
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
//! A [`Server`] has a listening socket of its own. A [`Rendezvous`] has none: an application mounts it as a [`Service`]
//! beside its own routes.
//!
//! The parts, from the bottom up:
//!
//! - The registry does no IO. It knows which address is joined on which link.
//! - The feed is the log of all announcements.
//! - An outbox is the queue of data for one link, bounded in bytes.
//! - A link reads and writes one WebSocket.
//! - HTTP is spoken only before a link begins. Before HTTP, a proxy may name the client whose connection it hands over.
//! - The admission decides which connections and links are let in. The access, which belongs to the application,
//!   decides which peers may join.
//! - Each tenant has a hub, which has a registry and a feed. The house is what all tenants share.
//!
//! If the configuration asks for it, the usage counts the bytes that each peer sends, and quotas limit them: a link is
//! then read more slowly, and its dials end when the quota for a day is spent.
//!
//! Scarce resources are shared by origin, which is an IPv4 address or an IPv6 /64; see [`Config::with_origin_weight`].
//! With up to 256 joined links, they hear of a newcomer before its own join is answered. With more, the answer does not
//! wait for them.

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
#[cfg(feature = "cluster")]
mod desk;
mod dial_time;
mod fair;
mod feed;
mod gate;
mod house;
mod http;
mod hub;
mod ids;
mod link;
mod metrics;
mod names;
#[cfg(feature = "rendezvous")]
mod operator;
mod origin;
mod outbox;
mod page;
mod places;
mod proxy;
#[cfg(feature = "rendezvous")]
mod proxy_protocol;
mod quota;
mod rate;
mod rates;
mod read_ahead;
mod refusals;
mod registry;
mod request;
mod running;
mod server;
mod service;
mod shared;
mod shares;
mod site;
mod snapshot;
mod supervised;
mod tenant;
mod tenants;
mod tls;
#[cfg(feature = "cluster")]
mod trunks;
mod usage;
mod write_timeout;

#[cfg(test)]
mod simulation_tests;

pub use crate::token::{Token, TokenError};
pub use accept::prepare_socket;
pub use access::{Access, AccessCount, Allowed, Join, Judgement, Verdict};
pub use config::{Config, Limits};
pub use names::{PublicName, PublicNameError};
#[cfg(feature = "rendezvous")]
#[cfg_attr(docsrs, doc(cfg(feature = "rendezvous")))]
pub use operator::{Admin, AdminError};
pub use proxy::{Network, NetworkError};
pub use quota::Quota;
pub use refusals::{Refusals, Refused};
pub use registry::Counters;
pub use running::{Rendezvous, ServeError};
pub use server::{BindError, Server};
pub use service::{ClientAddr, Service};
#[cfg(all(feature = "_lock-times", target_os = "linux"))]
#[doc(hidden)]
pub use shared::times as lock_times;
pub use snapshot::Snapshot;
pub use supervised::EndError;
pub use tenant::{Tenant, TenantError};
pub use tls::{TlsConfig, TlsError};
pub use usage::PeerUsage;
