//! Errors, by whose fault they are.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
#[cfg(not(target_arch = "wasm32"))]
use tokio_rustls::rustls;

use crate::words::Words;

#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
pub use crate::proxy::ProxyConfigError;
pub use crate::{
    address::AddressError,
    protocol::{
        ProtocolError,
        session::{DialError, JoinError, JoinRefusal},
        stream::StreamError,
    },
    token::TokenError,
    websocket::WebSocketError,
};
#[cfg(not(target_arch = "wasm32"))]
pub use crate::{certificate::CertificateError, websocket::upgrade::UpgradeError};

/// Why a listener or a dial failed.
///
/// `Display` tells the whole story in one line, because libp2p's `TransportError::Other` adds nothing
/// of its own; `source()` gives the parts. What others said is escaped and cut there; in the fields it is as they
/// said it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Local: the address is for this transport, but malformed.
    #[error("malformed websocket-star address: {0}")]
    Address(#[from] AddressError),
    /// Local: the address to listen on names another peer than this one.
    #[error("cannot listen as {found}: this peer is {local}")]
    WrongPeerId {
        /// The peer in the address.
        found: Box<PeerId>,
        /// This peer.
        local: Box<PeerId>,
    },
    /// Local: a listener has this address already, or the listener id that was given is in use for it.
    #[error("already listening on {}", Words(.0))]
    AlreadyListening(Multiaddr),
    /// Local: the address to dial does not end in `/p2p/<peer id>`.
    #[error("the address to dial names no peer: {}", Words(.0))]
    MissingPeerId(Multiaddr),
    /// Local: the address to dial is this peer's own.
    #[error("cannot dial this peer itself")]
    DialedSelf,
    /// Local: the transport was polled, or a dial was awaited, outside of a Tokio runtime. Not in a browser.
    #[error(
        "websocket-star needs a Tokio runtime with time and IO enabled, and was polled outside of one"
    )]
    NoRuntime,
    /// Local: the transport was made with another key than the swarm.
    #[error(
        "the transport joins as {transport}, and the swarm is {swarm}: make both with the same key"
    )]
    WrongKey {
        /// The peer of the transport's key.
        transport: Box<PeerId>,
        /// The swarm's peer.
        swarm: Box<PeerId>,
    },
    /// Local: there are as many links to rendezvous without a listener of ours as may be.
    /// [`Limits::with_dial_links`](crate::Limits::with_dial_links) sets how many.
    #[error(
        "links to {most} rendezvous at which this node does not listen are open or about to be, as many as may be"
    )]
    TooManyRendezvous {
        /// How many there may be.
        most: usize,
    },
    #[cfg(not(target_arch = "wasm32"))]
    /// Local: what was given as a root certificate is none.
    #[error("not a root certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Local: what was given as a proxy cannot be used.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    #[error("cannot use a proxy: {0}")]
    Proxy(#[from] ProxyConfigError),
    /// Local: what was given as a token cannot be used.
    #[error("cannot use the token: {0}")]
    Token(#[from] TokenError),
    /// Server or network: the link to the rendezvous could not be opened, or was lost.
    #[error("{rendezvous}: {error}")]
    Link {
        /// The URL of the rendezvous, without a path.
        rendezvous: Arc<str>,
        /// Why.
        #[source]
        error: LinkError,
    },
    /// Server: the rendezvous did not let us join.
    #[error("{rendezvous}: {error}")]
    Join {
        /// The URL of the rendezvous, without a path.
        rendezvous: Arc<str>,
        /// Why.
        #[source]
        error: JoinError,
    },
    /// Peer or server: the dial came to nothing.
    #[error("{rendezvous}: {error}")]
    Dial {
        /// The URL of the rendezvous, without a path.
        rendezvous: Arc<str>,
        /// Why.
        #[source]
        error: DialError,
    },
}

/// Why a link could not be opened, or was lost.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The host name could not be resolved.
    #[error("cannot resolve {}: {}", Words(.host), Words(.error))]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        error: Arc<io::Error>,
    },
    /// The host name has no address of the family that was asked for (`/dns4`, `/dns6`).
    #[error("{} has no address of the wanted family", Words(.0))]
    NoAddress(String),
    /// Local: the rendezvous has no public address, we do not listen there, and
    /// [`Config::with_allow_local_rendezvous`](crate::Config::with_allow_local_rendezvous) is off.
    #[error(
        "the rendezvous is at {0}, which is not a public address: this node dials through it only while it \
         listens there (or with allow_local_rendezvous)"
    )]
    NotPublic(IpAddr),
    /// The proxy gave no connection to the rendezvous.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    #[error("the proxy {proxy}: {error}")]
    Proxy {
        /// Its URL, without credentials.
        proxy: Arc<str>,
        /// Why.
        #[source]
        error: ProxyError,
    },
    /// TCP could not connect.
    #[error("cannot connect: {0}")]
    Connect(#[source] Arc<io::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// The TLS handshake failed: for example, nobody trusts the certificate.
    #[error("TLS: {}", Words(.0))]
    Tls(#[source] Arc<rustls::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// The certificate was not accepted, and the address names no server that it could be for.
    #[error(
        "TLS: {}. The address has no name of the server, perhaps because a DNS transport has resolved it: \
         listen there by name, add the behaviour of this crate to the swarm, or dial /tls/sni/<name>/ws",
        Words(.0)
    )]
    TlsWithoutName(#[source] Arc<rustls::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// What answers does not speak TLS.
    #[error(
        "the server does not speak TLS on this port: use /ws instead of /wss, or its port for wss ({})",
        Words(.0)
    )]
    NotTls(#[source] Arc<rustls::Error>),
    /// The TLS handshake could not be carried out.
    #[error("TLS handshake: {}", Words(.0))]
    TlsHandshake(#[source] Arc<io::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// What answers is no WebSocket server, or refuses us.
    #[error("the WebSocket upgrade failed: {0}")]
    Upgrade(#[source] Arc<UpgradeError>),
    /// In a browser: the WebSocket could not be opened. A browser does not tell a page why; its console may.
    #[cfg(any(target_arch = "wasm32", docsrs))]
    #[error(
        "the browser could not open {url}, and tells only its console why: nobody there, no such name, no certificate \
         that it trusts, or no WebSocket server"
    )]
    NotOpened {
        /// What was to be opened.
        url: String,
    },
    /// In a browser: it does not let this page open a WebSocket to this address, such as `ws` to a name from a page
    /// that came over `https`. Trying again does not help.
    #[cfg(any(target_arch = "wasm32", docsrs))]
    #[error("the browser does not allow it: {}", Words(.0))]
    NotAllowed(String),
    /// Opening the link took too long.
    #[error("{stage} took longer than {timeout:?}")]
    TimedOut {
        /// What was being done.
        stage: &'static str,
        /// The connect timeout.
        timeout: Duration,
    },
    /// The rendezvous violated the protocol.
    #[error("the rendezvous violated the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The rendezvous violated the WebSocket protocol.
    #[error("the rendezvous violated the WebSocket protocol: {0}")]
    WebSocket(#[source] WebSocketError),
    /// The rendezvous sent a message over the limit.
    #[error("the rendezvous sent a message of {len} bytes; at most {max} are accepted")]
    MessageTooLong {
        /// The length that was announced, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The rendezvous asks for answers faster than it takes them.
    #[error("the rendezvous does not take the answers to what it asks")]
    Flooded,
    /// The rendezvous did not answer a heartbeat.
    #[error("no sign of life from the rendezvous for {0:?} after a heartbeat")]
    Heartbeat(Duration),
    /// The socket failed.
    #[error("the link failed: {}", Words(.0))]
    Io(#[source] Arc<io::Error>),
    /// The link's task ended without a word: its Tokio runtime was shut down, or it panicked. Not in a browser.
    #[error(
        "the link's task has ended: its Tokio runtime was shut down, has no time or IO enabled, or the task panicked"
    )]
    TaskEnded,
    /// The rendezvous closed the link.
    #[error("the rendezvous closed the link{}", .0.as_ref().map(|reason| format!(": {}", Words(reason))).unwrap_or_default())]
    Closed(Option<String>),
    /// The rendezvous closed the link because it is about to stop, and another one is in its place or will be. Of a listener that
    /// had joined, that is no error: its address expires until it has joined again.
    #[error(
        "the rendezvous closed the link: it is about to stop, and there is another one in its place"
    )]
    Restarting,
}

