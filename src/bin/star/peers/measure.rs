//! Measures round trips to many peers, each over a connection that is closed after one ping. This costs strangers
//! something, too, so few peers are dialled at once, and none of them often.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p_identity::PeerId;
use libp2p_ping as ping;
use libp2p_swarm::{
    ConnectionId, SwarmEvent,
    dial_opts::{DialOpts, PeerCondition},
};
use multiaddr::Multiaddr;

use crate::node::{BehaviourEvent, Event, Node, dial_error, of_end};

/// The number of peers that are dialled or pinged at once.
const AT_ONCE: usize = 16;
/// The time from one measurement of a peer to the next.
const AGAIN: Duration = Duration::from_secs(60);

/// A peer, with its round trip or the reason why there is none.
pub type Measured = (PeerId, Result<Duration, String>);

/// The peers to measure, and the measurements under way.
pub struct Measures {
    wanted: bool,
    timeout: Duration,
    /// The addresses of all known peers, whether they are queued, being measured, or waiting for the next measurement.
    addresses: HashMap<PeerId, Multiaddr>,
    /// The peers to measure, with the time at which each is due, in this order.
    queue: VecDeque<(Instant, PeerId)>,
    queued: BTreeSet<PeerId>,
    running: HashMap<ConnectionId, Running>,
    /// Known peers that have not been measured since they were added.
    unmeasured: BTreeSet<PeerId>,
}

struct Running {
    peer: PeerId,
    until: Instant,
}

impl Measures {
    pub fn new(wanted: bool, timeout: Duration) -> Self {
        Self {
            wanted,
            // For a dial and a ping.
            timeout: timeout * 2,
            addresses: HashMap::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            running: HashMap::new(),
            unmeasured: BTreeSet::new(),
        }
    }

    /// Adds a peer to measure.
    pub fn add(&mut self, peer: PeerId, address: &Multiaddr) {
        if !self.wanted {
            return;
        }
        self.addresses.insert(peer, address.clone());
        self.unmeasured.insert(peer);
        let is_running = self.running.values().any(|running| running.peer == peer);
        if !is_running && self.queued.insert(peer) {
            self.queue.push_front((Instant::now(), peer));
        }
    }

    /// Stops measuring a peer.
    pub fn remove(&mut self, peer: &PeerId) {
        self.addresses.remove(peer);
        self.unmeasured.remove(peer);
    }

    /// Returns whether all known peers have been measured once.
    pub fn are_done(&self) -> bool {
        self.unmeasured.is_empty()
    }

    /// Dials the peers that are due, as far as the limit allows. Returns those that cannot be dialled at all.
    pub fn begin(&mut self, node: &mut Node, now: Instant) -> Vec<(PeerId, String)> {
        let mut failed = Vec::new();
        while self.running.len() < AT_ONCE {
            let due = self.queue.front().filter(|(due, _)| *due <= now);
            let Some(&(_, peer)) = due else {
                break;
            };
            self.queue.pop_front();
            self.queued.remove(&peer);
            let Some(address) = self.addresses.get(&peer) else {
                continue;
            };
            let opts = DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![address.clone()])
                .build();
            let until = now + self.timeout;
            let id = opts.connection_id();
            self.running.insert(id, Running { peer, until });
            if let Err(error) = node.swarm.dial(opts) {
                self.ended(id);
                failed.push((peer, dial_error(&error)));
            }
        }
        failed
    }

    /// Ends the measurements that take too long, and returns their peers.
    pub fn overdue(&mut self, now: Instant) -> Vec<(PeerId, String)> {
        let late = self
            .running
            .iter()
            .filter(|(_, running)| running.until <= now);
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        let ended = late.iter().filter_map(|id| self.ended(*id));
        ended
            .map(|peer| (peer, "no answer in time".to_owned()))
            .collect()
    }

    /// Handles an event, and returns the measurement that it ends, if any.
    pub fn event(&mut self, event: Event, node: &mut Node) -> Option<Measured> {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => {
                let peer = self.ended(event.connection)?;
                node.swarm.close_connection(event.connection);
                Some((peer, event.result.map_err(|error| of_ping(&error))))
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => Some((self.ended(connection_id)?, Err(dial_error(&error)))),
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => Some((self.ended(connection_id)?, Err(of_end(cause.as_ref())))),
            _ => None,
        }
    }

    /// Ends a measurement, and queues its peer for the next one.
    fn ended(&mut self, id: ConnectionId) -> Option<PeerId> {
        let Running { peer, .. } = self.running.remove(&id)?;
        self.unmeasured.remove(&peer);
        if self.addresses.contains_key(&peer) && self.queued.insert(peer) {
            self.queue.push_back((Instant::now() + AGAIN, peer));
        }
        Some(peer)
    }
}

fn of_ping(error: &ping::Failure) -> String {
    match error {
        ping::Failure::Unsupported => "the peer does not answer pings".to_owned(),
        ping::Failure::Timeout => "no answer in time".to_owned(),
        ping::Failure::Other { error } => crate::output::words(&error.to_string()),
    }
}
