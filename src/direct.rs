//! Upgrades of connections through a rendezvous to direct ones.
//!
//! A rendezvous is the best way to start a connection, but it carries every byte of it. With [`Behaviour`], two nodes
//! that are connected through a rendezvous try each other's addresses, at the same time and so through their NATs
//! ([DCUtR], with libp2p's own `dcutr`). If that succeeds, the connection through the rendezvous is closed. If not, it
//! stays as it is.
//!
//! **It shows each peer this node's IP addresses**, and makes this node dial addresses that a peer names. Therefore it
//! is off by default.
//!
//! # What a node needs
//!
//! * A transport beside websocket-star on which it listens: QUIC, TCP or both.
//! * Behind a NAT, its public address. A node learns it through identify from a peer that it reaches directly and not
//!   through a rendezvous, such as an *observer* beside the rendezvous (`examples/direct`). Put
//!   [`AddressGuard`](crate::AddressGuard) around identify.
//! * The same behaviour at the other node.
//!
//! Hole punching does not work with NATs that use a different port for each destination, or with firewalls that only
//! allow outgoing HTTP. Such pairs stay connected through the rendezvous.
//!
//! # What happens when
//!
//! 1. Two nodes are connected through a rendezvous. The node that was dialled leads. It asks the other node for its
//!    addresses and sends its own, and both dial at the same time, up to three times. If the other node has no
//!    addresses yet, it tries again after 2, 10 and 60 seconds. If the dials fail, it tries again after a minute. After
//!    that it tries every ten minutes, and whenever it learns another address of its own.
//! 2. [`Event::Connected`]: there is a direct connection beside the one through the rendezvous. libp2p prefers neither,
//!    so new streams may use either. If TCP and QUIC both succeed, both connections stay. If there was a direct
//!    connection first, nothing is upgraded.
//! 3. The connection through the rendezvous is closed once nothing but pings has crossed it for the [grace
//!    period](Behaviour::with_grace_period), or for four grace periods while streams are open on it:
//!    [`Event::Upgraded`]. These streams end with the connection. So do a request whose answer takes longer, a
//!    reservation at a relay that is reached through the rendezvous, and data that the other node sends at that moment.
//!    **A connection that is never idle stays.**
//! 4. A direct connection that was made beside one through a rendezvous is pinged. If no answer comes for some seconds
//!    ([`with_probe`](Behaviour::with_probe)), it is closed. If its path is lost, because no answer comes or because
//!    the system reports it, there is [`Event::Lost`], and the nodes dial each other through the rendezvous again, up
//!    to six times in a minute. On a node that was sending, the system may take minutes to close the connection; in
//!    this time, streams that libp2p opens on it fail at once. The next upgrade waits for 10 seconds, and twice as long
//!    after each further loss.
//!
//! Private addresses (of a LAN) are also sent and tried, and loopback addresses if the rendezvous is on this machine.
//! Names, link-local addresses and multicast groups are never sent or tried. A peer is sent at most eight addresses. It
//! can make this node dial at most eight addresses at a time, and twelve times for each connection through a
//! rendezvous.
//!
//! [DCUtR]: https://github.com/libp2p/specs/blob/master/relay/DCUtR.md

mod back;
mod candidates;
mod connections;
mod error;
mod handler;
mod handshakes;
mod peer;
mod probe;
mod quiet;
mod upgrade;
mod watch;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use either::Either;
use libp2p_core::{ConnectedPoint, Endpoint, transport::PortUse};
use libp2p_dcutr as dcutr;
use libp2p_identity::PeerId;
use libp2p_ping as ping;
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenError,
    NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    behaviour::{
        ConnectionEstablished, ExpiredListenAddr, ExternalAddrConfirmed, ExternalAddrExpired,
        ListenFailure, NewExternalAddrCandidate, NewListenAddr,
    },
    dummy,
};
use multiaddr::Multiaddr;
use web_time::Instant;