/// Why a proxy gave no connection to a rendezvous.
#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Its name could not be resolved.
    #[error("cannot resolve its name: {}", Words(.0))]
    Resolve(#[source] Arc<io::Error>),
    /// TCP could not connect to it.
    #[error("cannot connect to it: {0}")]
    Connect(#[source] Arc<io::Error>),
    /// The TLS handshake with it failed: for example, nobody trusts its certificate.
    #[error("the TLS handshake with it: {}", Words(.0))]
    Tls(#[source] Arc<io::Error>),
    /// It wants a user name and a password, or others than those it was given (HTTP status 407 or 401).
    #[error("{}", if *.given {
        "it does not accept the user name and the password"
    } else {
        "it asks for a user name and a password"
    })]
    Credentials {
        /// Whether it was given any.
        given: bool,
    },
    /// It refuses, with this HTTP status. Many let CONNECT through to port 443 only.
    #[error("it answers with HTTP status {status}{}{}", if .reason.is_empty() { "" } else { ": " }, Words(.reason))]
    Refused {
        /// Such as 403.
        status: u16,
        /// What it said beside that, at most 100 bytes.
        reason: String,
    },
    /// It speaks SOCKS and refuses, with this reason of RFC 1928, section 6.
    #[error("it answers: {}", Words(.0))]
    Socks(String),
    /// The user name, the password and the name of the rendezvous are too long to be said together: more than some 240 bytes.
    #[error("the credentials and the name of the rendezvous are too long together")]
    TooLong,
    /// What answers does not speak what the URL of the proxy says.
    #[error("no proxy of that kind answers{}{}", if .0.is_empty() { "" } else { ": " }, Words(.0))]
    NoProxy(
        /// What it said, at most 100 bytes. Empty if it was given a password, which some repeat.
        String,
    ),
    /// It hung up without an answer.
    #[error("it hung up without an answer")]
    HungUp,
    /// Local: there is a token for the rendezvous, and no encryption, so that the proxy could read it.
    #[error("the token for this rendezvous would pass it without encryption")]
    Token,
    /// The socket failed.
    #[error("{}", Words(.0))]
    Io(#[source] Arc<io::Error>),
}
