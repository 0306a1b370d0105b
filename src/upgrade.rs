//! Upgrades that know the endpoint of their connection. libp2p's builder does not pass it on.

use std::io;

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::{
    ConnectedPoint, Endpoint,
    muxing::StreamMuxerBox,
    upgrade::{
        InboundConnectionUpgrade, Negotiated, OutboundConnectionUpgrade, SelectUpgrade, Version,
    },
};
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use multistream_select::{dialer_select_proto, listener_select_proto};

/// Returns the peer id at the end of an address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// Negotiates one of the upgrade's protocols and carries it out.
pub(crate) async fn apply<S, U, T, E>(io: S, endpoint: &ConnectedPoint, upgrade: U) -> io::Result<T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    U: InboundConnectionUpgrade<Negotiated<S>, Output = T, Error = E>,
    U: OutboundConnectionUpgrade<Negotiated<S>, Output = T, Error = E>,
    E: std::error::Error + Send + Sync + 'static,
{
    let protocols = upgrade.protocol_info();
    let dialer = matches!(
        endpoint,
        ConnectedPoint::Dialer {
            role_override: Endpoint::Dialer,
            ..
        }
    );
    let upgraded = if dialer {
        // Not `V1Lazy`, which would use the last protocol before the other side has agreed to it.
        let (protocol, io) = dialer_select_proto(io, protocols, Version::V1)
            .await
            .map_err(io::Error::other)?;
        upgrade.upgrade_outbound(io, protocol).await
    } else {
        let (protocol, io) = listener_select_proto(io, protocols)
            .await
            .map_err(io::Error::other)?;
        upgrade.upgrade_inbound(io, protocol).await
    };
    upgraded.map_err(io::Error::other)
}

/// Multiplexes with yamux, or else with mplex.
pub(crate) async fn multiplex<S>(io: S, endpoint: &ConnectedPoint) -> io::Result<StreamMuxerBox>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut mplex = libp2p_mplex::Config::default();
    // mplex has no flow control: a full stream either loses its data or blocks the other streams. The default of 128
    // streams would refuse streams of JavaScript nodes, which have no limit.
    mplex
        .set_max_buffer_behaviour(libp2p_mplex::MaxBufferBehaviour::Block)
        .set_max_num_streams(1024);
    let muxers = SelectUpgrade::new(libp2p_yamux::Config::default(), mplex);
    let muxer = apply(io, endpoint, muxers).await?;
    Ok(StreamMuxerBox::new(muxer))
}
