//! The rendezvous under load and under attack, over real links.

mod churn;
mod client;
#[path = "../it/support/js.rs"]
mod js;
mod pressure;
mod random;
