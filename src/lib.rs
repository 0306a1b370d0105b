//! websocket-star for rust-libp2p: nodes find and reach each other through one WebSocket rendezvous, from behind NATs,
//! firewalls and HTTP-only networks.
//!
//! Give a [`WebSocketStarTransport`] to a swarm, together with a [`Behaviour`] for its [`Discovery`]. Listen on
//! `/…/tcp/443/wss/p2p-websocket-star`, and dial the peers that are discovered. The README has the whole snippet;
//! `examples/ping.rs` is the shortest program, and `examples/full_node.rs` a node to copy.
//!
//! # Where things are
//!
//! From the top down. A module uses only modules below it.
//!
//! | module | owns |
//! |---|---|
//! | [`WebSocketStarTransport`], `transport` | libp2p's contract: listeners, dials, events, wakers |
//! | `preset` (feature `preset`) | transport and behaviour from one key, with noise and yamux; with `secio`, also for old JavaScript nodes |
//! | `direct` (feature `direct`) | a behaviour that replaces connections through a rendezvous by direct ones |
//! | [`Behaviour`], [`Discovery`] | the peers at each rendezvous, for a swarm and as a stream |
//! | [`AddressGuard`] | keeps identify from taking a rendezvous' address for the node's own |
//! | [`Connection`] | one dial: `AsyncRead` and `AsyncWrite` |
//! | `channel` | what a connection and its link share: two streams, turns, grants |
//! | [`metrics`] | counters of links and connections |
//! | `link` | one WebSocket to one rendezvous: its task, reconnection and heartbeat |
//! | `probe` (feature `probe`) | opens a link step by step, to find what is wrong |
//! | `proxy` (feature `proxy`) | which proxy leads to a rendezvous |
//! | `rendezvous` (feature `rendezvous-server`) | the server; its own documentation has its map |
//! | `runtime` | the clock, timers and tasks: Tokio's, or the browser's |
//! | `secio` (feature `secio`) | the deprecated secure channel of old networks |
//! | `plaintext` (feature `plaintext-insecure`) | connections without a secure channel |
//! | `websocket`, `buffer` | messages over a byte stream, and their reusable memory |
//! | [`protocol`] | packets, events, the client's session, streams: no IO, no clock; for client and server; not a stable interface |
//! | `crypto`, `certificate`, `cause` | the TLS configuration, the trusted roots, errors of other libraries |
//! | `token` | the secrets that a rendezvous may ask for |
//! | `activity` | which bytes cross the connections to each peer, for `direct` |
//! | `hints` | what the behaviour tells the transport about its swarm |
//! | `log_limit`, `time`, `percent`, `sync` | rate-limited warnings, bounds of durations, percent-encoding, locks |
//! | `words` | text from outside, escaped and cut for display |
//! | [`address`], [`Config`], [`error`] | types that all modules share |
//!
//! # Cargo features
//!
//! All are off by default.
//!
//! * `preset`: [`preset::Star`], with noise and yamux.
//! * `direct`: [`direct::Behaviour`]. It shows peers this node's IP addresses.
//! * `proxy`: rendezvous through a proxy, by HTTP CONNECT or SOCKS 5. A browser has its own proxy settings.
//! * `metrics`: a collector for prometheus-client and libp2p-metrics.
//! * `probe`: [`probe::Probe`].
//! * `rendezvous-server`: the server as a library.
//! * `tower`: the server as a `tower::Service`, to mount it in axum.
//! * `rendezvous`: the program `websocket-star-rendezvous`, with PFX files, encrypted keys, the PROXY protocol and the
//!   operator's page.
//! * `cluster`: several servers as one network.
//! * `cli`: the command-line node `star`.
//! * `secio`: `/secio/1.0.0`, and the preset for js-libp2p up to 0.26. Deprecated, and weaker than noise.
//! * `plaintext-insecure`: `/plaintext/1.0.0`, neither encrypted nor authenticated, for closed test networks.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "direct")]
mod activity;
pub mod address;
mod behaviour;
mod buffer;
#[cfg(not(target_arch = "wasm32"))]
mod cause;
#[cfg(not(target_arch = "wasm32"))]
mod certificate;
mod channel;
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
mod link;
mod log_limit;
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
mod sync;
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
pub use transport::WebSocketStarTransport;
/// What the fuzz target `websocket` checks.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use websocket::fuzzing::websocket as fuzz_websocket;

/// The snippets of the README and of the guides compile.
#[cfg(all(doctest, feature = "preset", feature = "tower"))]
mod guides {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/access.md")]
    struct Access;
    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
    #[doc = include_str!("../docs/nodes.md")]
    struct Nodes;
}
