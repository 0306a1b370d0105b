//! The transport and the rendezvous together with the JavaScript packages, each in the place of the other.

mod as_npm;
mod compat;
mod embedded;
mod js_libp2p;
mod mounted;
mod npm;
mod older;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each test target uses its own part")]
mod support;
