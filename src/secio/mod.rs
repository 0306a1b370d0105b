//! secio, the secure channel of old libp2p networks. **Deprecated: use it only to reach nodes that have
//! nothing else**, as js-libp2p up to 0.26 and js-ipfs up to 0.40 have.
//!
//! [`Config`] is an authentication upgrade, as noise's is:
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
//! [`preset::transport`](crate::preset::transport) does that, and speaks noise and yamux with those who can.
//!
//! # Weaker than noise
//!
//! * **Nothing protects the choice of secio.** multistream-select happens in the clear and is not part of
//!   what is signed: somebody on the way can hide that both sides know noise. (The algorithms inside
//!   of secio are signed.)
//! * The MAC covers a frame and not its place. Frames left out, sent again or in another order
//!   are not refused by the protocol; their plaintext is garbage, which is left to the muxer to notice. We
//!   refuse a frame of 16 bytes or more that equals one of the 2047 before it, beyond the protocol.
//! * There is no closing message: an end between two frames may be a cut.
//! * The peers' identity keys are sent in the clear.
//! * The signatures have no domain separation.
//!
//! # The protocol
//!
//! `/secio/1.0.0`, as [libp2p's specification](https://github.com/libp2p/specs/tree/master/secio) describes
//! it and the npm package `libp2p-secio` 0.11 speaks it. We offer P-256 and P-384, AES-256 and
//! AES-128 in counter mode, HMAC with SHA-256 and SHA-512.
//!
//! Bounds: a message of the handshake has at most 16 KiB, a frame at most [`MAX_FRAME`]; memory grows with
//! what has arrived, and not with the length that was announced. The handshake has no deadline of its
//! own, as a swarm has one for all of the upgrade (`SwarmBuilder::with_connection_timeout`, or
//! `libp2p::core::Transport::timeout`).
//!
//! # Whom one is connected to
//!
//! The handshake proves the peer's key, and its output says which. As with noise, an upgrade is not told who was
//! dialled: a `Swarm` compares the peer that was proved with the one that was dialled, and closes the
//! connection with `DialError::WrongPeerId` if they differ. [`Config::with_expected_peer`] does it in the handshake
//! itself, before we have shown more than our proposal; the preset uses it.

mod error;
mod frame;
mod handshake;
mod identity;
mod keys;
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

/// The longest encrypted frame that is accepted, in bytes, without its header: what
/// `libp2p-secio` 0.11 accepts. It never sends that much: muxers send 1 MiB at a time at most.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

const NONCE_LEN: usize = 16;

/// The upgrade to a secured connection, for both directions.
#[derive(Clone)]
pub struct Config {
    keypair: Keypair,
    expected_peer: Option<PeerId>,
}

impl Config {
    /// Proves that we hold this key: Ed25519, secp256k1 or RSA for JavaScript peers.
    pub fn new(keypair: &Keypair) -> Self {
        Self {
            keypair: keypair.clone(),
            expected_peer: None,
        }
    }

    /// Accepts this peer and no other: [`Error::UnexpectedPeer`]. For a config that serves a single
    /// connection; a swarm checks the peer anyway, after the upgrade.
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
