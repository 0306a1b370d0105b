//! The rendezvous under load and under attack, over real links.

mod churn;
mod client;
#[path = "../support/js.rs"]
mod js;
mod pressure;
mod random;
