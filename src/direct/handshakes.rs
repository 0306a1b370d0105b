//! Handshakes of upgrades, and the dials that come of them.

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
    /// The connection that is upgraded.
    pub(super) star: ConnectionId,
    /// What dcutr calls the dial.
    id: ConnectionId,
    /// The role at the transport, and what is left of the addresses, if some of them are not dialled.
    pub(super) instead: Option<(Endpoint, Vec<Multiaddr>)>,
}

/// The addresses of a dial are not all such as to be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the peer has told addresses that are not dialled")]
pub(super) struct NotAll;

impl Behaviour {
    /// Begins an upgrade of a connection that is there.
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

    /// This node has learned an address: upgrades that wait for one begin, and those that wait for the other node
    /// have it.
    pub(super) fn learned(&mut self) {
        let now = now();
        let peers = self.peers.values_mut();
        let upgrades = peers.flat_map(|known| known.stars.values_mut());
        upgrades.for_each(|upgrade| upgrade.learned(now));
        if !self.peers.is_empty() {
            self.look_soon();
        }
    }

    /// Does what the connection's dcutr wants.
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
                // It is not told of successes, and wants nothing else.
                _ => {}
            }
        }
    }

    fn dial(&mut self, peer: PeerId, star: ConnectionId, opts: DialOpts) {
        let Some(upgrade) = self.upgrade(peer, star) else {
            return;
        };
        if !upgrade.may_dial() {
            tracing::debug!(%peer, "no dials are left, or one is under way");
            if upgrade.leads() && upgrade.is_spent() && upgrade.give_up() {
                let error = Error::Unreachable;
                self.report(Event::Failed { peer, error });
            }
            return;
        }
        let id = opts.connection_id();
        self.order(opts, peer, star, id);
    }

    /// Has the swarm dial for the upgrade of `star`. dcutr knows the dial as `id`.
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

    /// A dial of an upgrade has failed, or was put aside for one with other addresses.
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
                tracing::debug!(%peer, %error, "the peer is not reached directly");
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

    /// Another behaviour refuses a connection that the peer has made. A dial to the same end comes to nothing, too.
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

    /// Another behaviour refuses a direct connection, and would again.
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
