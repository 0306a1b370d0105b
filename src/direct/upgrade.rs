//! One connection through a rendezvous, and its upgrade by dcutr.
//!
//! dcutr considers a connection relayed if its address contains `/p2p-circuit`, so it is given such an address. It is
//! notified of nothing else: it counts direct connections only to decrease the count again, and panics if it does not
//! know one. Each connection has its own dcutr, so that its memory is freed with the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p_core::ConnectedPoint;
use libp2p_dcutr as dcutr;
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use multiaddr::{Multiaddr, Protocol};
use web_time::Instant;

use super::error::Error;

/// The waits after a failed handshake before the next one begins. Either node may learn its addresses in the meantime.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// The wait after all further ones.
const SLOWLY: Duration = Duration::from_secs(600);
/// The maximum number of dials that the other node can request on one connection within [`DIALS_WINDOW`]. A handshake
/// has at most three.
const MAX_DIALS: u8 = 12;
/// The time after which the other node can request dials again. By then, a node that does as we do has begun four
/// handshakes at most.
const DIALS_WINDOW: Duration = Duration::from_secs(1800);

/// An action that dcutr requests.
pub(super) type Wish = ToSwarm<dcutr::Event, THandlerInEvent<dcutr::Behaviour>>;

/// Creates a dcutr for the upgrade of the connection `id`, and its handler. The `candidates` are sent to the other
/// node.
pub(super) fn begin(
    local: PeerId,
    (peer, id): (PeerId, ConnectionId),
    endpoint: &ConnectedPoint,
    candidates: &[Multiaddr],
) -> Option<(dcutr::Behaviour, THandler<dcutr::Behaviour>)> {
    let mut dcutr = dcutr::Behaviour::new(local);
    for addr in candidates {
        let candidate = NewExternalAddrCandidate { addr };
        dcutr.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
    }
    let relayed = |address: &Multiaddr| address.clone().with(Protocol::P2pCircuit);
    let handler = match endpoint {
        ConnectedPoint::Dialer {
            address,
            role_override,
            port_use,
        } => dcutr.handle_established_outbound_connection(
            id,
            peer,
            &relayed(address),
            *role_override,
            *port_use,
        ),
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => dcutr.handle_established_inbound_connection(
            id,
            peer,
            &relayed(local_addr),
            send_back_addr,
        ),
    };
    Some((dcutr, handler.ok()?))
}

/// One connection through a rendezvous.
pub(super) struct Upgrade {
    pub(super) endpoint: ConnectedPoint,
    /// Whether the rendezvous is on this machine, and so the other node may be too.
    pub(super) loopback: bool,
    dcutr: Option<dcutr::Behaviour>,
    /// The number of failed handshakes.
    failed: usize,
    /// Whether a handshake has led to dials that failed.
    dialled: bool,
    /// Whether no further attempts are made.
    given_up: bool,
    /// Whether this node has learned an address that the last handshake did not send.
    fresh: bool,
    /// The time at which the last handshake began.
    begun: Option<Instant>,
    not_before: Option<Instant>,
    /// The error that was reported last.
    reported: Option<Error>,
    /// The time at which the next handshake begins.
    pub(super) next: Option<Instant>,
    /// Whether a dial is in progress.
    pub(super) dialling: bool,
    /// Whether the handshake in progress has led to a dial.
    has_dialled: bool,
    /// The number of dials that the other node has requested since `counted_from`.
    dials: u8,
    counted_from: Option<Instant>,
    no_streams: Arc<AtomicBool>,
}

/// The result of a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both nodes have dialled without success.
    Dialled,
    /// There was no dial, and there will be another attempt soon.
    Again,
    /// There was no dial, as in several handshakes before.
    Over,
}

impl Upgrade {
    pub(super) fn new(endpoint: ConnectedPoint, loopback: bool) -> Self {
        Self {
            endpoint,
            loopback,
            dcutr: None,
            failed: 0,
            dialled: false,
            given_up: false,
            fresh: false,
            begun: None,
            not_before: None,
            reported: None,
            next: None,
            dialling: false,
            has_dialled: false,
            dials: 0,
            counted_from: None,
            no_streams: Arc::default(),
        }
    }

    /// Returns the flag in which the handler notes that no streams are open.
    pub(super) fn no_streams(&self) -> Arc<AtomicBool> {
        self.no_streams.clone()
    }

    /// Returns whether a stream that keeps the connection alive was open for the whole time since the last call.
    pub(super) fn had_streams(&self) -> bool {
        !self.no_streams.swap(false, Relaxed)
    }

    /// Returns whether this node begins the handshakes. The node that was dialled does.
    pub(super) fn leads(&self) -> bool {
        self.endpoint.is_listener()
    }

    /// Notes that this node has learned an address. A handshake sends it soon, but not without a wait after the last
    /// one.
    pub(super) fn learned(&mut self, now: Instant) {
        if self.leads() && self.dcutr.is_some() {
            self.fresh = true;
        } else if !self.given_up {
            self.next = Some(self.soonest(now));
        }
    }

