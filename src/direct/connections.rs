//! The connections of each peer, their handlers, and the effect of a new or closed connection on the others.

use std::time::Duration;

use either::Either;
use libp2p_core::ConnectedPoint;
use libp2p_dcutr as dcutr;
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionError, ConnectionId, NetworkBehaviour as _, NotifyHandler, THandler, ToSwarm,
    behaviour::ConnectionClosed, dummy,
};
use multiaddr::Protocol;

use super::{
    Behaviour, Event,
    back::is_loss,
    handler::{Command, Handler},
    peer::{Direct, Peer},
    probe,
    upgrade::{self, Upgrade},
};
use crate::{StarAddr, runtime::now};

/// The wait of [`Behaviour::crosses`].
const CROSSED: Duration = Duration::from_millis(500);

impl Behaviour {
    /// Creates the handler of a new connection.
    pub(super) fn handler(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) -> THandler<Self> {
        if let Some(star) = leads_to(endpoint) {
            // An upgrade that is delayed begins when the other node's handler is ready.
            let begun = match self.crosses(peer, endpoint) {
                Some(_) => None,
                None => self.begun(peer, id, endpoint, star.rendezvous().is_loopback()),
            };
            let handler = begun.map(|(dcutr, handler)| {
                self.starting.insert(id, dcutr);
                handler
            });
            return Either::Left(Handler::new(handler));
        }
        let probed = !endpoint.is_relayed() && self.peers.contains_key(&peer);
        Either::Right(if probed {
            let address = endpoint.get_remote_address();
            // This never fails.
            let handler = self
                .probes
                .handle_established_inbound_connection(id, peer, address, address);
            handler.map_or(Either::Right(dummy::ConnectionHandler), |ping| {
                Either::Left(probe::Handler::new(ping))
            })
        } else {
            Either::Right(dummy::ConnectionHandler)
        })
    }

    /// Returns how long this node waits before it leads an upgrade, if there is another connection through a rendezvous
    /// with the same peer, which may be upgraded in the meantime. If both nodes have dialled, each of them leads on one
    /// connection, and two simultaneous upgrades would disturb each other.
    fn crosses(&self, peer: PeerId, endpoint: &ConnectedPoint) -> Option<Duration> {
        let others = self
            .peers
            .get(&peer)
            .is_some_and(|known| !known.stars.is_empty());
        let wait = if self.local < peer {
            CROSSED
        } else {
            4 * CROSSED
        };
        (others && endpoint.is_listener()).then_some(wait)
    }

    /// Creates the dcutr of an upgrade and its handler. Returns `None` if no upgrade may begin now: because there is a
    /// direct connection, because there is no address to send, or because a recent loss delays it.
    pub(super) fn begun(
        &self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        loopback: bool,
    ) -> Option<(dcutr::Behaviour, THandler<dcutr::Behaviour>)> {
        let waits = self.losses.wait_for(&peer, now()).is_some();
        let direct = self.others.contains_key(&peer)
            || self
                .peers
                .get(&peer)
                .is_some_and(|known| !known.directs.is_empty());
        let candidates = self.candidates.to_tell(loopback);
        if waits || direct || candidates.is_empty() {
            return None;
        }
        upgrade::begin(self.local, (peer, id), endpoint, &candidates)
    }

    pub(super) fn established(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        if let Some(dial) = self.dials.remove(&id)
            && let Some(upgrade) = self.upgrade(dial.peer, dial.star)
        {
            upgrade.dialling = false;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.back = None;
        }
        if let Some(star) = leads_to(endpoint) {
            self.star_established(peer, id, endpoint, star);
        } else if !endpoint.is_relayed() {
            self.direct_established(peer, id);
        }
        self.forget_if_gone(peer);
    }

