//! The program `websocket-star-rendezvous`, as an operator runs it.

mod access;
#[cfg(feature = "cluster")]
mod cluster;
mod operations;
mod proxies;
mod quotas;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each test target uses its own part")]
mod support;
mod tenants;
