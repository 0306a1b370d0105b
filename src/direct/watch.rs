//! The periodic checks: whether connections answer, whether they are quiet, and what is due.

use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionId, ToSwarm,
    dial_opts::{DialOpts, PeerCondition},
};
use web_time::Instant;

use super::{Behaviour, handler::Command};
use crate::runtime::now;

/// The number of grace periods for which a connection through a rendezvous must be quiet while streams are open on it.
const WITH_STREAMS: u32 = 4;
/// If the swarm was not polled for this long, answers may be waiting.
const STALLED: Duration = Duration::from_secs(1);

impl Behaviour {
    pub(super) fn look(&mut self) {
        let now = now();
        if self.tick.is_some_and(|tick| now > tick + STALLED) {
            self.peers.values_mut().for_each(|known| known.forgive(now));
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        // Checks below may ask for an earlier next check.
        self.tick = None;
        for peer in peers {
            let next = self.look_at(peer, now).map(|next| now + next);
            self.tick = [self.tick, next].into_iter().flatten().min();
            self.forget_if_gone(peer);
        }
    }

    /// Checks one peer. Returns the time until the next check, if one is needed.
    fn look_at(&mut self, peer: PeerId, now: Instant) -> Option<Duration> {
        self.give_up_overdue(peer, now);
        let known = self.peers.get_mut(&peer)?;
        let due = known.due(now);
        let back = known.back.as_mut().filter(|back| back.is_due(now));
        let back = back.map(|back| {
            let opts = DialOpts::peer_id(peer)
                // A connection that is being closed still counts as a connection.
                .condition(PeerCondition::NotDialing)
                .addresses(vec![back.address.clone()])
                .extend_addresses_through_behaviour()
                .build();
            back.dials(opts.connection_id());
            opts
        });
        let next = known.next_look();
        if known.has_both() {
            self.look_whether_quiet(peer, now);
        }
        if let Some(opts) = back {
            self.act(ToSwarm::Dial { opts });
        }
        for id in due {
            self.begin(peer, id);
        }
        next
    }

    /// Closes direct connections whose answer is overdue.
    fn give_up_overdue(&mut self, peer: PeerId, now: Instant) {
        let late = self.probe_interval + self.probe_timeout;
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let overdue = known.take_overdue(now, late);
        let ended = !overdue.is_empty() && known.directs.is_empty();
        let alone = known.stars.is_empty();
        for id in overdue {
            self.close(peer, id);
        }
        if ended {
            self.direct_ended(peer, true, alone);
        }
    }

    /// Closes the peer's connections through rendezvous if they have been quiet for long enough.
    fn look_whether_quiet(&mut self, peer: PeerId, now: Instant) {
        let seen = self.activity.look(&peer);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let stars: Vec<ConnectionId> = known.stars.keys().copied().collect();
        let Some((quiet, streams)) = known.quiet_for(now, seen) else {
            return;
        };
        let enough = match streams {
            true => self.grace_period.saturating_mul(WITH_STREAMS),
            false => self.grace_period,
        };
        for id in stars {
            if quiet >= enough {
                self.close(peer, id);
            } else {
                self.tell(peer, id, Command::Look);
            }
        }
    }

    /// Notes that another behaviour's dial, or a dial of the return to a rendezvous, has failed.
    pub(super) fn other_dial_failed(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(known) = self.peers.get_mut(&peer)
            && let Some(back) = known.back.as_mut()
            && back.dialling == Some(id)
            && !back.failed(now())
        {
            known.back = None;
            self.forget_if_gone(peer);
        }
    }
}
