//! A peer with a connection through a rendezvous, or with a direct one that resulted from it.

use std::{collections::HashMap, time::Duration};

use libp2p_ping as ping;
use libp2p_swarm::ConnectionId;
use multiaddr::Multiaddr;
use web_time::Instant;

use super::{back::Back, quiet::Quiet, upgrade::Upgrade};
use crate::activity::Seen;

/// The check interval of a peer whose connections may change, and of a peer that only has to answer pings.
pub(super) const SOON: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_millis(400);

#[derive(Default)]
pub(super) struct Peer {
    pub(super) stars: HashMap<ConnectionId, Upgrade>,
    pub(super) directs: HashMap<ConnectionId, Direct>,
    /// The address at which it was last reached through a rendezvous, and whether this node had dialled.
    pub(super) star: Option<(Multiaddr, bool)>,
    pub(super) back: Option<Back>,
    /// Set while there are connections of both kinds.
    quiet: Option<Quiet>,
}

/// A direct connection.
#[derive(Debug)]
pub(super) struct Direct {
    /// The time of the last answer to a ping.
    answered: Instant,
    /// The time that this answer took.
    took: Duration,
    /// Whether a ping was ever answered.
    proven: bool,
    /// Whether the peer does not support the pings.
    silent: bool,
}

impl Direct {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answered: now,
            took: Duration::ZERO,
            proven: false,
            silent: false,
        }
    }

    pub(super) fn heard(&mut self, now: Instant, answer: &Result<Duration, ping::Failure>) {
        match answer {
            Ok(took) => {
                self.answered = now;
                self.took = *took;
                self.proven = true;
            }
            Err(ping::Failure::Unsupported) => self.silent = true,
            // The next ping may be answered. The deadline still applies.
            Err(_) => {}
        }
    }

    /// Returns whether an answer is overdue. It may come `late` after the last one, plus twice the time that the last
    /// one took.
    pub(super) fn is_overdue(&self, now: Instant, late: Duration) -> bool {
        !self.silent && now.saturating_duration_since(self.answered) > late + 2 * self.took
    }

    fn is_well(&self) -> bool {
        self.proven || self.silent
    }
}

impl Peer {
    /// Starts to measure how long the peer is quiet, if there are connections of both kinds.
    pub(super) fn watch(&mut self, now: Instant) {
        self.quiet = (!self.stars.is_empty() && !self.directs.is_empty()).then(|| Quiet::new(now));
    }

    /// Returns whether there are connections of both kinds.
    pub(super) fn has_both(&self) -> bool {
        self.quiet.is_some()
    }

    /// Returns how long the connections through rendezvous have been quiet, and whether streams are open there. `None`
    /// if no direct connection can take over.
    pub(super) fn quiet_for(
        &mut self,
        now: Instant,
        seen: Option<Seen>,
    ) -> Option<(Duration, bool)> {
        // Every connection is asked, because asking resets its flag. Otherwise the next check would see old values.
        let asked = self.stars.values().map(Upgrade::had_streams);
        let streams = asked.fold(false, |had, has| had | has);
        let well = self.directs.values().any(Direct::is_well);
        let quiet = self.quiet.as_mut()?.look(now, seen, streams);
        well.then_some((quiet, streams))
    }

    /// Removes and returns the direct connections whose answer is overdue. The system may take a long time to close
    /// them.
    pub(super) fn take_overdue(&mut self, now: Instant, late: Duration) -> Vec<ConnectionId> {
        let overdue = self.directs.iter();
        let overdue = overdue.filter(|(_, direct)| direct.is_overdue(now, late));
        let overdue: Vec<ConnectionId> = overdue.map(|(id, _)| *id).collect();
        for id in &overdue {
            self.directs.remove(id);
        }
        overdue
    }

    /// Returns the connections whose next handshake is due. Returns none if there is a direct connection or a pending
    /// dial for one.
    pub(super) fn due(&self, now: Instant) -> Vec<ConnectionId> {
        if !self.directs.is_empty() || self.stars.values().any(|upgrade| upgrade.dialling) {
            return Vec::new();
        }
        let stars = self.stars.iter();
        let due = stars.filter(|(_, upgrade)| upgrade.next.is_some_and(|next| next <= now));
        due.map(|(id, _)| *id).collect()
    }

    /// Notes that the last direct connection has ended. Upgrades begin again after `until`.
    pub(super) fn direct_ended(&mut self, until: Instant) {
        self.quiet = None;
        for upgrade in self.stars.values_mut() {
            upgrade.wait_until(until);
        }
    }

    /// Resets the deadlines. The swarm was not polled for a while, so answers may be waiting.
    pub(super) fn forgive(&mut self, now: Instant) {
        for direct in self.directs.values_mut() {
            direct.answered = now;
        }
    }

    /// Starts to reach the peer through its rendezvous again, after the last connection was lost.
    pub(super) fn goes_back(&mut self, now: Instant) {
        if let Some((address, dialled)) = self.star.clone() {
            self.back = Some(Back::new(now, address, dialled));
        }
    }

    /// Returns the time until the next check, or `None` if no check is needed.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let upgrades = self.stars.values().any(|upgrade| upgrade.next.is_some());
        if self.quiet.is_some() || self.back.is_some() || upgrades {
            Some(SOON)
        } else {
            (!self.directs.is_empty()).then_some(LATER)
        }
    }

    /// Returns whether there are no connections with the peer, and no attempts at one.
    pub(super) fn is_gone(&self) -> bool {
        self.stars.is_empty() && self.directs.is_empty() && self.back.is_none()
    }
}
