//! What the [`Behaviour`](crate::Behaviour) tells the transport about its swarm.
//!
//! A transport sees single addresses, after other transports have changed them. The behaviour sees them before that,
//! and knows which addresses belong to one attempt to reach a peer. Without a behaviour there are no hints, and the
//! transport treats every dial separately.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    channel::oneshot,
    future::{FutureExt as _, Shared},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionId, PeerAddresses};
use multiaddr::Multiaddr;

use crate::{
    address::{Rendezvous, StarAddr},
    error::Error,
};

/// The number of peers for which rendezvous names are remembered: more than a swarm dials before it processes the first
/// one again. Each peer has up to ten.
const NAMED_PEERS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// The maximum number of counted attempts. A swarm reports the end of every attempt; this bound is only a safeguard.
const MAX_ATTEMPTS: usize = 65_536;

/// The hints for one transport.
#[derive(Default)]
pub(crate) struct Hints(Mutex<State>);

struct State {
    /// Addresses whose rendezvous has a name.
    named: PeerAddresses,
    attempts: HashMap<ConnectionId, PeerId>,
    pending: HashMap<PeerId, Pending>,
    dials: HashMap<PeerId, Vec<Dial>>,
    next_dial: u64,
}

/// The pending attempts to reach one peer.
#[derive(Debug, Default)]
struct Pending {
    attempts: usize,
    /// Whether the transport was asked to dial the peer during these attempts.
    asked: bool,
}

/// A dial that belongs to an attempt.
#[derive(Debug)]
struct Dial {
    id: u64,
    rendezvous: Rendezvous,
    /// Whether there is a connection, which is being secured and multiplexed.
    connected: bool,
    outcome: Option<oneshot::Sender<Error>>,
    over: Over,
}

/// Resolves when a dial is over: with its error if it failed, and with `Canceled` if the next dial may try.
pub(crate) type Over = Shared<oneshot::Receiver<Error>>;

impl Default for State {
    fn default() -> Self {
        Self {
            named: PeerAddresses::new(NAMED_PEERS),
            attempts: HashMap::new(),
            pending: HashMap::new(),
            dials: HashMap::new(),
            next_dial: 0,
        }
    }
}

/// The methods for the behaviour.
impl Hints {
    /// Notes that the swarm knows `peer` at `address`, or is about to dial it there.
    pub(crate) fn address(&self, peer: PeerId, address: &Multiaddr) {
        if let Ok(addr) = StarAddr::try_from(address)
            && addr.rendezvous().server_name().is_some()
        {
            self.lock().named.add(peer, address.clone());
        }
    }

    /// Notes that the swarm begins to dial `peer`, at one or several addresses.
    pub(crate) fn attempt_began(&self, id: ConnectionId, peer: PeerId) {
        let state = &mut *self.lock();
        if state.attempts.len() < MAX_ATTEMPTS && state.attempts.insert(id, peer).is_none() {
            state.pending.entry(peer).or_default().attempts += 1;
        }
    }

    /// Notes that an attempt is over. `connected` says whether it ended with a connection through a rendezvous. Returns
    /// whether the transport was asked to dial the peer.
    pub(crate) fn attempt_ended(&self, id: ConnectionId, connected: bool) -> Option<bool> {
        let state = &mut *self.lock();
        let peer = state.attempts.remove(&id)?;
        let pending = state.pending.get_mut(&peer)?;
        let asked = pending.asked;
        pending.attempts = pending.attempts.saturating_sub(1);
        if pending.attempts == 0 {
            state.pending.remove(&peer);
        }
        let dial = state.dials.get_mut(&peer).and_then(|dials| {
            let done = dials.iter().position(|dial| dial.connected)?;
            connected.then(|| dials.remove(done))
        });
        state.forget_if_empty(&peer);
        drop(dial);
        Some(asked)
    }
}

/// The methods for the transport.
impl Hints {
    /// Notes that the transport is asked to dial `peer`.
    pub(crate) fn asked(&self, peer: &PeerId) {
        if let Some(pending) = self.lock().pending.get_mut(peer) {
            pending.asked = true;
        }
    }

    /// Returns the rendezvous with names at which `peer` is said to be.
    pub(crate) fn names(&self, peer: &PeerId) -> Vec<Rendezvous> {
        let mut state = self.lock();
        let mut seen = HashSet::new();
        let addresses = state.named.get(peer);
        addresses
            .filter_map(|address| StarAddr::try_from(&address).ok())
            .map(|addr| addr.rendezvous().clone())
            .filter(|rendezvous| seen.insert(rendezvous.clone()))
            .collect()
    }

    /// Reserves a place for a dial of `peer` at `rendezvous`. Returns `None` if the peer has no pending attempt.
    ///
    /// # Errors
    /// If there are already as many such dials as attempts to reach the peer, this dial belongs to the same attempt as
    /// another one. The error resolves when that other dial is over.
    pub(crate) fn claim(
        self: &Arc<Self>,
        peer: PeerId,
        rendezvous: &Rendezvous,
    ) -> Result<Option<Claim>, Over> {
        let state = &mut *self.lock();
        let Some(attempts) = state.pending.get(&peer).map(|pending| pending.attempts) else {
            return Ok(None);
        };
        let dials = state.dials.entry(peer).or_default();
        let mut same = dials.iter().filter(|dial| dial.rendezvous == *rendezvous);
        if same.clone().count() >= attempts
            && let Some(other) = same.next_back()
        {
            return Err(other.over.clone());
        }
        let (outcome, over) = oneshot::channel();
        let id = state.next_dial;
        state.next_dial += 1;
        dials.push(Dial {
            id,
            rendezvous: rendezvous.clone(),
            connected: false,
            outcome: Some(outcome),
            over: over.shared(),
        });
        Ok(Some(Claim {
            hints: self.clone(),
            peer,
            id,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn dial(&mut self, peer: &PeerId, id: u64) -> Option<&mut Dial> {
        self.dials.get_mut(peer)?.iter_mut().find(|d| d.id == id)
    }

    fn forget_if_empty(&mut self, peer: &PeerId) {
        if self.dials.get(peer).is_some_and(Vec::is_empty) {
            self.dials.remove(peer);
        }
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hints").finish_non_exhaustive()
    }
}

/// The place of a dial, and then of its connection until the attempt is over. When it is dropped, the next dial may
/// try.
#[derive(Debug)]
pub(crate) struct Claim {
    hints: Arc<Hints>,
    peer: PeerId,
    id: u64,
}

impl Claim {
    /// Notes that the dial has resulted in a connection.
    pub(crate) fn connected(&self) {
        if let Some(dial) = self.hints.lock().dial(&self.peer, self.id) {
            dial.connected = true;
        }
    }

    /// Notes that the dial has failed. The dials that wait for it fail with the same error.
    pub(crate) fn failed(self, error: &Error) {
        let outcome = {
            let mut state = self.hints.lock();
            let dial = state.dial(&self.peer, self.id);
            dial.and_then(|dial| dial.outcome.take())
        };
        if let Some(outcome) = outcome {
            // There may be no dial waiting.
            let _ = outcome.send(error.clone());
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let dropped = {
            let state = &mut *self.hints.lock();
            let dropped = state.dials.get_mut(&self.peer).and_then(|dials| {
                let n = dials.iter().position(|dial| dial.id == self.id)?;
                Some(dials.remove(n))
            });
            state.forget_if_empty(&self.peer);
            dropped
        };
        // Dropped after the lock is released, because it wakes the waiting dials.
        drop(dropped);
    }
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;
