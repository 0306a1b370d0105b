//! The node, as a page loads it. It is a package of its own because the optimisation of this one is that of what is done
//! when all is put together, and the node is to be small.
#![cfg(target_arch = "wasm32")]

pub use star_bench_node::Node;
