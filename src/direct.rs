//! From a connection through a rendezvous on to a direct one.
//!
//! A rendezvous is the best start of a connection, and carries every byte of it. [`Behaviour`] has two nodes that are
//! connected through one try each other's addresses, through their NATs at the same time ([DCUtR], by libp2p's own
//! `dcutr`). If that succeeds, the connection through the rendezvous is closed; if it does not, it stays as it is.
//!
//! **It shows each peer this node's IP addresses**, and has this node dial addresses that a peer names: off by default.
//!
//! # What a node needs
//!
//! * A transport beside websocket-star, on which it listens: QUIC, TCP or both.
//! * To know its public address, behind a NAT. A node tells it by identify that is reached directly and not through a
//!   rendezvous, such as an *observer* beside the rendezvous (`examples/direct`). Put [`AddressGuard`](crate::AddressGuard) around identify.
//! * The same behaviour at the other node.
//!
//! NATs that give each destination another port cannot be punched, nor can firewalls that let nothing but HTTP out. Those
//! pairs stay on the rendezvous.
//!
//! # What happens when
//!
//! 1. Two nodes are connected through a rendezvous. The one that was dialled leads: it asks the other one for its addresses, tells its
//!    own, and both dial at the same time, up to three times. It tries again after 2, 10 and 60 seconds if the other node has no addresses yet,
//!    after a minute if the dials fail, when it learns another address of its own, and then every ten minutes.
//! 2. [`Event::Connected`]: there is a direct connection, beside the one through the rendezvous. libp2p prefers neither, so new
//!    streams may take either. If TCP and QUIC both succeed, both connections stay. Where a direct connection was there first, nothing
//!    is upgraded.
//! 3. The connection through the rendezvous is closed once nothing but pings has crossed it for the
//!    [grace period](Behaviour::with_grace_period), or for four of them while streams are open on it: [`Event::Upgraded`]. Those
//!    streams end with it, and so does a request whose answer takes longer, a reservation at a relay that is reached there, and what the other
//!    node sends in that very moment. **A connection that never idles stays.**
//! 4. A direct connection that was made beside one through a rendezvous is pinged. If no answer comes for some seconds
//!    ([`with_probe`](Behaviour::with_probe)), it is closed. If its path is gone, by that or as the system reports it, there is
//!    [`Event::Lost`], and the nodes dial each other through the rendezvous again, up to six times in a minute. At a node that was sending,
//!    the system may take minutes to let the connection go; streams that libp2p tries there meanwhile fail at once. The next upgrade
//!    waits for 10 seconds, and twice as long after each further loss.
//!
//! Private addresses (a LAN) are told and tried as well. Those of this machine are if the rendezvous is on this machine. Names,
//! link-local addresses and groups are never. A peer is told eight addresses at most, and can have this node dial eight at a
//! time, twelve times for each connection through a rendezvous.
//!
//! [DCUtR]: https://github.com/libp2p/specs/blob/master/relay/DCUtR.md

mod back;
mod candidates;
mod handler;
mod peer;
mod probe;
mod quiet;
mod upgrade;

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    CloseConnection, ConnectionDenied, ConnectionError, ConnectionId, DialError, DialFailure,
    FromSwarm, ListenError, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
    behaviour::{
        ConnectionClosed, ConnectionEstablished, ExpiredListenAddr, ExternalAddrConfirmed,
        ExternalAddrExpired, ListenFailure, NewExternalAddrCandidate, NewListenAddr,
    },
    dial_opts::{DialOpts, PeerCondition},
    dummy,
};
use multiaddr::{Multiaddr, Protocol};
use web_time::Instant;

use self::{
    back::{Losses, is_loss},
    candidates::{Candidates, to_dial},
    handler::{Command, Handler},
    peer::{Direct, Peer, SOON},
    upgrade::{Outcome, Upgrade},
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
/// While streams are open on a connection through a rendezvous, it has to be quiet for so many grace periods.
const WITH_STREAMS: u32 = 4;
/// If the swarm was not polled for so long, answers may be waiting.
const STALLED: Duration = Duration::from_secs(1);
/// See [`Behaviour::crosses`].
const CROSSED: Duration = Duration::from_millis(500);
/// Shorter ones would be more pings than use.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What becomes of connections through a rendezvous.
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
    /// The last connection through a rendezvous is closed, and the direct one is left: all goes there now.
    Upgraded {
        /// The node at the other end.
        peer: PeerId,
    },
    /// No direct connection came of it. What goes through the rendezvous goes on. It may be tried once more, in a minute, and
    /// with an address that is learned later. The node that was dialled through the rendezvous reports it, and one that
    /// refuses the direct connection.
    Failed {
        /// The node at the other end.
        peer: PeerId,
        /// Why.
        error: Error,
    },
    /// The direct connection is lost, and the rendezvous is tried again.
    Lost {
        /// The node at the other end.
        peer: PeerId,
    },
}

