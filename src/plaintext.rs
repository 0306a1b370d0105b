//! **No encryption and no authentication**: `/plaintext/1.0.0`, for closed test networks of js-libp2p nodes that were
//! started without a secure channel.
//!
//! `/plaintext/1.0.0` is only a name: once multistream-select has agreed on it, the bytes follow unchanged.
//! (`libp2p-plaintext` is `/plaintext/2.0.0`, which exchanges keys and which those nodes do not support.) So neither
//! side states or proves its identity:
//!
//! * The peer id of a connection that **this node dialled** is the one in the address, whichever peer answered.
//! * The peer id of a connection that **came in** is the one in the address that the rendezvous gave, which is the peer
//!   id that the peer joined with. If the rendezvous checks signatures, as it does by default, this peer id is as
//!   trustworthy as the rendezvous. Transports such as TCP name no peer on inbound connections; these connections are
//!   refused with [`NoClaimedPeer`].
//!
//! The rendezvous, and every other party on the path, can read and change all data, and can claim any identity. This is
//! no fallback: it is never offered together with noise or [secio](crate::secio).

use std::io;

use futures::{AsyncRead, AsyncWrite, future};
use libp2p_core::{
    ConnectedPoint, Transport,
    muxing::StreamMuxerBox,
    transport::Boxed,
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use libp2p_identity::PeerId;

use crate::upgrade;

/// The address of a connection does not say which peer it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext does not identify the peer, and the address of this connection has no peer id")]
pub struct NoClaimedPeer;

/// The upgrade for a connection that claims to be with this peer. The claim is not checked.
#[derive(Debug, Clone, Copy)]
pub struct InsecurePlaintext {
    claimed: PeerId,
}

impl InsecurePlaintext {
    /// Creates an upgrade that accepts the claim that the connection's peer is `claimed`.
    pub fn believing(claimed: PeerId) -> Self {
        Self { claimed }
    }

    /// Creates an upgrade that accepts the peer id in the connection's remote address: the dialled address, or the
    /// address from which the connection came.
    pub fn believing_address(endpoint: &ConnectedPoint) -> Result<Self, NoClaimedPeer> {
        upgrade::peer_of(endpoint.get_remote_address())
            .map(Self::believing)
            .ok_or(NoClaimedPeer)
    }
}

impl UpgradeInfo for InsecurePlaintext {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/plaintext/1.0.0")
    }
}

impl<S> InboundConnectionUpgrade<S> for InsecurePlaintext {
    type Output = (PeerId, S);
    type Error = io::Error;
    type Future = future::Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, io: S, _: Self::Info) -> Self::Future {
        future::ready(Ok((self.claimed, io)))
    }
}

impl<S> OutboundConnectionUpgrade<S> for InsecurePlaintext {
    type Output = (PeerId, S);
    type Error = io::Error;
    type Future = future::Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, io: S, _: Self::Info) -> Self::Future {
        future::ready(Ok((self.claimed, io)))
    }
}

/// Multiplexes the connections of a transport, with yamux or else with mplex, and **neither encrypts nor authenticates
/// them**: see [the module](self).
pub fn insecure_transport<T>(transport: T) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    transport
        .and_then(|io, endpoint| async move {
            let plaintext =
                InsecurePlaintext::believing_address(&endpoint).map_err(io::Error::other)?;
            let (peer, io) = upgrade::apply(io, &endpoint, plaintext).await?;
            io::Result::Ok((peer, upgrade::multiplex(io, &endpoint).await?))
        })
        .boxed()
}
