//! The rendezvous over real sockets: the upgrade, both versions of Engine.IO, packets that are not meant for us,
//! its bounds, what broke the npm one, the operator's page, and where it is mounted in an application.

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
mod turns;
mod upgrade;
mod versions;
