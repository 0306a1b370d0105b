//! The rendezvous under load and under attack, over real links.

mod churn;
mod client;
mod pressure;
mod random;
