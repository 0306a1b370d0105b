//! secio, the secure channel of old libp2p networks. **Deprecated: use it only to reach nodes that support nothing
//! else**, such as js-libp2p up to 0.26 and js-ipfs up to 0.40.
//!
//! [`Config`] is an authentication upgrade, like noise's:
//!
//! ```
//! use libp2p_core::{Transport as _, upgrade::Version};
//! use libp2p_websocket_star::{Config, WebSocketStarTransport, secio};
//!
//! let key = libp2p_identity::Keypair::generate_ed25519();
//! let transport = WebSocketStarTransport::new(&key, Config::default())
//!     .upgrade(Version::V1)
//!     .authenticate(secio::Config::new(&key))
//!     .multiplex(libp2p_mplex::Config::default());
//! ```
//!
//! [`preset::transport`](crate::preset::transport) does that, and uses noise and yamux with peers that support them.
//!
//! # Weaker than noise
//!
//! * **Nothing protects the choice of secio.** multistream-select is not encrypted and not covered by the signatures: a
//!   party on the path can hide that both peers support noise. (The algorithms inside secio are signed.)
//! * The MAC covers a frame but not its position. The protocol does not refuse frames that are left out, repeated or
//!   reordered. Their plaintext is garbage, which only the muxer may notice. Beyond the protocol, this crate refuses a
//!   frame of 16 bytes or more that equals one of the 2047 before it.
//! * There is no closing message: an end between two frames may be a cut.
//! * The peers' identity keys are sent unencrypted.
//! * The signatures have no domain separation.
//!
//! # The protocol
//!
//! `/secio/1.0.0`, as in [libp2p's specification](https://github.com/libp2p/specs/tree/master/secio) and in the npm
//! package `libp2p-secio` 0.11. This crate offers P-256 and P-384, AES-256 and AES-128 in counter mode, and HMAC with
//! SHA-256 and SHA-512.
//!
//! Bounds: a handshake message has at most 16 KiB, and a frame at most [`MAX_FRAME`]. Memory grows with the data that
//! has arrived, not with the announced length. The handshake has no deadline of its own, because a swarm has one for
//! the whole upgrade (`SwarmBuilder::with_connection_timeout`, or `libp2p::core::Transport::timeout`).
//!
//! # The identity of the peer
//!
//! The handshake proves the peer's key, and its output names the peer. As with noise, an upgrade does not know which
//! peer was dialled: a `Swarm` compares the proved peer with the dialled one, and closes the connection with
//! `DialError::WrongPeerId` if they differ. [`Config::with_expected_peer`] checks it in the handshake itself, before
//! this node has sent more than its proposal. The preset uses it.

mod error;
mod frame;
mod handshake;
mod identity;
mod keys;
/// For the fuzz target, and no part of the stable interface.
#[doc(hidden)]
pub mod message;
mod replay;
mod seal;
mod stream;
mod suite;
#[cfg(test)]
mod tests;

use std::{fmt, iter, pin::Pin};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p_identity::{Keypair, PeerId};

pub use self::{
    error::{Error, FrameError, MessageError},
    frame::FrameDecoder,
    stream::Output,
};

/// The longest accepted encrypted frame, in bytes, without its header. `libp2p-secio` 0.11 accepts the same. It never
/// sends that much, because muxers send at most 1 MiB at a time.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

const NONCE_LEN: usize = 16;

/// The upgrade to a secured connection, for both directions.
#[derive(Clone)]
pub struct Config {
    keypair: Keypair,
    expected_peer: Option<PeerId>,
}

impl Config {
    /// Creates an upgrade that proves possession of this key. For JavaScript peers, it must be an Ed25519, secp256k1 or
    /// RSA key.
    pub fn new(keypair: &Keypair) -> Self {
        Self {
            keypair: keypair.clone(),
            expected_peer: None,
        }
    }

    /// Accepts only this peer; others fail with [`Error::UnexpectedPeer`]. For a config that is used for a single
    /// connection. A swarm checks the peer in any case, after the upgrade.
    #[must_use]
    pub fn with_expected_peer(mut self, peer: PeerId) -> Self {
        self.expected_peer = Some(peer);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("local_peer", &self.keypair.public().to_peer_id())
            .field("expected_peer", &self.expected_peer)
            .finish()
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/secio/1.0.0")
    }
}

type Upgrade<S> = Pin<Box<dyn Future<Output = Result<(PeerId, Output<S>), Error>> + Send>>;

impl<S> InboundConnectionUpgrade<S> for Config
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Output<S>);
    type Error = Error;
    type Future = Upgrade<S>;

    fn upgrade_inbound(self, io: S, _: Self::Info) -> Self::Future {
        Box::pin(handshake::handshake(io, self))
    }
}

impl<S> OutboundConnectionUpgrade<S> for Config
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Output<S>);
    type Error = Error;
    type Future = Upgrade<S>;

    fn upgrade_outbound(self, io: S, _: Self::Info) -> Self::Future {
        Box::pin(handshake::handshake(io, self))
    }
}
