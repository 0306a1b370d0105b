//! One connection through a rendezvous, and its upgrade by dcutr.
//!
//! dcutr takes connections for relayed ones by `/p2p-circuit` in their address, so it is shown that. It is told of nothing
//! else: it counts direct connections only to take the count down again, and panics over one that it does not know. Each
//! connection has a dcutr of its own, whose memory ends with it.

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

use super::Error;

/// When the next handshake begins after one that has led to nothing: either node may learn its addresses meanwhile.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// And after those.
const SLOWLY: Duration = Duration::from_secs(600);
/// The other node can ask for so many dials on one connection. A handshake has three at most.
const MAX_DIALS: u8 = 12;

/// What dcutr wants.
pub(super) type Wish = ToSwarm<dcutr::Event, THandlerInEvent<dcutr::Behaviour>>;

/// A dcutr for the upgrade of the connection `id`, and its handler. The other node is told the `candidates`.
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
    /// The rendezvous is on this machine, and so may be the other node.
    pub(super) loopback: bool,
    dcutr: Option<dcutr::Behaviour>,
    /// Handshakes that have led to nothing.
    failed: usize,
    /// A handshake has led to dials in vain.
    dialled: bool,
    /// Nothing is tried any more.
    given_up: bool,
    /// This node has learned an address that the last handshake did not tell.
    fresh: bool,
    /// When the last handshake began.
    begun: Option<Instant>,
    not_before: Option<Instant>,
    /// What was reported last.
    reported: Option<Error>,
    /// When the next handshake begins.
    pub(super) next: Option<Instant>,
    /// A dial is under way.
    pub(super) dialling: bool,
    /// The handshake that is under way has come to a dial.
    has_dialled: bool,
    /// Dials so far.
    dials: u8,
    no_streams: Arc<AtomicBool>,
}

/// What came of a handshake that led to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both nodes have dialled in vain.
    Dialled,
    /// It did not come to a dial, and is tried again.
    Again,
    /// It did not come to a dial, again and again.
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
            no_streams: Arc::default(),
        }
    }

    /// Where its handler tells whether streams are open.
    pub(super) fn no_streams(&self) -> Arc<AtomicBool> {
        self.no_streams.clone()
    }

    /// Whether a stream that counts was open all the time since this was asked last.
    pub(super) fn had_streams(&self) -> bool {
        !self.no_streams.swap(false, Relaxed)
    }

    /// Whether this node begins the handshakes: the one that was dialled does.
    pub(super) fn leads(&self) -> bool {
        self.endpoint.is_listener()
    }

    /// This node has learned an address: a handshake tells it soon, but not one after the other without a wait.
    pub(super) fn learned(&mut self, now: Instant) {
        if self.leads() && self.dcutr.is_some() {
            self.fresh = true;
        } else if !self.given_up {
            self.next = Some(self.soonest(now));
        }
    }

    /// When the next handshake may begin.
    fn soonest(&self, now: Instant) -> Instant {
        let wait = AGAIN[self.failed.min(AGAIN.len() - 1)];
        let after_last = self.begun.map(|begun| begun + wait);
        [after_last, self.not_before]
            .into_iter()
            .flatten()
            .fold(now, Instant::max)
    }

    /// No handshake begins before that.
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

    /// The handler has something for dcutr.
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

    /// A dial of dcutr's has failed, which may lead to another one.
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

    /// The next thing that dcutr wants.
    pub(super) fn wish(&mut self) -> Option<Wish> {
        // It has a queue, and wakes nobody.
        match self
            .dcutr
            .as_mut()?
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(wish) => Some(wish),
            Poll::Pending => None,
        }
    }

    /// Takes one of the dials that are left, unless one is under way.
    pub(super) fn may_dial(&mut self) -> bool {
        let may = !self.given_up && !self.dialling && !self.is_spent();
        if may {
            self.dialling = true;
            self.has_dialled = true;
            self.dials += 1;
        }
        may
    }

    /// The handshake has led to nothing.
    pub(super) fn handshake_failed(&mut self, now: Instant) -> Outcome {
        let dialled = self.has_dialled;
        if !self.leads() {
            // The other node may begin another one.
            return Outcome::Again;
        }
        self.dcutr = None;
        let wait = match dialled {
            // Addresses that were learned meanwhile are told then.
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

    /// Whether an error is not the one that was reported last.
    pub(super) fn is_news(&mut self, error: Error) -> bool {
        self.reported.replace(error) != Some(error)
    }

    /// There is a direct connection.
    pub(super) fn succeeded(&mut self) {
        self.stop();
        self.failed = 0;
        self.dialled = false;
        self.reported = None;
    }

    /// Whether all dials of this connection are used up.
    pub(super) fn is_spent(&self) -> bool {
        self.dials >= MAX_DIALS
    }

    fn stop(&mut self) {
        self.dcutr = None;
        self.next = None;
        self.dialling = false;
    }

    /// Nothing is tried on this connection any more. Tells whether something was until now.
    pub(super) fn give_up(&mut self) -> bool {
        self.stop();
        !std::mem::replace(&mut self.given_up, true)
    }
}
