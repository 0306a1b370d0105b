//! A wrapper that hides websocket-star addresses from another behaviour.

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll},
};

use libp2p_core::{ConnectedPoint, Endpoint, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
    behaviour::{ConnectionClosed, ConnectionEstablished, ExpiredListenAddr, NewListenAddr},
};
use multiaddr::{Multiaddr, Protocol};

use crate::words::Words;

/// Wraps a behaviour, in practice `identify::Behaviour`, and discards the addresses that it observes through a
/// rendezvous.
///
/// identify treats the address at which a peer sees this node as a candidate for one of its own addresses. It combines
/// the observed host with the ports of its TCP listeners. Through a rendezvous, both are wrong: a peer sees the host
/// and port of the rendezvous, and a listener at a rendezvous has the port of the rendezvous, not one of this node's.
/// The resulting candidates have no listener, but autonat probes them and dcutr dials them.
///
/// The guard does not pass on listen addresses at rendezvous, nor those of circuits whose relay is reached there.
/// (identify still advertises them to peers, because the [`Behaviour`](crate::Behaviour) and the relay client confirm
/// them as external addresses.) The guard drops candidates that come from connections through a rendezvous. It passes
/// on everything else.
///
/// ```
/// use libp2p::{identify, swarm::NetworkBehaviour};
/// use libp2p_websocket_star as star;
///
/// #[derive(NetworkBehaviour)]
/// struct Node {
///     star: star::Behaviour,
///     identify: star::AddressGuard<identify::Behaviour>,
/// }
/// ```
#[derive(Debug)]
pub struct AddressGuard<B: NetworkBehaviour> {
    inner: B,
    /// The connections that go through a rendezvous.
    star: HashSet<ConnectionId>,
    /// Events from handlers that `inner` has not received yet. They are passed on one at a time, so that the next
    /// action of `inner` can be attributed to the last event. The swarm polls this behaviour before it asks handlers
    /// for more.
    heard: VecDeque<(PeerId, ConnectionId, THandlerOutEvent<B>)>,
    /// Whether the event that `inner` is processing came through a rendezvous.
    through_star: bool,
}

impl<B: NetworkBehaviour> AddressGuard<B> {
    /// Creates a guard around `inner`.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            star: HashSet::new(),
            heard: VecDeque::new(),
            through_star: false,
        }
    }

    /// Returns the guarded behaviour.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// Returns the guarded behaviour for changes, for example to push with identify.
    pub fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> AddressGuard<B> {
    /// Passes on all waiting events of a connection. After its end, `inner` must receive no event of it.
    fn hear_all_of(&mut self, connection: ConnectionId) {
        let heard = std::mem::take(&mut self.heard);
        for (peer, id, event) in heard {
            if id == connection {
                self.through_star |= self.star.contains(&id);
                self.inner.on_connection_handler_event(peer, id, event);
            } else {
                self.heard.push_back((peer, id, event));
            }
        }
    }
}

/// Returns whether a connection goes through a rendezvous. For an incoming connection, the local address decides.
fn is_star(endpoint: &ConnectedPoint) -> bool {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => leads_through_star(address),
        ConnectedPoint::Listener { local_addr, .. } => leads_through_star(local_addr),
    }
}

/// Returns whether the address contains a rendezvous. This includes circuits whose relay is reached at a rendezvous.
fn leads_through_star(address: &Multiaddr) -> bool {
    address
        .iter()
        .any(|part| part == Protocol::P2pWebSocketStar)
}

impl<B: NetworkBehaviour> NetworkBehaviour for AddressGuard<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner
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
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. })
            | FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. })
                if leads_through_star(addr) =>
            {
                return;
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                endpoint,
                ..
            }) if is_star(endpoint) => {
                self.star.insert(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.hear_all_of(connection_id);
                self.star.remove(&connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.heard.push_back((peer, id, event));
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::NewExternalAddrCandidate(address)) if self.through_star => {
                    tracing::debug!(address = %Words(&address), "an address observed through a rendezvous is not a candidate");
                }
                Poll::Ready(action) => return Poll::Ready(action),
                Poll::Pending => {
                    let Some((peer, id, event)) = self.heard.pop_front() else {
                        self.through_star = false;
                        return Poll::Pending;
                    };
                    self.through_star = self.star.contains(&id);
                    self.inner.on_connection_handler_event(peer, id, event);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use libp2p_core::transport::ListenerId;
    use libp2p_swarm::dummy;

    use super::*;

    /// Records the listen addresses that it receives.
    #[derive(Default)]
    struct Told(Vec<Multiaddr>);

    impl NetworkBehaviour for Told {
        type ConnectionHandler = dummy::ConnectionHandler;
        type ToSwarm = Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
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
            if let FromSwarm::NewListenAddr(NewListenAddr { addr, .. })
            | FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) = event
            {
                self.0.push(addr.clone());
            }
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
            Poll::Pending
        }
    }

    /// identify treats each listen address as one with a TCP port of this host.
    #[test]
    fn listen_addresses_that_lead_through_a_rendezvous_are_not_told() {
        let peer = PeerId::random();
        let tcp = "/ip4/127.0.0.1/tcp/4001";
        let star = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
        for (text, told) in [
            (tcp.to_owned(), true),
            (format!("{tcp}/p2p/{peer}/p2p-circuit/p2p/{peer}"), true),
            (format!("{star}/p2p/{peer}"), false),
            (format!("{star}/p2p/{peer}/p2p-circuit/p2p/{peer}"), false),
        ] {
            let addr: Multiaddr = text.parse().expect("a multiaddr");
            let (listener_id, addr) = (ListenerId::next(), &addr);
            let mut guard = AddressGuard::new(Told::default());
            guard.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id,
                addr,
            }));
            guard.on_swarm_event(FromSwarm::ExpiredListenAddr(ExpiredListenAddr {
                listener_id,
                addr,
            }));
            let expected = if told { vec![addr.clone(); 2] } else { vec![] };
            assert_eq!(guard.get_ref().0, expected, "{addr}");
        }
    }
}
