//! Tests of the crate with software of others, and with peers that misbehave.

mod access;
mod as_npm;
#[cfg(feature = "cluster")]
mod cluster;
mod compat;
mod corpus;
mod durations;
mod embedded;
mod flood;
#[cfg(feature = "proxy")]
mod forward_proxies;
mod hostile;
mod js_libp2p;
#[cfg(feature = "metrics")]
mod metrics;
mod mounted;
mod npm;
mod older;
mod operations;
mod probe;
mod proxies;
mod quotas;
mod refused;
mod support;
mod swarm;
mod tenants;
mod tls;
mod wakes;