/// Why there is no direct connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither node reaches the other one: a NAT or a firewall is in between that cannot be punched.
    #[error("the nodes do not reach each other directly")]
    Unreachable,
    /// A behaviour of this node refuses a second connection, for example for a limit of one for each peer.
    #[error("a behaviour of this node refuses the direct connection")]
    Denied,
    /// The other node has no such behaviour, or no address to tell.
    #[error("the other node takes no part")]
    NoPart,
}

/// Takes connections through rendezvous on to direct ones; see the [module](self).
pub struct Behaviour {
    local: PeerId,
    activity: Arc<Activity>,
    grace_period: Duration,
    probe_interval: Duration,
    probe_timeout: Duration,
    candidates: Candidates,
    probes: ping::Behaviour,
    /// Those with a connection through a rendezvous, or with a direct one that came of such.
    peers: HashMap<PeerId, Peer>,
    /// Upgrades of connections that other behaviours may still refuse.
    starting: HashMap<ConnectionId, dcutr::Behaviour>,
    /// Direct connections with peers that had none through a rendezvous then: there is nothing to upgrade.
    others: HashMap<PeerId, HashSet<ConnectionId>>,
    /// Dials of upgrades.
    dials: HashMap<ConnectionId, Dial>,
    losses: Losses,
    actions: VecDeque<ToSwarm<Event, THandlerInEvent<Self>>>,
    tick: Option<Instant>,
    timer: Timer,
}

/// A dial of an upgrade.
#[derive(Debug, Clone)]
struct Dial {
    peer: PeerId,
    /// The connection that is upgraded.
    star: ConnectionId,
    /// What dcutr calls the dial.
    id: ConnectionId,
    /// The role at the transport, and what is left of the addresses, if some of them are not dialled.
    instead: Option<(Endpoint, Vec<Multiaddr>)>,
}

/// The addresses of a dial are not all such as to be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the peer has told addresses that are not dialled")]
struct NotAll;

impl Behaviour {
    /// Upgrades connections of the transport that `discovery` belongs to.
    pub fn new(discovery: &Discovery) -> Self {
        let behaviour = Self {
            local: discovery.local_peer(),
            activity: discovery.activity(),
            grace_period: GRACE_PERIOD,
            probe_interval: PROBE_INTERVAL,
            probe_timeout: PROBE_TIMEOUT,
            candidates: Candidates::default(),
            probes: ping::Behaviour::default(),
            peers: HashMap::new(),
            starting: HashMap::new(),
            others: HashMap::new(),
            dials: HashMap::new(),
            losses: Losses::default(),
            actions: VecDeque::new(),
            tick: None,
            timer: Timer::default(),
        };
        behaviour.with_probe(PROBE_INTERVAL, PROBE_TIMEOUT)
    }

    /// For how long nothing but pings may have crossed a connection through a rendezvous before it is closed, where there is
    /// a direct one; four times as long while streams are open on it. Default 1 s. It is looked at five times a second.
    #[must_use]
    pub fn with_grace_period(mut self, grace_period: Duration) -> Self {
        self.grace_period = time::timeout(grace_period);
        self
    }

    /// How often direct connections that came of an upgrade are pinged, and how much later than usual an answer may be before the
    /// connection is given up. Default 1 s and 2.5 s. On lines with long queues, give them more time.
    ///
    /// Usual is twice what the last answer took. An interval under 100 ms is one of 100 ms.
    #[must_use]
    pub fn with_probe(mut self, interval: Duration, timeout: Duration) -> Self {
        self.probe_interval = time::interval(interval, SHORTEST_INTERVAL);
        self.probe_timeout = time::timeout(timeout);
        // The deadline is kept here: an answer that is late is one.
        let config = ping::Config::new()
            .with_interval(self.probe_interval)
            .with_timeout(time::NEVER);
        self.probes = ping::Behaviour::new(config);
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

    /// There will be something to look at.
    fn look_soon(&mut self) {
        let soon = now() + SOON;
        self.tick = Some(self.tick.map_or(soon, |tick| tick.min(soon)));
    }
}

/// Connections that come and go.
impl Behaviour {
    /// The handler of a new connection.
    fn handler(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) -> THandler<Self> {
        if let Some(star) = leads_to(endpoint) {
            // What begins later finds the other node's handler ready.
            let begun = match self.crosses(peer, endpoint) {
                Some(_) => None,
                None => self.begun(peer, id, endpoint, star.rendezvous().is_loopback()),
            };
            let handler = begun.map(|(dcutr, handler)| {
                self.starting.insert(id, dcutr);
                handler
            });
            return Either::Left(Handler::new(handler));
        }
        let probed = !endpoint.is_relayed() && self.peers.contains_key(&peer);
        Either::Right(if probed {
            let address = endpoint.get_remote_address();
            // It never refuses.
            let handler = self
                .probes
                .handle_established_inbound_connection(id, peer, address, address);
            handler.map_or(Either::Right(dummy::ConnectionHandler), |ping| {
                Either::Left(probe::Handler::new(ping))
            })
        } else {
            Either::Right(dummy::ConnectionHandler)
        })
    }

