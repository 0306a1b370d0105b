//! The transport in use: under libp2p's contract for transports, composed with others, and in whole swarms.

mod autonat;
mod contract;
mod dcutr;
mod direct;
mod example;
mod full_node;
mod kad;
mod limits;
mod lines;
mod node;
mod orders;
mod reach;
mod relay;
mod rendezvous_point;
mod runtimes;
mod spellings;
#[allow(dead_code, reason = "each test target uses its own part")]
#[path = "../support/mod.rs"]
mod support;
mod tunnel;
