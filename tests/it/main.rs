//! The crate against software that it did not write, and against peers that misbehave.

mod compat;
mod corpus;
mod embedded;
mod hostile;
mod npm;
mod refused;
mod support;
mod swarm;
mod tls;
mod wakes;