    /// How long this node waits before it leads an upgrade beside another connection through a rendezvous with the same peer, which
    /// may be upgraded meanwhile. If both nodes have dialled, each leads on one of them, and two upgrades at once get in each
    /// other's way.
    fn crosses(&self, peer: PeerId, endpoint: &ConnectedPoint) -> Option<Duration> {
        let others = self
            .peers
            .get(&peer)
            .is_some_and(|known| !known.stars.is_empty());
        let wait = if self.local < peer {
            CROSSED
        } else {
            4 * CROSSED
        };
        (others && endpoint.is_listener()).then_some(wait)
    }

    /// An upgrade that can begin on the connection: there is something to tell, and no loss to wait for.
    fn begun(
        &self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        loopback: bool,
    ) -> Option<(dcutr::Behaviour, THandler<dcutr::Behaviour>)> {
        let waits = self.losses.wait_for(&peer, now()).is_some();
        let direct = self.others.contains_key(&peer)
            || self
                .peers
                .get(&peer)
                .is_some_and(|known| !known.directs.is_empty());
        let candidates = self.candidates.to_tell(loopback);
        if waits || direct || candidates.is_empty() {
            return None;
        }
        upgrade::begin(self.local, (peer, id), endpoint, &candidates)
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        if let Some(dial) = self.dials.remove(&id)
            && let Some(upgrade) = self.upgrade(dial.peer, dial.star)
        {
            upgrade.dialling = false;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.back = None;
        }
        if let Some(star) = leads_to(endpoint) {
            self.star_established(peer, id, endpoint, star);
        } else if !endpoint.is_relayed() {
            self.direct_established(peer, id);
        }
        self.forget_if_gone(peer);
    }

    fn star_established(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        star: StarAddr,
    ) {
        let mut upgrade = Upgrade::new(endpoint.clone(), star.rendezvous().is_loopback());
        let no_streams = upgrade.no_streams();
        match self.starting.remove(&id) {
            Some(dcutr) => upgrade.begin(dcutr, now()),
            None => {
                let crossed = self.crosses(peer, endpoint).map(|wait| now() + wait);
                let until = self.losses.wait_for(&peer, now()).max(crossed);
                if let Some(until) = until {
                    upgrade.wait_until(until);
                }
            }
        }
        let known = self.peers.entry(peer).or_default();
        known.star = Some((star.to_multiaddr(), endpoint.is_dialer()));
        known.stars.insert(id, upgrade);
        known.watch(now());
        let direct = known.directs.keys().next().copied();
        self.tell(peer, id, Command::Watch(no_streams));
        if let Some(connection) = direct {
            self.tell_directs(peer, probe::Command::Keep);
            self.report(Event::Connected { peer, connection });
        }
        self.look_soon();
    }

    fn direct_established(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            self.others.entry(peer).or_default().insert(id);
            return;
        };
        let first = known.directs.is_empty();
        known.directs.insert(id, Direct::new(now()));
        known.watch(now());
        // What is still being tried would be one connection more.
        known.stars.values_mut().for_each(Upgrade::succeeded);
        if known.stars.is_empty() {
            self.taken_over(peer);
        } else if first {
            tracing::debug!(%peer, "there is a direct connection");
            self.report(Event::Connected {
                peer,
                connection: id,
            });
        }
        self.look_soon();
    }

    /// The peer's direct connections are the only ones.
    fn taken_over(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.watch(now());
        self.tell_directs(peer, probe::Command::TakenOver);
    }

