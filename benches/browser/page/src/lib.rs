//! The node as a page loads it. It is a package of its own because the optimisation level of this package also
//! applies to link-time optimisation, and the node itself is built for size.
#![cfg(target_arch = "wasm32")]

pub use star_bench_node::Node;
