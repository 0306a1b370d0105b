//! Peer discovery for a libp2p swarm.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use libp2p_core::{Endpoint, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use multiaddr::Multiaddr;

use crate::{Discovery, Event};

/// How many discovery events the behaviour reports in a row. A swarm polls its connections and
/// listeners only when its behaviours have nothing to report.
const BURST: usize = 16;

/// Tells a swarm of the peers that the rendezvous announce.
///
/// It reports an [`Event`] for every address that is discovered or has expired, and hands each
/// discovered address to the other behaviours as an external address of the peer. While an address is
/// known the swarm can dial the peer by its [`PeerId`] alone.
///
/// It opens no connections itself. It needs the tokio runtime, as the transport does.
///
/// ```
/// use libp2p::{ping, swarm::NetworkBehaviour};
/// use libp2p_websocket_star as star;
///
/// #[derive(NetworkBehaviour)]
/// struct Node {
///     star: star::Behaviour,
///     ping: ping::Behaviour,
/// }
///
/// impl Node {
///     fn new(discovery: star::Discovery) -> Self {
///         Self {
///             star: star::Behaviour::new(discovery),
///             ping: ping::Behaviour::default(),
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Behaviour {
    discovery: Discovery,
    /// Reported and not expired; within the capacity of the discovery.
    known: BTreeSet<(PeerId, Multiaddr)>,
    /// Reported to the user and not yet to the other behaviours.
    learned: Option<(PeerId, Multiaddr)>,
    /// Discovery events since the swarm could last turn to something else.
    burst: usize,
}

impl Behaviour {
    /// Reports what `discovery` hears of.
    pub fn new(discovery: Discovery) -> Self {
        Self {
            discovery,
            known: BTreeSet::new(),
            learned: None,
            burst: 0,
        }
    }

    /// The discovered addresses that have not expired, ordered by peer.
    pub fn discovered(&self) -> impl ExactSizeIterator<Item = (&PeerId, &Multiaddr)> {
        self.known.iter().map(|(peer, address)| (peer, address))
    }

    fn addresses_of(&self, peer: PeerId) -> impl Iterator<Item = &Multiaddr> {
        self.known
            .range((peer, Multiaddr::empty())..)
            .take_while(move |(known, _)| *known == peer)
            .map(|(_, address)| address)
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Discovered { peer, address } => {
                tracing::debug!(%peer, %address, "discovered");
                self.known.insert((*peer, address.clone()));
                self.learned = Some((*peer, address.clone()));
            }
            Event::Expired { peer, address } => {
                tracing::debug!(%peer, %address, "expired");
                self.known.remove(&(*peer, address.clone()));
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let addresses = peer.map(|peer| self.addresses_of(peer).cloned().collect());
        Ok(addresses.unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        libp2p_core::util::unreachable(event)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    #[tracing::instrument(level = "trace", name = "NetworkBehaviour::poll", skip(self, cx))]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, address)) = self.learned.take() {
            return Poll::Ready(ToSwarm::NewExternalAddrOfPeer { peer_id, address });
        }
        if self.burst == BURST {
            self.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut self.discovery).poll_next(cx) {
            Poll::Ready(Some(event)) => {
                self.burst += 1;
                self.apply(&event);
                Poll::Ready(ToSwarm::GenerateEvent(event))
            }
            // The transport is gone: what is known stays, and nothing is added.
            Poll::Ready(None) | Poll::Pending => {
                self.burst = 0;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
#[path = "behaviour_tests.rs"]
mod tests;