    fn tell_directs(&mut self, peer_id: PeerId, command: probe::Command) {
        let Some(known) = self.peers.get(&peer_id) else {
            return;
        };
        let directs = known.directs.keys();
        self.actions
            .extend(directs.map(|id| ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(*id),
                event: Either::Right(Either::Left(command)),
            }));
    }

    fn closed(&mut self, closed: &ConnectionClosed<'_>) {
        let (peer, id) = (closed.peer_id, closed.connection_id);
        self.other_closed(peer, id);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.stars.remove(&id).is_some() {
            if known.stars.is_empty() && !known.directs.is_empty() {
                tracing::debug!(%peer, "all goes directly");
                self.taken_over(peer);
                self.report(Event::Upgraded { peer });
            }
        } else if let Some(direct) = known.directs.remove(&id)
            && known.directs.is_empty()
        {
            // Not all transports tell in a way that can be told apart that a path is gone.
            let unanswered = direct.is_overdue(now(), 2 * self.probe_interval);
            let lost = match closed.cause {
                Some(ConnectionError::IO(_)) => unanswered || is_loss(closed.cause),
                _ => false,
            };
            self.direct_ended(peer, lost, closed.remaining_established == 0);
        }
        self.forget_if_gone(peer);
    }

    /// A connection has ended that may have been a direct one that was there first.
    fn other_closed(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(others) = self.others.get_mut(&peer) else {
            return;
        };
        others.remove(&id);
        if others.is_empty() {
            self.others.remove(&peer);
            if let Some(known) = self.peers.get_mut(&peer) {
                known
                    .stars
                    .values_mut()
                    .for_each(|upgrade| upgrade.learned(now()));
                self.look_soon();
            }
        }
    }

    fn direct_ended(&mut self, peer: PeerId, lost: bool, alone: bool) {
        let now = now();
        // One that ends before it has taken over would do so again.
        self.losses.add(peer, now);
        if lost {
            tracing::debug!(%peer, "the direct connection is lost");
            self.report(Event::Lost { peer });
        }
        let until = self.losses.wait_for(&peer, now).unwrap_or(now);
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.directs.is_empty() {
            known.direct_ended(until);
        }
        if lost && alone {
            known.goes_back(now);
        }
        self.look_soon();
    }

    fn forget_if_gone(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(Peer::is_gone) {
            self.peers.remove(&peer);
        }
    }
}

/// Handshakes and their dials.
impl Behaviour {
    /// Begins an upgrade of a connection that is there.
    fn begin(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        upgrade.next = upgrade.next.filter(|next| *next > now());
        let (endpoint, loopback) = (upgrade.endpoint.clone(), upgrade.loopback);
        let Some((dcutr, handler)) = self.begun(peer, id, &endpoint, loopback) else {
            return;
        };
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        upgrade.begin(dcutr, now());
        let handler = Box::new(handler);
        let command = match upgrade.leads() {
            true => Command::Lead(handler),
            false => Command::Follow(handler),
        };
        self.tell(peer, id, command);
    }

    fn upgrade(&mut self, peer: PeerId, id: ConnectionId) -> Option<&mut Upgrade> {
        self.peers.get_mut(&peer)?.stars.get_mut(&id)
    }

    /// This node has learned an address: upgrades that wait for one begin, and those that wait for the other node
    /// have it.
    fn learned(&mut self) {
        let now = now();
        let peers = self.peers.values_mut();
        let upgrades = peers.flat_map(|known| known.stars.values_mut());
        upgrades.for_each(|upgrade| upgrade.learned(now));
        if !self.peers.is_empty() {
            self.look_soon();
        }
    }

    /// Does what the connection's dcutr wants.
    fn grant(&mut self, peer: PeerId, id: ConnectionId) {
        while let Some(wish) = self.upgrade(peer, id).and_then(Upgrade::wish) {
            match wish {
                ToSwarm::Dial { opts } => self.dial(peer, id, opts),
                ToSwarm::NotifyHandler { event, .. } => {
                    self.tell(peer, id, Command::Inner(event));
                }
                ToSwarm::GenerateEvent(dcutr::Event {
                    result: Err(error), ..
                }) => {
                    tracing::debug!(%peer, %error, "an attempt at a direct connection has failed");
                    self.handshake_failed(peer, id);
                }
                // It is not told of successes, and wants nothing else.
                _ => {}
            }
        }
    }