    /// Returns when the next handshake may begin.
    fn soonest(&self, now: Instant) -> Instant {
        let wait = AGAIN[self.failed.min(AGAIN.len() - 1)];
        let after_last = self.begun.map(|begun| begun + wait);
        [after_last, self.not_before]
            .into_iter()
            .flatten()
            .fold(now, Instant::max)
    }

    /// Delays the next handshake until this time.
    pub(super) fn wait_until(&mut self, until: Instant) {
        if !self.given_up {
            self.not_before = Some(until);
            self.next = Some(until);
        }
    }

    pub(super) fn begin(&mut self, dcutr: dcutr::Behaviour, now: Instant) {
        self.dcutr = Some(dcutr);
        self.begun = Some(now);
        self.next = None;
        self.fresh = false;
        if self.leads() {
            self.dialling = false;
            self.has_dialled = false;
        }
    }

    /// Passes an event of the handler to dcutr.
    pub(super) fn heard(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<dcutr::Behaviour>,
    ) {
        if let Some(dcutr) = &mut self.dcutr {
            dcutr.on_connection_handler_event(peer, id, event);
        }
    }

    /// Notes that a dial of dcutr has failed. This may lead to another dial.
    pub(super) fn dial_failed(&mut self, peer: PeerId, id: ConnectionId, error: &DialError) {
        self.dialling = false;
        if let Some(dcutr) = &mut self.dcutr {
            let failure = DialFailure {
                peer_id: Some(peer),
                error,
                connection_id: id,
            };
            dcutr.on_swarm_event(FromSwarm::DialFailure(failure));
        }
    }

    /// Returns the next action that dcutr requests.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        // dcutr only has a queue, and needs no waker.
        match self
            .dcutr
            .as_mut()?
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(wish) => Some(wish),
            Poll::Pending => None,
        }
    }

    /// Takes one of the remaining dials, unless a dial is in progress. Returns whether it did. A node that leads decides
    /// by itself how often it dials.
    pub(super) fn may_dial(&mut self, now: Instant) -> bool {
        if self
            .counted_from
            .is_none_or(|from| from + DIALS_WINDOW <= now)
        {
            (self.counted_from, self.dials) = (Some(now), 0);
        }
        let may = !self.given_up && !self.dialling && (self.leads() || self.dials < MAX_DIALS);
        if may {
            self.dialling = true;
            self.has_dialled = true;
            self.dials = self.dials.saturating_add(1);
        }
        may
    }

    /// Notes that the handshake has failed.
    pub(super) fn handshake_failed(&mut self, now: Instant) -> Outcome {
        let dialled = self.has_dialled;
        if !self.leads() {
            // The other node may begin another handshake.
            return Outcome::Again;
        }
        self.dcutr = None;
        let wait = match dialled {
            // By then, addresses learned in the meantime are sent too.
            true if !std::mem::replace(&mut self.dialled, true) => AGAIN.last(),
            true => None,
            false => AGAIN.get(self.failed),
        };
        self.failed = self.failed.saturating_add(1);
        self.next = Some(match std::mem::take(&mut self.fresh) {
            true => self.soonest(now),
            false => now + wait.copied().unwrap_or(SLOWLY),
        });
        match dialled {
            true => Outcome::Dialled,
            false if wait.is_some() => Outcome::Again,
            false => Outcome::Over,
        }
    }

    /// Returns whether an error differs from the one that was reported last.
    pub(super) fn is_news(&mut self, error: Error) -> bool {
        self.reported.replace(error) != Some(error)
    }

    /// Notes that there is a direct connection.
    pub(super) fn succeeded(&mut self) {
        self.stop();
        self.failed = 0;
        self.dialled = false;
        self.reported = None;
    }

    fn stop(&mut self) {
        self.dcutr = None;
        self.next = None;
        self.dialling = false;
    }

    /// Stops all attempts on this connection. Returns whether there were any until now.
    pub(super) fn give_up(&mut self) -> bool {
        self.stop();
        !std::mem::replace(&mut self.given_up, true)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_core::{Endpoint, transport::PortUse};

    use super::*;

    #[test]
    fn the_other_node_can_request_a_few_dials_at_a_time() {
        let led = ConnectedPoint::Dialer {
            address: Multiaddr::empty(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let leading = ConnectedPoint::Listener {
            local_addr: Multiaddr::empty(),
            send_back_addr: Multiaddr::empty(),
        };
        let start = Instant::now();
        let dials = |upgrade: &mut Upgrade, now| {
            let each = (0..100).filter(|_| {
                upgrade.dialling = false;
                upgrade.may_dial(now)
            });
            each.count()
        };
        let mut led = Upgrade::new(led, true);
        assert_eq!(dials(&mut led, start), usize::from(MAX_DIALS));
        assert_eq!(dials(&mut led, start + DIALS_WINDOW / 2), 0);
        assert_eq!(
            dials(&mut led, start + DIALS_WINDOW),
            usize::from(MAX_DIALS)
        );
        let mut leading = Upgrade::new(leading, true);
        assert_eq!(dials(&mut leading, start), 100);
    }
}
