//! The rendezvous over real sockets: the upgrade, both versions of Engine.IO, packets for other namespaces, its
//! limits, inputs that broke the npm one, the operator's page, and the rendezvous in an application.

mod access;
mod admin;
mod admission;
mod bounds;
#[path = "../support/client.rs"]
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod conversations;
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
#[path = "../support/traced.rs"]
mod traced;
mod turns;
mod upgrade;
mod versions;
