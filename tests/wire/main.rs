//! The rendezvous over real sockets: the upgrade, both versions of Engine.IO, packets that are not meant for us,
//! its bounds, and what broke the npm one.

mod access;
mod admission;
mod bounds;
mod client;
mod handed;
mod http;
mod memory;
mod names;
mod npm_crashes;
mod packets;
mod panics;
mod proxy_protocol;
mod public_names;
mod refused;
mod turns;
mod upgrade;
mod versions;