    fn dial(&mut self, peer: PeerId, star: ConnectionId, opts: DialOpts) {
        let Some(upgrade) = self.upgrade(peer, star) else {
            return;
        };
        if !upgrade.may_dial() {
            tracing::debug!(%peer, "no dials are left, or one is under way");
            if upgrade.leads() && upgrade.is_spent() && upgrade.give_up() {
                let error = Error::Unreachable;
                self.report(Event::Failed { peer, error });
            }
            return;
        }
        let id = opts.connection_id();
        let dial = Dial {
            peer,
            star,
            id,
            instead: None,
        };
        self.dials.insert(id, dial);
        self.act(ToSwarm::Dial { opts });
    }

    /// A dial of an upgrade has failed, or was put aside for one with other addresses.
    fn dial_failed(&mut self, dial: Dial, error: &DialError) {
        let Dial { peer, star, id, .. } = dial;
        match dial.instead {
            Some((role, addresses)) if !addresses.is_empty() && self.is_dialling(peer, star) => {
                let opts = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addresses);
                let opts = match role {
                    Endpoint::Dialer => opts.build(),
                    Endpoint::Listener => opts.override_role().build(),
                };
                let dial = Dial {
                    peer,
                    star,
                    id,
                    instead: None,
                };
                self.dials.insert(opts.connection_id(), dial);
                self.act(ToSwarm::Dial { opts });
            }
            None if matches!(error, DialError::Denied { .. }) => self.denied(peer, star),
            _ => {
                tracing::debug!(%peer, %error, "the peer is not reached directly");
                if let Some(upgrade) = self.upgrade(peer, star) {
                    upgrade.dial_failed(peer, id, error);
                }
                self.grant(peer, star);
            }
        }
    }

    fn is_dialling(&mut self, peer: PeerId, star: ConnectionId) -> bool {
        self.upgrade(peer, star)
            .is_some_and(|upgrade| upgrade.dialling)
    }

    /// Another behaviour refuses a connection that the peer has made. A dial to the same end comes to nothing, too.
    fn refused(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else {
            return;
        };
        let stars = known.stars.iter();
        let dialling = stars.filter(|(_, upgrade)| upgrade.dialling);
        let dialling: Vec<_> = dialling.map(|(id, _)| *id).collect();
        for id in dialling {
            self.denied(peer, id);
        }
    }

    /// Another behaviour refuses a direct connection, and would again.
    fn denied(&mut self, peer: PeerId, star: ConnectionId) {
        if self.upgrade(peer, star).is_some_and(Upgrade::give_up) {
            let error = Error::Denied;
            self.report(Event::Failed { peer, error });
        }
    }

    fn handshake_failed(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(upgrade) = self.upgrade(peer, id) else {
            return;
        };
        let error = match upgrade.handshake_failed(now()) {
            Outcome::Dialled => Some(Error::Unreachable),
            Outcome::Over => Some(Error::NoPart),
            Outcome::Again => None,
        };
        if let Some(error) = error.filter(|error| upgrade.is_news(*error)) {
            self.report(Event::Failed { peer, error });
        }
        self.look_soon();
    }
}

/// What is looked at from time to time.
impl Behaviour {
    fn look(&mut self) {
        let now = now();
        if self.tick.is_some_and(|tick| now > tick + STALLED) {
            self.peers.values_mut().for_each(|known| known.forgive(now));
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        // What is done here may want to be looked at sooner.
        self.tick = None;
        for peer in peers {
            let next = self.look_at(peer, now).map(|next| now + next);
            self.tick = [self.tick, next].into_iter().flatten().min();
            self.forget_if_gone(peer);
        }
    }

    /// Gives how soon there may be something to look at again.
    fn look_at(&mut self, peer: PeerId, now: Instant) -> Option<Duration> {
        self.give_up_overdue(peer, now);
        let known = self.peers.get_mut(&peer)?;
        let due = known.due(now);
        let back = known.back.as_mut().filter(|back| back.is_due(now));
        let back = back.map(|back| {
            let opts = DialOpts::peer_id(peer)
                // One that is being closed still counts as a connection.
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

    /// A dial of another behaviour, or on the way back to a rendezvous, has failed.
    fn other_dial_failed(&mut self, peer: PeerId, id: ConnectionId) {
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

/// Where a peer is to be dialled that is connected through a rendezvous.
fn leads_to(endpoint: &ConnectedPoint) -> Option<StarAddr> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => StarAddr::try_from(address).ok(),
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => {
            let listener = StarAddr::try_from(local_addr).ok()?;
            match send_back_addr.iter().last() {
                Some(Protocol::P2p(peer)) => Some(listener.with_peer(peer)),
                _ => None,
            }
        }
    }
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
        // What dcutr has put into its order cannot be changed.
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
