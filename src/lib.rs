//! websocket-star for rust-libp2p: nodes find and reach each other through one WebSocket rendezvous,
//! from behind NATs, firewalls and HTTP-only networks.
//!
//! Give a [`WebSocketStarTransport`] to a swarm, with a [`Behaviour`] for its [`Discovery`], listen on
//! `/…/tcp/443/wss/p2p-websocket-star`, and dial the peers you hear of. The README has the snippet and
//! the security notes; `examples/ping.rs` is the shortest whole program.
//!
//! # Where things are
//!
//! From the top down; nothing depends on what is above it.
//!
//! | module | owns |
//! |---|---|
//! | [`WebSocketStarTransport`], `transport` | libp2p's contract: listeners, dials, events, wakers |
//! | [`Behaviour`], [`Discovery`] | the peers at the rendezvous, for a swarm and as a stream |
//! | [`AddressGuard`] | identify that takes no rendezvous' address for one of the node's |
//! | `direct` (feature `direct`) | from connections through a rendezvous on to direct ones, for a swarm |
//! | [`Connection`] | `AsyncRead` and `AsyncWrite` of one dial |
//! | [`metrics`] | what links and connections do, counted |
//! | `link` | one WebSocket to one rendezvous: its task, reconnection, heartbeat; its socket is ours or the browser's |
//! | `runtime` | the clock, timers and tasks: Tokio's, or the browser's |
//! | `rendezvous` (feature `rendezvous-server`) | the server |
//! | `preset` (feature `preset`) | transport and behaviour of a node from one key, with noise and yamux; with `secio`, the same for networks of old JavaScript nodes |
//! | `secio` (feature `secio`) | the deprecated secure channel of old networks |
//! | `plaintext` (feature `plaintext-insecure`) | no secure channel at all |
//! | [`protocol`] | packets, events, the client's session, streams: no IO, no clock; client and server |
//! | `limited`, `time` | warnings that others can cause, one a second; bounds of durations |
//! | `token` | the secrets that a rendezvous may ask for |
//! | `proxy` (feature `proxy`) | which proxy leads to a rendezvous |
//! | `probe` (feature `probe`) | the stages of opening a link, one after the other |
//! | `percent` | text in URLs |
//! | `hints` | what the behaviour tells the transport of its swarm |
//! | `websocket`, `buffer` | messages over a byte stream, and the memory that they use again |
//! | `crypto`, `certificate` | what encrypts TLS, and whom it trusts |
//! | `activity` | what crosses the connections with each peer, for `direct` |
//! | `words` | what others said, as it may be shown |
//! | [`address`], [`Config`], [`error`] | what all of them speak of |
//!
//! # Cargo features
//!
//! All are off by default.
//!
//! * `rendezvous-server`: the server as a library, to embed.
//! * `rendezvous`: that, the stand-alone `websocket-star-rendezvous`, PFX files and encrypted keys for its TLS, the PROXY
//!   protocol, and the operator's page.
//! * `tower`: the server as a `tower::Service`, to be mounted in axum and the like.
//! * `metrics`: what the transport counts, for the registries of prometheus-client and of libp2p-metrics.
//! * `proxy`: rendezvous that are reached through a proxy, by HTTP CONNECT or SOCKS 5; not in a browser, which has its own.
//! * `direct`: [`direct::Behaviour`], which takes connections on to direct ones. It tells peers this node's IP addresses.
//! * `preset`: [`preset::Star`], with noise and yamux.
//! * `probe`: [`probe::Probe`], which takes the way to a rendezvous one stage after the other, to see where it ends.
//! * `cli`: the command-line node `star`.
//! * `secio`: `/secio/1.0.0`, and the preset for networks of js-libp2p up to 0.26. Deprecated, and weaker than noise.
//! * `plaintext-insecure`: `/plaintext/1.0.0`, neither encrypted nor authenticated, for closed test networks.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "direct")]
mod activity;
pub mod address;
mod behaviour;
mod buffer;
#[cfg(not(target_arch = "wasm32"))]
mod certificate;
mod config;
mod connection;
#[cfg(not(target_arch = "wasm32"))]
mod crypto;
#[cfg(feature = "direct")]
#[cfg_attr(docsrs, doc(cfg(feature = "direct")))]
pub mod direct;
mod discovery;
pub mod error;
mod hints;
mod limited;
mod link;
pub mod metrics;
#[cfg(any(
    test,
    feature = "cluster",
    feature = "rendezvous",
    target_arch = "wasm32"
))]
mod percent;
#[cfg(feature = "plaintext-insecure")]
#[cfg_attr(docsrs, doc(cfg(feature = "plaintext-insecure")))]
pub mod plaintext;
#[cfg(feature = "preset")]
#[cfg_attr(docsrs, doc(cfg(feature = "preset")))]
pub mod preset;
pub mod protocol;
#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
mod proxy;
#[cfg(feature = "rendezvous-server")]
pub mod rendezvous;
mod runtime;
#[cfg(feature = "secio")]
#[cfg_attr(docsrs, doc(cfg(feature = "secio")))]
pub mod secio;
mod time;
mod token;
mod transport;
#[cfg(any(feature = "secio", feature = "plaintext-insecure"))]
mod upgrade;
mod websocket;
mod words;

pub use address::StarAddr;
pub use behaviour::{AddressGuard, Behaviour};
pub use config::{Config, Limits, MAX_ITEM};
pub use connection::Connection;
pub use discovery::{Discovery, Event};
pub use error::Error;
#[cfg(all(feature = "probe", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "probe")))]
pub use link::probe;
pub use metrics::{Metrics, Snapshot};
pub use protocol::session::KeyEncoding;
pub use transport::WebSocketStarTransport;
/// What the fuzz target `websocket` checks.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use websocket::fuzzing::websocket as fuzz_websocket;

/// The README's snippets compile.
#[cfg(all(doctest, feature = "preset", feature = "tower"))]
#[doc = include_str!("../README.md")]
struct Readme;
