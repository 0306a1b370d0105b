//! A complete peer for old js-libp2p nodes: noise or secio, yamux or mplex, and addresses that those nodes can parse.

use std::{
    fmt, io,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p_core::{
    ConnectedPoint, Endpoint, Transport,
    muxing::StreamMuxerBox,
    transport::{Boxed, PortUse},
    upgrade::SelectUpgrade,
};
use libp2p_identify as identify;
use libp2p_identity::{Keypair, PeerId};
use libp2p_noise as noise;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
    behaviour::{ExpiredListenAddr, ExternalAddrConfirmed, ExternalAddrExpired, NewListenAddr},
};
use multiaddr::{Multiaddr, Protocol};

use crate::{AddressGuard, secio, upgrade};

/// Secures the connections of a transport with noise, or else with secio, and multiplexes them with yamux, or else with
/// mplex. Each connection uses the best protocols that both peers support.
///
/// A dialer offers noise first and falls back to [secio], whose weaknesses then apply: a party on the path, such as the
/// rendezvous, can hide that both peers support noise. If an address with `/p2p/<peer id>` is dialled and the peer has
/// another identity, the secio handshake refuses it; a swarm refuses it in any case.
///
/// mplex has no flow control: a stream that is not read blocks its connection once 32 of its frames are waiting.
///
/// The returned transport has no timeout for the dial and the handshakes. Add one; `SwarmBuilder` adds one of 10 s.
///
/// ```
/// use libp2p::{Swarm, SwarmBuilder, identify, ping, swarm::NetworkBehaviour};
/// use libp2p_websocket_star::{Behaviour, Config, WebSocketStarTransport, preset};
///
/// #[derive(NetworkBehaviour)]
/// struct Node {
///     discovery: Behaviour,
///     identify: preset::Identify,
///     ping: ping::Behaviour,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = libp2p::identity::Keypair::generate_ed25519();
/// let star = WebSocketStarTransport::new(&key, Config::default());
/// let discovery = star.discovery();
///
/// let mut swarm: Swarm<Node> = SwarmBuilder::with_existing_identity(key)
///     .with_tokio()
///     .with_other_transport(|key| Ok(preset::transport(key, star)?))?
///     .with_behaviour(|key| {
///         Ok(Node {
///             discovery: Behaviour::new(key.public().to_peer_id(), discovery)?,
///             identify: preset::Identify::new(identify::Config::new(
///                 "ipfs/0.1.0".into(),
///                 key.public(),
///             )),
///             ping: ping::Behaviour::default(),
///         })
///     })?
///     .build();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the key cannot sign noise's static key.
pub fn transport<T>(
    keypair: &Keypair,
    transport: T,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise::Config::new(keypair)?;
    let secio = secio::Config::new(keypair);
    Ok(transport
        .and_then(move |io, endpoint| upgrade(io, endpoint, noise, secio))
        .boxed())
}

async fn upgrade<S>(
    io: S,
    endpoint: ConnectedPoint,
    noise: noise::Config,
    mut secio: secio::Config,
) -> io::Result<(PeerId, StreamMuxerBox)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let ConnectedPoint::Dialer { address, .. } = &endpoint
        && let Some(peer) = upgrade::peer_of(address)
    {
        secio = secio.with_expected_peer(peer);
    }
    let secured = upgrade::apply(io, &endpoint, SelectUpgrade::new(noise, secio)).await?;
    let (peer, io) = secured.factor_first();
    Ok((peer, upgrade::multiplex(io, &endpoint).await?))
}

/// Returns whether js-libp2p 0.26 can parse an address. It closes the connection if it cannot: its `multiaddr` 6.1
/// throws at every newer protocol, such as `/quic-v1` and `/tls`.
pub fn is_understood(address: &Multiaddr) -> bool {
    address.iter().all(|protocol| {
        matches!(
            protocol,
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
                | Protocol::Dnsaddr(_)
                | Protocol::Tcp(_)
                | Protocol::Ws(_)
                | Protocol::Wss(_)
                | Protocol::P2pWebSocketStar
                | Protocol::P2pCircuit
                | Protocol::P2p(_)
        )
    })
}

