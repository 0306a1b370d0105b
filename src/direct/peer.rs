//! A peer with a connection through a rendezvous, or with a direct one that came of such.

use std::{collections::HashMap, time::Duration};

use libp2p_ping as ping;
use libp2p_swarm::ConnectionId;
use multiaddr::Multiaddr;
use web_time::Instant;

use super::{back::Back, quiet::Quiet, upgrade::Upgrade};
use crate::activity::Seen;

/// How often a peer is looked at whose connections may change, and one that is only to answer pings.
pub(super) const SOON: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_millis(400);

#[derive(Default)]
pub(super) struct Peer {
    pub(super) stars: HashMap<ConnectionId, Upgrade>,
    pub(super) directs: HashMap<ConnectionId, Direct>,
    /// Where it was reached through a rendezvous last, and whether this node had dialled.
    pub(super) star: Option<(Multiaddr, bool)>,
    pub(super) back: Option<Back>,
    /// While there are connections of both kinds.
    quiet: Option<Quiet>,
}

/// A direct connection.
#[derive(Debug)]
pub(super) struct Direct {
    /// When the last ping was answered.
    answered: Instant,
    /// How long that took.
    took: Duration,
    /// It answers pings at all.
    proven: bool,
    /// The peer knows no pings.
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
            // The next one may be answered, and the deadline stands.
            Err(_) => {}
        }
    }

    /// Whether an answer is overdue: it may be so late, and twice as long as the last one took.
    pub(super) fn is_overdue(&self, now: Instant, late: Duration) -> bool {
        !self.silent && now.saturating_duration_since(self.answered) > late + 2 * self.took
    }

    fn is_well(&self) -> bool {
        self.proven || self.silent
    }
}

impl Peer {
    /// Looks from now on whether it is quiet, if there are connections of both kinds.
    pub(super) fn watch(&mut self, now: Instant) {
        self.quiet = (!self.stars.is_empty() && !self.directs.is_empty()).then(|| Quiet::new(now));
    }

    /// Whether there are connections of both kinds.
    pub(super) fn has_both(&self) -> bool {
        self.quiet.is_some()
    }

    /// For how long it has been quiet on the connections through rendezvous, and whether streams are open there, if a
    /// direct connection can take over.
    pub(super) fn quiet_for(
        &mut self,
        now: Instant,
        seen: Option<Seen>,
    ) -> Option<(Duration, bool)> {
        // All are asked, so that none tells later of what was long ago.
        let asked = self.stars.values().map(Upgrade::had_streams);
        let streams = asked.fold(false, |had, has| had | has);
        let well = self.directs.values().any(Direct::is_well);
        let quiet = self.quiet.as_mut()?.look(now, seen, streams);
        well.then_some((quiet, streams))
    }

    /// Takes out the direct connections whose answer is overdue. Closing them may take the system a long time.
    pub(super) fn take_overdue(&mut self, now: Instant, late: Duration) -> Vec<ConnectionId> {
        let overdue = self.directs.iter();
        let overdue = overdue.filter(|(_, direct)| direct.is_overdue(now, late));
        let overdue: Vec<ConnectionId> = overdue.map(|(id, _)| *id).collect();
        for id in &overdue {
            self.directs.remove(id);
        }
        overdue
    }

    /// Connections whose next handshake is due, unless there is a direct connection or a dial for one.
    pub(super) fn due(&self, now: Instant) -> Vec<ConnectionId> {
        if !self.directs.is_empty() || self.stars.values().any(|upgrade| upgrade.dialling) {
            return Vec::new();
        }
        let stars = self.stars.iter();
        let due = stars.filter(|(_, upgrade)| upgrade.next.is_some_and(|next| next <= now));
        due.map(|(id, _)| *id).collect()
    }

    /// The last direct connection has ended. Upgrades begin again after `until`.
    pub(super) fn direct_ended(&mut self, until: Instant) {
        self.quiet = None;
        for upgrade in self.stars.values_mut() {
            upgrade.wait_until(until);
        }
    }

    /// The swarm was not polled for a while: answers may be waiting.
    pub(super) fn forgive(&mut self, now: Instant) {
        for direct in self.directs.values_mut() {
            direct.answered = now;
        }
    }

    /// The last connection is lost: the peer is to be reached through its rendezvous again.
    pub(super) fn goes_back(&mut self, now: Instant) {
        if let Some((address, dialled)) = self.star.clone() {
            self.back = Some(Back::new(now, address, dialled));
        }
    }

    /// How soon there may be something to look at, if there is anything.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let upgrades = self.stars.values().any(|upgrade| upgrade.next.is_some());
        if self.quiet.is_some() || self.back.is_some() || upgrades {
            Some(SOON)
        } else {
            (!self.directs.is_empty()).then_some(LATER)
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.stars.is_empty() && self.directs.is_empty() && self.back.is_none()
    }
}