pub use self::error::Error;
use self::{
    back::Losses,
    candidates::{Candidates, to_dial},
    handler::{Command, Handler},
    handshakes::{Dial, NotAll},
    peer::{Peer, SOON},
};
use crate::{
    Discovery, StarAddr,
    activity::Activity,
    runtime::{Timer, now},
    time,
};

const GRACE_PERIOD: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(2500);
/// The shortest probe interval. Pings at shorter intervals would cost more than they are worth.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// A change of the connections with a peer that is or was connected through a rendezvous.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// There is a direct connection beside the one through the rendezvous.
    Connected {
        /// The node at the other end.
        peer: PeerId,
        /// The direct connection.
        connection: ConnectionId,
    },
    /// The last connection through a rendezvous is closed. All traffic now uses the direct connection.
    Upgraded {
        /// The node at the other end.
        peer: PeerId,
    },
    /// No direct connection was made. The connection through the rendezvous continues. The upgrade is tried again from
    /// time to time; this is not reported until the result differs. The event is reported by the node that was dialled
    /// through the rendezvous, and by a node that refuses the direct connection.
    Failed {
        /// The node at the other end.
        peer: PeerId,
        /// The reason.
        error: Error,
    },
    /// The direct connection is lost. The nodes try to connect through the rendezvous again.
    Lost {
        /// The node at the other end.
        peer: PeerId,
    },
}

/// Upgrades connections through rendezvous to direct ones; see the [module](self).
pub struct Behaviour {
    local: PeerId,
    activity: Arc<Activity>,
    grace_period: Duration,
    probe_interval: Duration,
    probe_timeout: Duration,
    candidates: Candidates,
    probes: ping::Behaviour,
    /// Peers with a connection through a rendezvous, or with a direct one that resulted from it.
    peers: HashMap<PeerId, Peer>,
    /// Upgrades on connections that other behaviours may still refuse.
    starting: HashMap<ConnectionId, dcutr::Behaviour>,
    /// Direct connections with peers that had no connection through a rendezvous at the time. They need no upgrade.
    others: HashMap<PeerId, HashSet<ConnectionId>>,
    /// Pending dials of upgrades.
    dials: HashMap<ConnectionId, Dial>,
    losses: Losses,
    actions: VecDeque<ToSwarm<Event, THandlerInEvent<Self>>>,
    tick: Option<Instant>,
    timer: Timer,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("peers", &self.peers.keys())
            .finish_non_exhaustive()
    }
}

impl Behaviour {
    /// Creates a behaviour that upgrades the connections of the transport of `discovery`.
    pub fn new(discovery: &Discovery) -> Self {
        Self {
            local: discovery.local_peer(),
            activity: discovery.activity(),
            grace_period: GRACE_PERIOD,
            probe_interval: PROBE_INTERVAL,
            probe_timeout: PROBE_TIMEOUT,
            candidates: Candidates::default(),
            probes: pings(PROBE_INTERVAL),
            peers: HashMap::new(),
            starting: HashMap::new(),
            others: HashMap::new(),
            dials: HashMap::new(),
            losses: Losses::default(),
            actions: VecDeque::new(),
            tick: None,
            timer: Timer::default(),
        }
    }

    /// Sets how long nothing but pings may have crossed a connection through a rendezvous before it is closed, when
    /// there is a direct connection. While streams are open on it, the time is four times as long. Default 1 s. It is
    /// checked five times a second.
    #[must_use]
    pub fn with_grace_period(mut self, grace_period: Duration) -> Self {
        self.grace_period = time::timeout(grace_period);
        self
    }

    /// Sets the interval at which direct connections that resulted from an upgrade are pinged, and how much later than
    /// usual an answer may come before the connection is closed. Default 1 s and 2.5 s. On lines with long queues, use
    /// longer times.
    ///
    /// The usual time is twice the time of the last answer. An interval below 100 ms counts as 100 ms.
    #[must_use]
    pub fn with_probe(mut self, interval: Duration, timeout: Duration) -> Self {
        self.probe_interval = time::interval(interval, SHORTEST_INTERVAL);
        self.probe_timeout = time::timeout(timeout);
        self.probes = pings(self.probe_interval);
        self
    }

