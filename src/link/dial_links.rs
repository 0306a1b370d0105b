//! Links that only dials ask for: their maximum number, and the pace at which they are opened.
//!
//! Strangers also provide addresses to dial, through identify or Kademlia. Without a limit, one peer with many
//! addresses could make a node open as many links, to hosts of the peer's choice. The application chose the rendezvous
//! at which we listen, so these are not counted.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use libp2p_core::transport::ListenerId;
use libp2p_identity::PeerId;
use web_time::Instant;

use crate::{address::Rendezvous, sync::lock};

/// The time between two links to rendezvous that are new to us.
const PACE: Duration = Duration::from_secs(1);
/// The time for which a link without a connection keeps its place. A join and a dial take a few round trips.
const GRACE: Duration = Duration::from_secs(5);

/// The rendezvous at which we listen, or are about to listen.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<Vec<(ListenerId, Rendezvous)>>);

impl Listening {
    pub(super) fn add(&self, listener: ListenerId, rendezvous: &Rendezvous) {
        lock(&self.0).push((listener, rendezvous.clone()));
    }

    pub(super) fn remove(&self, listener: ListenerId) {
        lock(&self.0).retain(|(known, _)| *known != listener);
    }

    pub(super) fn at(&self, rendezvous: &Rendezvous) -> bool {
        lock(&self.0).iter().any(|(_, at)| at == rendezvous)
    }
}

/// The facts that decide whether a link gives way to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// The time since which `connected` has its present value. `None` means a long time ago.
    since: Option<Instant>,
    /// Whether any connection to a peer uses the link.
    connected: bool,
    /// The host to which the link leads.
    host: Option<IpAddr>,
}

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: Some(now),
            ..Self::default()
        }
    }

    /// Records that the link is open and leads to this host.
    pub(super) fn leads_to(&mut self, host: Option<IpAddr>) {
        self.host = host;
    }

    /// Records whether connections to peers use the link.
    pub(super) fn connected(&mut self, connected: bool, now: Instant) {
        if self.connected != connected {
            self.connected = connected;
            self.since = Some(now);
        }
    }

    /// Returns the network of one owner: an IPv4 address, or the /64 of an IPv6 address.
    fn network(&self) -> Option<IpAddr> {
        match self.host?.to_canonical() {
            IpAddr::V4(ip) => Some(ip.into()),
            IpAddr::V6(ip) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        }
    }
}

/// A link that only dials have asked for.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) rendezvous: Rendezvous,
    pub(super) standing: Standing,
}

/// Returns the link that gives way when all places are taken.
///
/// The first choice is the link that has been without a connection for the longest time, if that is at least [`GRACE`].
/// The second choice is a link to the network with the most connected links, if that network has more than one: the
/// link that has been connected for the longest time. A name costs nothing, so only one place per network is safe. The
/// links whose host is unknown here, in a browser or through a proxy, count as one network.
pub(super) fn gives_way(open: &[Open], now: Instant) -> Option<&Rendezvous> {
    let has_had_its_time = |link: &&Open| {
        let since = link.standing.since;
        since.is_none_or(|since| now.saturating_duration_since(since) >= GRACE)
    };
    let idle = open.iter().filter(|link| !link.standing.connected);
    let idle = idle.filter(has_had_its_time);
    if let Some(link) = idle.min_by_key(|link| link.standing.since) {
        return Some(&link.rendezvous);
    }
    let crowd = |link: &Open| {
        let network = link.standing.network();
        let same = open
            .iter()
            .filter(|other| other.standing.connected && other.standing.network() == network);
        same.count()
    };
    let connected = open.iter().filter(|link| link.standing.connected);
    let crowded = connected.map(|link| (crowd(link), link));
    let crowded = crowded.filter(|(crowd, _)| *crowd > 1);
    let (_, link) = crowded.min_by_key(|(crowd, link)| (Reverse(*crowd), link.standing.since))?;
    Some(&link.rendezvous)
}

/// The dials that wait for a link of their own. No clock: `now` is passed in.
///
/// Turns are fair among the dialled peers: the first turn of each peer goes before the second turn of any peer. One
/// peer can have any number of addresses.
#[derive(Debug, Default)]
pub(super) struct DialLinks {
    /// The maximum number of links, including those that dials wait for.
    most: usize,
    waiting: Vec<Turn>,
    next_id: u64,
    /// The rendezvous of the last links, and the time (`last`) of the last link to one that was not among them. A link
    /// back to one of them is not new.
    latest: VecDeque<Rendezvous>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Turn {
    id: u64,
    rendezvous: Rendezvous,
    /// The peer for which the turn was taken.
    peer: Option<PeerId>,
    at: Instant,
    dials: usize,
}

impl DialLinks {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Takes a place for a dial to `peer` while `open` links are open, and returns the id of its [turn](Self::turn).
    /// Returns `None` if there is no place. The caller must [leave](Self::leave) each place that it has taken.
    pub(super) fn take_place(
        &mut self,
        rendezvous: &Rendezvous,
        peer: Option<PeerId>,
        open: usize,
        now: Instant,
    ) -> Option<u64> {
        if let Some(n) = self
            .waiting
            .iter()
            .position(|t| t.rendezvous == *rendezvous)
        {
            return self.join_turn(n, peer, now);
        }
        if open + self.waiting.len() >= self.most {
            return None;
        }
        let at = match self.latest.contains(rendezvous) {
            true => now,
            false => self.next_turn(now),
        };
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push(Turn {
            id,
            rendezvous: rendezvous.clone(),
            peer,
            at,
            dials: 1,
        });
        self.bring_forward(self.waiting.len() - 1, now);
        Some(id)
    }

