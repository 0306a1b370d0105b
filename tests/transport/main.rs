//! The transport against peers, rendezvous and proxies: what they do right, and what they do wrong.

mod corpus;
mod durations;
mod flood;
#[cfg(feature = "proxy")]
mod forward_proxies;
mod hostile;
#[cfg(feature = "metrics")]
mod metrics;
mod probe;
mod refused;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each test target uses its own part")]
mod support;
mod swarm;
mod tls;
mod wakes;
