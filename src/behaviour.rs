//! The transport's behaviour in a libp2p swarm: the peers that it discovers, and this node's own addresses.

mod guard;

use std::{
    collections::{BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use libp2p_core::{Endpoint, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
    behaviour::{ConnectionEstablished, ExpiredListenAddr, NewExternalAddrOfPeer, NewListenAddr},
    dummy,
};
use multiaddr::Multiaddr;

pub use self::guard::AddressGuard;
use crate::{
    Discovery, Error, Event, StarAddr, hints::Hints, log_limit::LogLimit, runtime::now,
    words::Words,
};

/// The number of discovery events that the behaviour reports in a row. A swarm polls its connections and listeners only
/// when its behaviours have nothing to report.
const BURST: usize = 16;

/// Connects a swarm with its rendezvous.
///
/// * It reports an [`Event`] for each address of a peer that is discovered or has expired. It hands each discovered
///   address to the other behaviours as an external address of the peer. While an address is known, the swarm can dial
///   the peer by its [`PeerId`] alone.
/// * It confirms each joined address as an external address of this node, and expires it when the join ends. Kademlia
///   then runs as a server, and relays and rendezvous points accept registrations. This works without autonat, which
///   cannot judge whether this node is reachable through a rendezvous.
///   [`with_external_addresses`](Self::with_external_addresses) turns it off.
/// * It tells the transport what the swarm dials. Beneath a DNS transport, the names of rendezvous are found again. A
///   peer that one attempt would dial twice at one rendezvous, with and without `/p2p/<peer>`, is dialled once.
///
/// It opens no connections itself. Like the transport, it needs the tokio runtime.
///
/// When two nodes discover each other and both dial, the result is two connections, and libp2p keeps both. Let only one
/// of the nodes dial, for example the one with the smaller [`PeerId`].
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
///     fn new(local: libp2p::PeerId, discovery: star::Discovery) -> Result<Self, star::Error> {
///         Ok(Self {
///             star: star::Behaviour::new(local, discovery)?,
///             ping: ping::Behaviour::default(),
///         })
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Behaviour {
    discovery: Discovery,
    hints: Arc<Hints>,
    external_addresses: bool,
    /// This node's addresses that are still to be confirmed or expired. The number of listener events bounds the queue.
    own: VecDeque<OwnAddress>,
    /// Addresses that were reported and have not expired. The capacity of the discovery bounds them.
    known: BTreeSet<(PeerId, Multiaddr)>,
    /// The address that was reported to the user but not yet to the other behaviours.
    learned: Option<(PeerId, Multiaddr)>,
    /// The number of discovery events reported since the swarm could last poll anything else.
    burst: usize,
    /// Limits warnings about dials that did not reach the transport, because any peer that announces addresses can
    /// cause them.
    not_reached: LogLimit,
}

#[derive(Debug)]
enum OwnAddress {
    Joined(Multiaddr),
    Lost(Multiaddr),
}

impl Behaviour {
    /// Creates a behaviour that reports the events of `discovery` to the swarm of `local_peer`.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if the transport and the swarm have different keys. Peers would dial the transport's peer
    /// id, find the swarm's, and close the connection.
    pub fn new(local_peer: PeerId, discovery: Discovery) -> Result<Self, Error> {
        let transport = discovery.local_peer();
        if transport != local_peer {
            return Err(Error::WrongKey {
                transport: Box::new(transport),
                swarm: Box::new(local_peer),
            });
        }
        Ok(Self::of(discovery))
    }

    /// Creates a behaviour for a transport that is known to have the swarm's key.
    pub(crate) fn of(discovery: Discovery) -> Self {
        Self {
            hints: discovery.hints(),
            discovery,
            external_addresses: true,
            own: VecDeque::new(),
            known: BTreeSet::new(),
            learned: None,
            burst: 0,
            not_reached: LogLimit::default(),
        }
    }

    /// Sets whether joined addresses are confirmed as external addresses of this node. Default on, because all peers at
    /// the rendezvous can reach this node there.
    #[must_use]
    pub fn with_external_addresses(mut self, confirm: bool) -> Self {
        self.external_addresses = confirm;
        self
    }

    /// Returns the discovered addresses that have not expired, ordered by peer.
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
                tracing::debug!(%peer, address = %Words(address), "discovered");
                self.known.insert((*peer, address.clone()));
                self.hints.address(*peer, address);
                self.learned = Some((*peer, address.clone()));
            }
            Event::Expired { peer, address } => {
                tracing::debug!(%peer, address = %Words(address), "expired");
                self.known.remove(&(*peer, address.clone()));
            }
        }
    }
}

impl Behaviour {
    /// Returns whether a listen address is this node's address at a rendezvous and is to be confirmed.
    fn is_own(&self, address: &Multiaddr) -> bool {
        self.external_addresses
            && StarAddr::try_from(address)
                .is_ok_and(|addr| addr.peer() == Some(self.discovery.local_peer()))
    }

    fn attempt_failed(&self, id: ConnectionId, error: &DialError) {
        let asked = self.hints.attempt_ended(id, false);
        let DialError::Transport(errors) = error else {
            return;
        };
        let mut addresses = errors.iter().map(|(address, _)| address);
        let star = addresses.find(|address| StarAddr::try_from(*address).is_ok());
        if let (Some(false), Some(address)) = (asked, star) {
            let Some(left_out) = self.not_reached.admit(now()) else {
                return;
            };
            tracing::warn!(
                address = %Words(address),
                left_out,
                "the dial did not reach the websocket-star transport: the name cannot be resolved, or a transport that takes \
                 every address, such as a DNS transport, comes before websocket-star; put websocket-star first"
            );
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
        id: ConnectionId,
        peer: Option<PeerId>,
        asked_for: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = peer else {
            return Ok(Vec::new());
        };
        self.hints.attempt_began(id, peer);
        for address in asked_for {
            self.hints.address(peer, address);
        }
        Ok(self.addresses_of(peer).cloned().collect())
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

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) if self.is_own(addr) => {
                self.own.push_back(OwnAddress::Joined(addr.clone()));
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) if self.is_own(addr) => {
                self.own.push_back(OwnAddress::Lost(addr.clone()));
            }
            FromSwarm::NewExternalAddrOfPeer(NewExternalAddrOfPeer { peer_id, addr }) => {
                self.hints.address(peer_id, addr);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                endpoint,
                ..
            }) => {
                let star = StarAddr::try_from(endpoint.get_remote_address()).is_ok();
                self.hints.attempt_ended(connection_id, star);
            }
            FromSwarm::DialFailure(DialFailure {
                connection_id,
                error,
                ..
            }) => self.attempt_failed(connection_id, error),
            _ => {}
        }
    }

    #[tracing::instrument(level = "trace", name = "NetworkBehaviour::poll", skip(self, cx))]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(own) = self.own.pop_front() {
            return Poll::Ready(match own {
                OwnAddress::Joined(address) => ToSwarm::ExternalAddrConfirmed(address),
                OwnAddress::Lost(address) => ToSwarm::ExternalAddrExpired(address),
            });
        }
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
            // The transport is gone: known addresses stay, and none is added.
            Poll::Ready(None) | Poll::Pending => {
                self.burst = 0;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
