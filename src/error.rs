//! Errors. The documentation of each says who is at fault.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

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
pub use crate::{cause::Cause, certificate::CertificateError, websocket::upgrade::UpgradeError};

/// Why a listener or a dial failed.
///
/// `Display` writes the complete explanation in one line, because libp2p's `TransportError::Other` adds no text of its
/// own. `source()` gives the parts. In that line, text from others is escaped and cut; the fields contain it unchanged.
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
    /// Local: a listener already has this address, or the given listener id is already in use for it.
    #[error("already listening on {}", Words(.0))]
    AlreadyListening(Multiaddr),
    /// Local: the address to dial does not end in `/p2p/<peer id>`.
    #[error("the address to dial does not end in /p2p/<peer id>: {}", Words(.0))]
    MissingPeerId(Multiaddr),
    /// Local: the address to dial is this peer's own.
    #[error("cannot dial this peer itself")]
    DialedSelf,
    /// Local: the transport was polled, or a dial was awaited, outside of a Tokio runtime. Not in a browser.
    #[error(
        "websocket-star needs a Tokio runtime with time and IO enabled, but was polled outside of one"
    )]
    NoRuntime,
    /// Local: the transport was made with another key than the swarm.
    #[error(
        "the transport joins as {transport}, but the swarm is {swarm}: create both with the same key"
    )]
    WrongKey {
        /// The peer of the transport's key.
        transport: Box<PeerId>,
        /// The swarm's peer.
        swarm: Box<PeerId>,
    },
    /// Local: the maximum number of links to rendezvous at which this node does not listen is reached.
    /// [`Limits::with_dial_links`](crate::Limits::with_dial_links) sets it.
    #[error(
        "too many links to rendezvous at which this node does not listen: {most} are open or being opened, the maximum"
    )]
    TooManyRendezvous {
        /// The maximum number of such links.
        most: usize,
    },
    #[cfg(not(target_arch = "wasm32"))]
    /// Local: the given root certificate is not valid.
    #[error("not a root certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Local: the given proxy cannot be used.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    #[error("cannot use a proxy: {0}")]
    Proxy(#[from] ProxyConfigError),
    /// Local: the given token cannot be used.
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
    /// Peer or server: the dial failed.
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
        /// The resolver's error.
        #[source]
        error: Arc<io::Error>,
    },
    /// The host name has no address of the requested family (`/dns4`, `/dns6`).
    #[error("{} has no address of the requested family (/dns4 or /dns6)", Words(.0))]
    NoAddress(String),
    /// Local: the rendezvous has no public address, this node does not listen there, and
    /// [`Config::with_allow_local_rendezvous`](crate::Config::with_allow_local_rendezvous) is off.
    #[error(
        "the rendezvous is at {0}, which is not a public address: this node dials through it only while it \
         listens there (or with allow_local_rendezvous)"
    )]
    NotPublic(IpAddr),
    /// The proxy did not connect to the rendezvous.
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
    #[error("the proxy {proxy}: {error}")]
    Proxy {
        /// The URL of the proxy, without credentials.
        proxy: Arc<str>,
        /// Why.
        #[source]
        error: ProxyError,
    },
    /// TCP could not connect.
    #[error("cannot connect: {0}")]
    Connect(#[source] Arc<io::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// The TLS handshake failed: for example, the certificate is not trusted.
    #[error("TLS: {}", Words(.0))]
    Tls(#[source] Cause),
    #[cfg(not(target_arch = "wasm32"))]
    /// The certificate was not accepted, and the address contains no server name for which to verify it.
    #[error(
        "TLS: {}. The address has no server name, perhaps because a DNS transport has resolved it: \
         listen there by name, add the behaviour of this crate to the swarm, or dial /tls/sni/<name>/ws",
        Words(.0)
    )]
    TlsWithoutName(#[source] Cause),
    #[cfg(not(target_arch = "wasm32"))]
    /// The server does not speak TLS on this port.
    #[error(
        "the server does not speak TLS on this port: use /ws instead of /wss, or the port for wss ({})",
        Words(.0)
    )]
    NotTls(#[source] Cause),
    /// The TLS handshake could not be carried out.
    #[error("TLS handshake: {}", Words(.0))]
    TlsHandshake(#[source] Arc<io::Error>),
    #[cfg(not(target_arch = "wasm32"))]
    /// The server is not a WebSocket server, or refuses the connection.
    #[error("the WebSocket upgrade failed: {0}")]
    Upgrade(#[source] Arc<UpgradeError>),
    /// In a browser: the WebSocket could not be opened. A browser does not tell a page the reason, but its console may.
    #[cfg(any(target_arch = "wasm32", docsrs))]
    #[error(
        "the browser could not open {url}, and shows the reason only in its console: nothing listens there, the name does \
         not exist, the certificate is not trusted, or the server does not speak WebSocket"
    )]
    NotOpened {
        /// The URL that was to be opened.
        url: String,
    },
    /// In a browser: the browser does not let this page open a WebSocket to this address, such as `ws` to a name from a
    /// page loaded over `https`. Trying again does not help.
    #[cfg(any(target_arch = "wasm32", docsrs))]
    #[error("the browser does not allow the link: {}", Words(.0))]
    NotAllowed(String),
    /// Opening the link took too long.
    #[error("{stage} took longer than {timeout:?}")]
    TimedOut {
        /// The stage of opening the link.
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
    /// The rendezvous sent a message longer than the limit.
    #[error("the rendezvous sent a message of {len} bytes; at most {max} are accepted")]
    MessageTooLong {
        /// The announced length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The rendezvous requests answers faster than it accepts them.
    #[error("the rendezvous sends requests faster than it reads the answers")]
    Flooded,
    /// The rendezvous did not answer a heartbeat.
    #[error("the rendezvous sent nothing for {0:?} after a heartbeat")]
    Heartbeat(Duration),
    /// The socket failed.
    #[error("the link failed: {}", Words(.0))]
    Io(#[source] Arc<io::Error>),
    /// The link's task ended without an error of its own: its Tokio runtime was shut down, or it panicked. Not in a
    /// browser.
    #[error(
        "the link's task has ended: its Tokio runtime was shut down, has no time or IO enabled, or the task panicked"
    )]
    TaskEnded,
    /// The rendezvous closed the link.
    #[error("the rendezvous closed the link{}", .0.as_ref().map(|reason| format!(": {}", Words(reason))).unwrap_or_default())]
    Closed(Option<String>),
    /// The rendezvous closed the link because it is about to stop, and another one replaces it. For a listener that had
    /// joined, this is not an error: its address expires until it has joined again.
    #[error("the rendezvous closed the link: it is about to stop, and another one replaces it")]
    Restarting,
}

/// Why a proxy did not connect to a rendezvous.
#[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy")))]
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy's name could not be resolved.
    #[error("cannot resolve its name: {}", Words(.0))]
    Resolve(#[source] Arc<io::Error>),
    /// TCP could not connect to the proxy.
    #[error("cannot connect to it: {0}")]
    Connect(#[source] Arc<io::Error>),
    /// The TLS handshake with the proxy failed: for example, its certificate is not trusted.
    #[error("the TLS handshake with it: {}", Words(.0))]
    Tls(#[source] Arc<io::Error>),
    /// The proxy requires a user name and a password, or other ones than were given (HTTP status 407 or 401).
    #[error("{}", if *.given {
        "it does not accept the user name and the password"
    } else {
        "it asks for a user name and a password"
    })]
    Credentials {
        /// Whether credentials were given.
        given: bool,
    },
    /// The proxy refuses with this HTTP status. Many proxies allow CONNECT to port 443 only.
    #[error("it answers with HTTP status {status}{}{}", if .reason.is_empty() { "" } else { ": " }, Words(.reason))]
    Refused {
        /// The HTTP status, such as 403.
        status: u16,
        /// The proxy's explanation, at most 100 bytes.
        reason: String,
    },
    /// A SOCKS proxy refuses for this reason of RFC 1928, section 6.
    #[error("it answers: {}", Words(.0))]
    Socks(String),
    /// The user name, the password and the name of the rendezvous are too long together: more than about 240 bytes.
    #[error("the credentials and the name of the rendezvous are together too long")]
    TooLong,
    /// The server does not speak the protocol in the proxy's URL.
    #[error("it does not answer like a proxy of this kind{}{}", if .0.is_empty() { "" } else { ": " }, Words(.0))]
    NoProxy(
        /// What the server said, at most 100 bytes. Empty if a password was sent, because some servers repeat it.
        String,
    ),
    /// The proxy closed the connection without an answer.
    #[error("it closed the connection without an answer")]
    HungUp,
    /// Local: there is a token for the rendezvous but no encryption, so the proxy could read the token.
    #[error("it could read the token for this rendezvous, because the link would not be encrypted")]
    Token,
    /// The socket failed.
    #[error("{}", Words(.0))]
    Io(#[source] Arc<io::Error>),
}