    fn act(&mut self, action: ToSwarm<Event, THandlerInEvent<Self>>) {
        self.actions.push_back(action);
    }

    fn report(&mut self, event: Event) {
        self.act(ToSwarm::GenerateEvent(event));
    }

    fn tell(&mut self, peer_id: PeerId, id: ConnectionId, command: Command) {
        self.act(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(id),
            event: Either::Left(command),
        });
    }

    fn close(&mut self, peer_id: PeerId, id: ConnectionId) {
        self.act(ToSwarm::CloseConnection {
            peer_id,
            connection: CloseConnection::One(id),
        });
    }

    /// Makes the next check happen soon.
    fn look_soon(&mut self) {
        let soon = now() + SOON;
        self.tick = Some(self.tick.map_or(soon, |tick| tick.min(soon)));
    }
}

/// Creates the pings. Their own timeout is not used: the behaviour keeps the deadline, and a late answer still counts.
fn pings(interval: Duration) -> ping::Behaviour {
    let config = ping::Config::new().with_interval(interval);
    ping::Behaviour::new(config.with_timeout(time::NEVER))
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Either<Handler, Either<probe::Handler, dummy::ConnectionHandler>>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Listener {
            local_addr: local_addr.clone(),
            send_back_addr: remote_addr.clone(),
        };
        Ok(self.handler(peer, id, &endpoint))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(dial) = self.dials.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let upgrade = self.peers.get(&dial.peer);
        let upgrade = upgrade.and_then(|known| known.stars.get(&dial.star));
        let dialled = to_dial(addresses, upgrade.is_some_and(|upgrade| upgrade.loopback));
        if dialled.len() == addresses.len() {
            return Ok(Vec::new());
        }
        // dcutr has already built the dial's options, and they cannot be changed here. So this dial is denied, and
        // another one with the remaining addresses replaces it.
        dial.instead = Some((role, dialled));
        Err(ConnectionDenied::new(NotAll))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override,
            port_use,
        };
        Ok(self.handler(peer, id, &endpoint))
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => {
                if let Some(upgrade) = self.upgrade(peer, id) {
                    upgrade.heard(peer, id, event);
                }
                self.grant(peer, id);
            }
            Either::Right(Either::Left(answer)) => {
                if let Some(known) = self.peers.get_mut(&peer)
                    && let Some(direct) = known.directs.get_mut(&id)
                {
                    direct.heard(now(), &answer);
                }
            }
            Either::Right(Either::Right(never)) => libp2p_core::util::unreachable(never),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.established(peer_id, connection_id, endpoint),
            FromSwarm::ConnectionClosed(closed) => self.closed(&closed),
            FromSwarm::DialFailure(DialFailure {
                peer_id,
                error,
                connection_id,
            }) => {
                self.starting.remove(&connection_id);
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.dial_failed(dial, error);
                } else if let Some(peer) = peer_id {
                    self.other_dial_failed(peer, connection_id);
                }
            }
            FromSwarm::ListenFailure(ListenFailure {
                connection_id,
                peer_id,
                error,
                local_addr,
                ..
            }) => {
                self.starting.remove(&connection_id);
                let star = StarAddr::try_from(local_addr).is_ok();
                if let (Some(peer), ListenError::Denied { .. }, false) = (peer_id, error, star) {
                    self.refused(peer);
                }
            }
            FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr })
                if self.candidates.observed(addr) =>
            {
                self.learned();
            }
            FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr })
                if self.candidates.confirmed(addr) =>
            {
                self.learned();
            }
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. })
                if self.candidates.listened(addr) =>
            {
                self.learned();
            }
            FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr })
            | FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) => {
                self.candidates.expired(addr);
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            let Some(tick) = self.tick else {
                return Poll::Pending;
            };
            if self.timer.poll(tick, cx).is_pending() {
                return Poll::Pending;
            }
            self.look();
        }
    }
}