    /// Adds a dial to a turn for the same rendezvous. The turn may become earlier through this, so that this dial is
    /// not later than with a turn of its own.
    fn join_turn(&mut self, n: usize, peer: Option<PeerId>, now: Instant) -> Option<u64> {
        let (rank, own) = (self.rank(n), self.turns_of(peer));
        let turn = self.waiting.get_mut(n)?;
        turn.dials += 1;
        let id = turn.id;
        if own < rank {
            turn.peer = peer;
            self.bring_forward(n, now);
        }
        Some(id)
    }

    /// Takes the place of a waiting dial to another peer, whose turn would come later than a turn for this dial.
    pub(super) fn displace(
        &mut self,
        rendezvous: &Rendezvous,
        peer: Option<PeerId>,
        now: Instant,
    ) -> Option<u64> {
        let own = self.turns_of(peer);
        let turns = (0..self.waiting.len()).filter(|n| self.waiting[*n].at > now);
        let (rank, last) = turns.map(|n| (self.rank(n), n)).max()?;
        if rank <= own {
            return None;
        }
        self.waiting.remove(last);
        let open = self.most.saturating_sub(self.waiting.len() + 1);
        self.take_place(rendezvous, peer, open, now)
    }

    /// Returns the time at which the link of a place may be opened; `None` if another dial has taken the place.
    pub(super) fn turn(&self, id: u64) -> Option<Instant> {
        let turn = self.waiting.iter().find(|turn| turn.id == id);
        turn.map(|turn| turn.at)
    }

    fn turns_of(&self, peer: Option<PeerId>) -> usize {
        self.waiting.iter().filter(|turn| turn.peer == peer).count()
    }

    /// Returns the number of turns that the same peer has before turn `n`.
    fn rank(&self, n: usize) -> usize {
        let (before, rest) = self.waiting.split_at(n);
        let peer = rest.first().and_then(|turn| turn.peer);
        before.iter().filter(|turn| turn.peer == peer).count()
    }

    /// Moves a turn before the later turns of other peers. Each of these moves to the time of the next one. No other
    /// turn becomes earlier, because its dials already wait for its time.
    fn bring_forward(&mut self, n: usize, now: Instant) {
        let (rank, mut at) = (self.rank(n), self.waiting[n].at);
        let ahead =
            |m: &usize| (now..at).contains(&self.waiting[*m].at) && self.waiting[*m].at > now;
        let turns = (0..self.waiting.len()).filter(ahead);
        let mut passed: Vec<_> = turns.filter(|m| self.rank(*m) > rank).collect();
        passed.sort_unstable_by_key(|m| Reverse(self.waiting[*m].at));
        for m in passed {
            std::mem::swap(&mut at, &mut self.waiting[m].at);
        }
        self.waiting[n].at = at;
    }

    /// Returns the first time that has the distance [`PACE`] from all others.
    fn next_turn(&self, now: Instant) -> Instant {
        let mut next = self.last.map_or(now, |last| now.max(last + PACE));
        let mut taken: Vec<_> = self.waiting.iter().map(|turn| turn.at).collect();
        taken.sort_unstable();
        for at in taken {
            if at + PACE > next && next + PACE > at {
                next = at + PACE;
            }
        }
        next
    }

    /// Removes a dial that had taken a place and does not wait any more.
    pub(super) fn leave(&mut self, id: u64) {
        for turn in self.waiting.iter_mut().filter(|turn| turn.id == id) {
            turn.dials -= 1;
        }
        self.waiting.retain(|turn| turn.dials > 0);
    }

    /// Records that a link is opened for a dial.
    pub(super) fn opened(&mut self, rendezvous: &Rendezvous, now: Instant) {
        match self.latest.iter().position(|known| known == rendezvous) {
            Some(known) => drop(self.latest.remove(known)),
            None => self.last = Some(now),
        }
        self.latest.push_front(rendezvous.clone());
        self.latest.truncate(self.most);
    }
}

#[cfg(test)]
#[path = "dial_links_tests.rs"]
mod tests;
