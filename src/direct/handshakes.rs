//! The handshakes of upgrades, and the dials that result from them.

use libp2p_core::Endpoint;
use libp2p_dcutr as dcutr;
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionId, DialError, ToSwarm,
    dial_opts::{DialOpts, PeerCondition},
};
use multiaddr::Multiaddr;

use super::{
    Behaviour, Error, Event,
    handler::Command,
    upgrade::{Outcome, Upgrade},
};
use crate::runtime::now;

/// A dial of an upgrade.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) peer: PeerId,
    /// The connection that is being upgraded.
    pub(super) star: ConnectionId,
    /// The connection id under which dcutr knows the dial.
    id: ConnectionId,
    /// Set if some of the dial's addresses must not be dialled: the role at the transport, and the remaining addresses.
    pub(super) instead: Option<(Endpoint, Vec<Multiaddr>)>,
}

/// Some of the dial's addresses must not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the peer sent addresses that must not be dialled")]
pub(super) struct NotAll;

impl Behaviour {
    /// Begins an upgrade of an established connection.
    pub(super) fn begin(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        upgrade.next = upgrade.next.filter(|next| *next > now());
        let (endpoint, loopback) = (upgrade.endpoint.clone(), upgrade.loopback);
        let Some((dcutr, handler)) = self.begun(peer, id, &endpoint, loopback) else {
            return;
        };
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        upgrade.begin(dcutr, now());
        let handler = Box::new(handler);
        let command = match upgrade.leads() {
            true => Command::Lead(handler),
            false => Command::Follow(handler),
        };
        self.tell(peer, id, command);
    }

    pub(super) fn upgrade(&mut self, peer: PeerId, id: ConnectionId) -> Option<&mut Upgrade> {
        self.peers.get_mut(&peer)?.stars.get_mut(&id)
    }

    /// Notes that this node has learned an address. Upgrades that wait for an address begin, and upgrades that wait for
    /// the other node send it this address too.
    pub(super) fn learned(&mut self) {
        let now = now();
        let peers = self.peers.values_mut();
        let upgrades = peers.flat_map(|known| known.stars.values_mut());
        upgrades.for_each(|upgrade| upgrade.learned(now));
        if !self.peers.is_empty() {
            self.look_soon();
        }
    }

    /// Carries out the actions that the connection's dcutr requests.
    pub(super) fn grant(&mut self, peer: PeerId, id: ConnectionId) {
        while let Some(wish) = self.upgrade(peer, id).and_then(Upgrade::wish) {
            match wish {
                ToSwarm::Dial { opts } => self.dial(peer, id, opts),
                ToSwarm::NotifyHandler { event, .. } => {
                    self.tell(peer, id, Command::Inner(event));
                }
                ToSwarm::GenerateEvent(dcutr::Event {
                    result: Err(error), ..
                }) => {
                    tracing::debug!(%peer, %error, "an attempt at a direct connection has failed");
                    self.handshake_failed(peer, id);
                }
                // dcutr is not notified of successes, and requests nothing else.
                _ => {}
            }
        }
    }

    fn dial(&mut self, peer: PeerId, star: ConnectionId, opts: DialOpts) {
        let Some(upgrade) = self.upgrade(peer, star) else {
            return;
        };
        if !upgrade.may_dial(now()) {
            tracing::debug!(%peer, "not dialling: no dials are left, or a dial is in progress");
            return;
        }
        let id = opts.connection_id();
        self.order(opts, peer, star, id);
    }

    /// Makes the swarm dial for the upgrade of `star`. dcutr knows the dial as `id`.
    fn order(&mut self, opts: DialOpts, peer: PeerId, star: ConnectionId, id: ConnectionId) {
        let dial = Dial {
            peer,
            star,
            id,
            instead: None,
        };
        self.dials.insert(opts.connection_id(), dial);
        self.act(ToSwarm::Dial { opts });
    }

    /// Handles the failure of an upgrade's dial, or replaces a dial that was denied by one with other addresses.
    pub(super) fn dial_failed(&mut self, dial: Dial, error: &DialError) {
        let Dial { peer, star, id, .. } = dial;
        match dial.instead {
            Some((role, addresses)) if !addresses.is_empty() && self.is_dialling(peer, star) => {
                let opts = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addresses);
                let opts = match role {
                    Endpoint::Dialer => opts.build(),
                    Endpoint::Listener => opts.override_role().build(),
                };
                self.order(opts, peer, star, id);
            }
            None if matches!(error, DialError::Denied { .. }) => self.denied(peer, star),
            _ => {
                tracing::debug!(%peer, %error, "a dial for a direct connection has failed");
                if let Some(upgrade) = self.upgrade(peer, star) {
                    upgrade.dial_failed(peer, id, error);
                }
                self.grant(peer, star);
            }
        }
    }

    fn is_dialling(&mut self, peer: PeerId, star: ConnectionId) -> bool {
        self.upgrade(peer, star)
            .is_some_and(|upgrade| upgrade.dialling)
    }

    /// Notes that another behaviour refuses a connection that the peer has made. Our dials to this peer would be
    /// refused too.
    pub(super) fn refused(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else {
            return;
        };
        let stars = known.stars.iter();
        let dialling = stars.filter(|(_, upgrade)| upgrade.dialling);
        let dialling: Vec<_> = dialling.map(|(id, _)| *id).collect();
        for id in dialling {
            self.denied(peer, id);
        }
    }

    /// Gives up an upgrade because another behaviour refuses the direct connection, and would refuse it again.
    fn denied(&mut self, peer: PeerId, star: ConnectionId) {
        if self.upgrade(peer, star).is_some_and(Upgrade::give_up) {
            let error = Error::Denied;
            self.report(Event::Failed { peer, error });
        }
    }

    fn handshake_failed(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        let error = match upgrade.handshake_failed(now()) {
            Outcome::Dialled => Some(Error::Unreachable),
            Outcome::Over => Some(Error::NoPart),
            Outcome::Again => None,
        };
        if let Some(error) = error.filter(|error| upgrade.is_news(*error)) {
            self.report(Event::Failed { peer, error });
        }
        self.look_soon();
    }
}
