//! The rendezvous over real sockets: the upgrade, both versions of Engine.IO, packets for other namespaces, its
//! limits, inputs that broke the npm one, the operator's page, and the rendezvous in an application.

mod access;
mod admin;
mod admission;
mod bounds;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod handed;
mod http;
mod memory;
mod mounted;
mod names;
mod npm_crashes;
mod packets;
mod panics;
mod proxy_protocol;
mod public_names;
mod quota;
mod refused;
mod tenants;
#[path = "../it/support/traced.rs"]
mod traced;
mod turns;
mod upgrade;
mod versions;
