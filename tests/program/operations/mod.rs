//! What an operator of a rendezvous works with: command line, signals, TLS, health, metrics, the page.

mod descriptors;
mod http;
mod output;
mod startup;
mod stopping;
mod tls;