/// [`identify::Behaviour`], restricted to listen addresses and external addresses that [are understood](is_understood)
/// by all nodes. It does not receive other addresses, and so does not send them to peers.
///
/// Address translation also uses only these addresses, and addresses observed through a rendezvous are not candidates.
pub struct Identify(AddressGuard<identify::Behaviour>);

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identify").finish_non_exhaustive()
    }
}

impl Identify {
    /// Creates a behaviour with this configuration.
    pub fn new(config: identify::Config) -> Self {
        Self(AddressGuard::new(identify::Behaviour::new(config)))
    }

    /// See [`identify::Behaviour::push`].
    pub fn push(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.0.get_mut().push(peers);
    }
}

impl NetworkBehaviour for Identify {
    type ConnectionHandler = <identify::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = identify::Event;

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let told = match event {
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. })
            | FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. })
            | FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr })
            | FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }) => is_understood(addr),
            _ => true,
        };
        if told {
            self.0.on_swarm_event(event);
        }
    }

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.0.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.0
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0
            .handle_established_outbound_connection(id, peer, address, role, port_use)
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.0.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.0.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, future::join};
    use libp2p_core::{
        transport::{DialOpts, ListenerId, MemoryTransport},
        upgrade::Version,
    };

    use super::*;

    #[test]
    fn only_what_old_peers_can_parse_is_told_to_them() {
        for (address, understood) in [
            ("/ip4/1.2.3.4/tcp/9090/ws/p2p-websocket-star", true),
            ("/dns4/star.example/tcp/443/wss/p2p-websocket-star", true),
            ("/ip6/::1/tcp/4001", true),
            ("/dnsaddr/example.org", true),
            ("/ip4/1.2.3.4/udp/4001/quic-v1", false),
            ("/ip4/1.2.3.4/udp/4001/quic-v1/webtransport", false),
            ("/ip4/1.2.3.4/udp/4001/webrtc-direct", false),
            ("/dns4/star.example/tcp/443/tls/ws", false),
            ("/memory/7", false),
        ] {
            let address = address.parse().expect("a multiaddr");
            assert_eq!(is_understood(&address), understood, "{address}");
        }
    }

    /// Connects through memory to a node that supports only secio and mplex, with `/p2p/<dialled>` in the address.
    async fn dial_old_node(node: &Keypair, dialled: PeerId) -> io::Result<PeerId> {
        let mut old = MemoryTransport::new()
            .upgrade(Version::V1)
            .authenticate(secio::Config::new(node))
            .multiplex(libp2p_mplex::Config::default())
            .boxed();
        let addr = "/memory/0".parse().expect("a multiaddr");
        old.listen_on(ListenerId::next(), addr).expect("any port");
        let event = old.select_next_some().await;
        let addr = event
            .into_new_address()
            .expect("a port")
            .with(Protocol::P2p(dialled));
        let key = Keypair::generate_ed25519();
        let mut new = transport(&key, MemoryTransport::new()).expect("the key signs");
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let dial = new.dial(addr, opts).expect("a good address");
        let serve = async {
            let (upgrade, _) = old
                .select_next_some()
                .await
                .into_incoming()
                .expect("a dial");
            let _ = upgrade.await;
        };
        let (dialled, ()) = join(dial, serve).await;
        dialled.map(|(peer, _)| peer)
    }

    #[tokio::test]
    async fn an_old_node_gets_secio_and_mplex() {
        let node = Keypair::generate_ed25519();
        let peer = node.public().to_peer_id();
        assert_eq!(
            dial_old_node(&node, peer).await.expect("a connection"),
            peer
        );
    }

    #[tokio::test]
    async fn another_peer_than_the_one_dialled_is_refused_in_the_handshake() {
        let node = Keypair::generate_ed25519();
        let error = dial_old_node(&node, PeerId::random()).await;
        let error = error.expect_err("another peer").to_string();
        let found = node.public().to_peer_id().to_string();
        assert!(
            error.contains("expected") && error.contains(&found),
            "{error}"
        );
    }
}
