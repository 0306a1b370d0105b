//! The crate against software that it did not write, and against peers that misbehave.

mod corpus;
mod js_libp2p;
mod npm;
mod support;
mod swarm;
mod wakes;
