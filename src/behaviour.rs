//! The transport's place in a libp2p swarm: the peers that it discovers, the addresses that it has.

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
    Discovery, Error, Event, StarAddr, hints::Hints, limited::Limited, runtime::now, words::Words,
};

/// How many discovery events the behaviour reports in a row. A swarm polls its connections and
/// listeners only when its behaviours have nothing to report.
const BURST: usize = 16;

/// Makes a swarm at home at its rendezvous.
///
/// * It reports an [`Event`] for every address of a peer that is discovered or has expired, and hands each
///   discovered address to the other behaviours as an external address of the peer. While an address is
///   known the swarm can dial the peer by its [`PeerId`] alone.
/// * It confirms each address that is joined as an external address of this node, and expires it with the
///   join: Kademlia then serves, relays and rendezvous points take registrations, without autonat, which has no say in
///   whether a rendezvous can be reached. [`with_external_addresses`](Self::with_external_addresses) turns that off.
/// * It tells the transport of what the swarm dials: under a DNS transport names of rendezvous are found again,
///   and a peer that an attempt would dial twice at one rendezvous, with and without `/p2p/<peer>`, is dialled once.
///
/// It opens no connections itself. It needs the tokio runtime, as the transport does.
///
/// When two nodes hear of each other and both dial, two connections come of it, and libp2p keeps both. Have
/// one of them dial: say, the one with the smaller [`PeerId`].
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
    /// Addresses of ours to be confirmed or expired; the listeners' events bound them.
    own: VecDeque<OwnAddress>,
    /// Reported and not expired; within the capacity of the discovery.
    known: BTreeSet<(PeerId, Multiaddr)>,
    /// Reported to the user and not yet to the other behaviours.
    learned: Option<(PeerId, Multiaddr)>,
    /// Discovery events since the swarm could last turn to something else.
    burst: usize,
    /// Warnings of dials that did not reach the transport: whoever announces addresses can cause them.
    not_reached: Limited,
}

#[derive(Debug)]
enum OwnAddress {
    Joined(Multiaddr),
    Lost(Multiaddr),
}

impl Behaviour {
    /// Reports what `discovery` hears of to the swarm of `local_peer`.
    ///
    /// # Errors
    /// [`Error::WrongKey`] if the transport was made with another key than the swarm. Peers would dial the one, find
    /// the other, and hang up.
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

    /// Of a transport that certainly has the swarm's key.
    pub(crate) fn of(discovery: Discovery) -> Self {
        Self {
            hints: discovery.hints(),
            discovery,
            external_addresses: true,
            own: VecDeque::new(),
            known: BTreeSet::new(),
            learned: None,
            burst: 0,
            not_reached: Limited::default(),
        }
    }

    /// Whether joined addresses are confirmed as external addresses of this node. Default on: whoever is at the
    /// rendezvous can reach it there.
    #[must_use]
    pub fn with_external_addresses(mut self, confirm: bool) -> Self {
        self.external_addresses = confirm;
        self
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
    /// Whether a listen address is one that this node has joined at a rendezvous, to be confirmed.
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
                "the dial did not reach the websocket-star transport: either the name cannot be resolved, or another transport \
                 takes every address, as a DNS transport does, and stands before it: put websocket-star first"
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
            // The transport is gone: what is known stays, and nothing is added.
            Poll::Ready(None) | Poll::Pending => {
                self.burst = 0;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