    fn star_established(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        star: StarAddr,
    ) {
        let mut upgrade = Upgrade::new(endpoint.clone(), star.rendezvous().is_loopback());
        let no_streams = upgrade.no_streams();
        match self.starting.remove(&id) {
            Some(dcutr) => upgrade.begin(dcutr, now()),
            None => {
                let crossed = self.crosses(peer, endpoint).map(|wait| now() + wait);
                let until = self.losses.wait_for(&peer, now()).max(crossed);
                if let Some(until) = until {
                    upgrade.wait_until(until);
                }
            }
        }
        let known = self.peers.entry(peer).or_default();
        let is_first = known.stars.is_empty();
        known.star = Some((star.to_multiaddr(), endpoint.is_dialer()));
        known.stars.insert(id, upgrade);
        known.watch(now());
        let direct = known.directs.keys().next().copied();
        self.tell(peer, id, Command::Watch(no_streams));
        if let Some(connection) = direct {
            self.tell_directs(peer, probe::Command::Keep);
            if is_first {
                self.report(Event::Connected { peer, connection });
            }
        }
        self.look_soon();
    }

    fn direct_established(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            self.others.entry(peer).or_default().insert(id);
            return;
        };
        let first = known.directs.is_empty();
        known.directs.insert(id, Direct::new(now()));
        known.watch(now());
        // An attempt in progress would only result in one more connection.
        known.stars.values_mut().for_each(Upgrade::succeeded);
        if known.stars.is_empty() {
            self.taken_over(peer);
        } else if first {
            tracing::debug!(%peer, "a direct connection is established");
            self.report(Event::Connected {
                peer,
                connection: id,
            });
        }
        self.look_soon();
    }

    /// Notes that the peer has only direct connections now.
    fn taken_over(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.watch(now());
        self.tell_directs(peer, probe::Command::TakenOver);
    }

    fn tell_directs(&mut self, peer_id: PeerId, command: probe::Command) {
        let Some(known) = self.peers.get(&peer_id) else {
            return;
        };
        let directs = known.directs.keys();
        self.actions
            .extend(directs.map(|id| ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(*id),
                event: Either::Right(Either::Left(command)),
            }));
    }

    pub(super) fn closed(&mut self, closed: &ConnectionClosed<'_>) {
        let (peer, id) = (closed.peer_id, closed.connection_id);
        self.other_closed(peer, id);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.stars.remove(&id).is_some() {
            if known.stars.is_empty() && !known.directs.is_empty() {
                tracing::debug!(%peer, "all traffic now uses the direct connection");
                self.taken_over(peer);
                self.report(Event::Upgraded { peer });
            }
        } else if let Some(direct) = known.directs.remove(&id)
            && known.directs.is_empty()
        {
            // Not all transports report a lost path with an error that can be distinguished from others.
            let unanswered = direct.is_overdue(now(), 2 * self.probe_interval);
            let lost = match closed.cause {
                Some(ConnectionError::IO(_)) => unanswered || is_loss(closed.cause),
                _ => false,
            };
            self.direct_ended(peer, lost, closed.remaining_established == 0);
        }
        self.forget_if_gone(peer);
    }

    /// Removes a closed connection from the direct connections that were there first. Upgrades can begin when the last
    /// of these has ended.
    fn other_closed(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(others) = self.others.get_mut(&peer) else {
            return;
        };
        others.remove(&id);
        if others.is_empty() {
            self.others.remove(&peer);
            if let Some(known) = self.peers.get_mut(&peer) {
                known
                    .stars
                    .values_mut()
                    .for_each(|upgrade| upgrade.learned(now()));
                self.look_soon();
            }
        }
    }

    pub(super) fn direct_ended(&mut self, peer: PeerId, lost: bool, alone: bool) {
        let now = now();
        // A direct connection that ends before it has taken over also counts, because the next one would probably end
        // in the same way.
        self.losses.add(peer, now);
        if lost {
            tracing::debug!(%peer, "the direct connection is lost");
            self.report(Event::Lost { peer });
        }
        let until = self.losses.wait_for(&peer, now).unwrap_or(now);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.directs.is_empty() {
            known.direct_ended(until);
        }
        if lost && alone {
            known.goes_back(now);
        }
        self.look_soon();
    }

    pub(super) fn forget_if_gone(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(Peer::is_gone) {
            self.peers.remove(&peer);
        }
    }
}

/// Returns the address at which to dial a peer that is connected through a rendezvous.
fn leads_to(endpoint: &ConnectedPoint) -> Option<StarAddr> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => StarAddr::try_from(address).ok(),
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => {
            let listener = StarAddr::try_from(local_addr).ok()?;
            match send_back_addr.iter().last() {
                Some(Protocol::P2p(peer)) => Some(listener.with_peer(peer)),
                _ => None,
            }
        }
    }
}
