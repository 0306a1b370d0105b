//! Round trips to many peers, each over a connection that is closed after one ping. Strangers pay for them too: few are
//! dialled at once, and none often.

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

/// Peers that are dialled or pinged at once.
const AT_ONCE: usize = 16;
/// How long after one measurement the next of a peer may begin.
const AGAIN: Duration = Duration::from_secs(60);

/// A round trip, or why there is none.
pub type Measured = (PeerId, Result<Duration, String>);

/// Who is to be measured, and is measured now.
pub struct Measures {
    wanted: bool,
    timeout: Duration,
    /// Where they are. In the queue, under way, or waiting to be measured again: known in any case.
    addresses: HashMap<PeerId, Multiaddr>,
    /// When each is due, in this order.
    queue: VecDeque<(Instant, PeerId)>,
    queued: BTreeSet<PeerId>,
    running: HashMap<ConnectionId, Running>,
    /// Peers that were never measured, and are known.
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
            // A dial, and a ping.
            timeout: timeout * 2,
            addresses: HashMap::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            running: HashMap::new(),
            unmeasured: BTreeSet::new(),
        }
    }

    /// Has a peer measured.
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

    /// Leaves a peer alone.
    pub fn remove(&mut self, peer: &PeerId) {
        self.addresses.remove(peer);
        self.unmeasured.remove(peer);
    }

    /// Whether everybody who is known was measured once.
    pub fn are_done(&self) -> bool {
        self.unmeasured.is_empty()
    }

    /// Dials whom it may dial now. Gives those who cannot be dialled at all.
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

    /// Those who have not answered in time.
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

    /// What an event tells of a measurement.
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

    /// Has the peer of a measurement measured again later.
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
        ping::Failure::Unsupported => "it answers no pings".to_owned(),
        ping::Failure::Timeout => "no answer in time".to_owned(),
        ping::Failure::Other { error } => crate::output::words(&error.to_string()),
    }
}
