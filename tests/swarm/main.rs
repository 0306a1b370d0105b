//! Whole swarms of libp2p's own parts, with this transport among others.
#![allow(dead_code)]

mod orders;
#[path = "../it/support/mod.rs"]
mod support;
