//! The crate against software that it did not write, and against peers that misbehave.

mod corpus;
mod embedded;
mod npm;
mod operations;
mod support;
mod swarm;
mod wakes;
