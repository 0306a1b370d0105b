//! What an operator may choose, and why the defaults are what they are.

mod access;
#[cfg(feature = "rendezvous")]
mod admin;
#[cfg(feature = "cluster")]
mod cluster;
mod pages;
mod proxies;
mod quotas;
mod tenants;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use self::{access::AccessSettings, pages::Pages, proxies::ProxySettings, tenants::TenantSettings};
#[cfg(feature = "cluster")]
use super::cluster::Cluster;
use super::{
    names::{PublicName, PublicNames},
    origin::Weights,
    places,
    proxy::Network,
    quota::QuotaSettings,
    registry::Rate,
    tls::TlsConfig,
};
use crate::time;

/// How a [`Server`](super::Server), or a [`Rendezvous`](super::Rendezvous) without a socket, is to run.
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which is never. An interval of
/// less than 20 ms counts as 20 ms.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_websocket_star::rendezvous::{Config, Limits};
///
/// let config = Config::default()
///     .with_listen_addr(([127, 0, 0, 1], 0).into())
///     .with_announce_interval(Duration::from_secs(5))
///     .with_limits(Limits::default().with_max_links(100));
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    listen_addr: SocketAddr,
    challenge: bool,
    strict_multiaddr: bool,
    announce_interval: Duration,
    ping_interval: Duration,
    ping_timeout: Duration,
    tls: Option<TlsConfig>,
    proxies: ProxySettings,
    origin_weights: Weights,
    public_names: PublicNames,
    pages: Pages,
    most_connections: usize,
    access: AccessSettings,
    tenants: TenantSettings,
    quotas: QuotaSettings,
    #[cfg(feature = "cluster")]
    cluster: Option<Cluster>,
    limits: Limits,
}

impl Default for Config {
    /// - Listens on a free port of the loopback interface: one that is embedded is to be reached
    ///   from elsewhere only where its application says so.
    /// - Asks for a proof of the key: without it anybody can be anybody.
    /// - Takes websocket-star addresses only; the npm server's library default is off, but its
    ///   command line turns it on.
    /// - Announces each peer every 10 s, as the npm server; peers there forget those that are not
    ///   announced for a while.
    /// - Expects a ping every 25 s, and gives it 20 s more: engine.io's own defaults.
    /// - Speaks plain WebSocket: TLS needs a certificate, and is often ended by a proxy.
    /// - Trusts no proxy: anybody could say to come from elsewhere.
    /// - Gives each address the same weight: who is behind one is not to be seen from here.
    /// - Takes peers that join under any name: it cannot know its own.
    /// - Lets everybody in: it cannot know whom to keep out.
    /// - Has one network for all: it cannot know who belongs together.
    /// - Has no quotas: it cannot know what its line carries, nor what that costs.
    /// - Serves `/metrics`: they name no peer, and whoever may connect may ask for them, as with the
    ///   npm server's command line. Its page and `/health` tell no more.
    fn default() -> Self {
        Self {
            listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            challenge: true,
            strict_multiaddr: true,
            announce_interval: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            tls: None,
            proxies: ProxySettings::default(),
            origin_weights: Weights::default(),
            public_names: PublicNames::from_iter([]),
            pages: Pages::default(),
            most_connections: usize::MAX,
            access: AccessSettings::default(),
            tenants: TenantSettings::default(),
            quotas: QuotaSettings::default(),
            #[cfg(feature = "cluster")]
            cluster: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The address to listen on; port 0 takes any free one.
    #[must_use]
    pub fn with_listen_addr(mut self, addr: SocketAddr) -> Self {
        self.listen_addr = addr;
        self
    }

    /// Whether a peer must prove that it has the key of the peer id in its address. Without, whoever
    /// joins an address last has it.
    #[must_use]
    pub fn with_challenge(mut self, challenge: bool) -> Self {
        self.challenge = challenge;
        self
    }

    /// Whether an address must be one of websocket-star, rather than any multiaddr.
    #[must_use]
    pub fn with_strict_multiaddr(mut self, strict: bool) -> Self {
        self.strict_multiaddr = strict;
        self
    }

    /// How often each peer is announced to all others.
    #[must_use]
    pub fn with_announce_interval(mut self, interval: Duration) -> Self {
        self.announce_interval = time::interval(interval, SHORTEST_INTERVAL);
        self
    }

    /// How often a client is told to send a ping; in whole milliseconds, as the protocol has it. At most 10
    /// days.
    #[must_use]
    pub fn with_ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_HEARTBEAT);
        self
    }

    /// How long a client may be silent beyond the ping interval, and how long it is told to wait for
    /// the answer to a ping. At most 10 days.
    #[must_use]
    pub fn with_ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout.clamp(SHORTEST_INTERVAL, LONGEST_HEARTBEAT);
        self
    }

    /// Has everything on its port speak TLS, with this certificate. It can be replaced later:
    /// [`Server::reload_tls`](super::Server::reload_tls).
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Has each address of a network weigh `weight` instead of 1 when something is scarce, as for a
    /// company or a carrier that has many peers behind one address. May be called for several networks;
    /// the one with the longest prefix counts.
    ///
    /// What is scarce is shared by origins: an IPv4 address is one, and so is an IPv6 /64. A whole IPv6 /48
    /// weighs four times as much as one of its addresses at most, or as much as the heaviest of them.
    /// [`Limits::with_max_links_per_ip`] is no share, and holds whatever an address weighs.
    #[must_use]
    pub fn with_origin_weight(mut self, network: Network, weight: u32) -> Self {
        self.origin_weights.insert(network, weight);
        self
    }

    /// The names and IP addresses under which peers may join. Others are refused with `Invalid multiaddr`, so that no
    /// peer can be announced at a host that is not this server. With none, any will do.
    ///
    /// Only the host of an address is looked at: a DNS name without regard to case, whether `/dns`, `/dns4`, `/dns6`
    /// or `/dnsaddr` leads to it. The port and the transport may be any, because a proxy may have its own. Peers on the
    /// same machine need a name, too: to join as `/ip4/127.0.0.1/…`, name `127.0.0.1`.
    #[must_use]
    pub fn with_public_names(mut self, names: impl IntoIterator<Item = PublicName>) -> Self {
        self.public_names = names.into_iter().collect();
        self
    }

    /// How many connections there may be in all, links included, where the process has descriptors for fewer than
    /// [`Limits::with_max_links`] asks for; at least 3. They are shared by origins, too. Unless it is set, there is no
    /// other limit than that of the links.
    ///
    /// A server that has no descriptors left all the same ends connections of the origin that has most.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.most_connections = connections;
        self
    }

    /// How many connections there may be at once, and so how many descriptors they may need.
    pub fn max_connections(&self) -> usize {
        let wanted = places::most(self.limits.links, !self.trusted_proxies().is_empty());
        wanted.min(self.most_connections)
    }

    /// The same, if it is less than the links ask for.
    pub(crate) fn few_connections(&self) -> Option<usize> {
        let most = self.most_connections;
        (self.max_connections() == most).then_some(most)
    }

    /// What one peer, and all together, may use.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn listen_addr(&self) -> SocketAddr {
        self.listen_addr
    }

    pub(crate) fn challenge(&self) -> bool {
        self.challenge
    }

    pub(crate) fn strict_multiaddr(&self) -> bool {
        self.strict_multiaddr
    }

    pub(crate) fn announce_interval(&self) -> Duration {
        self.announce_interval
    }

    pub(crate) fn ping_interval(&self) -> Duration {
        self.ping_interval
    }

    pub(crate) fn ping_timeout(&self) -> Duration {
        self.ping_timeout
    }

    pub(crate) fn tls(&self) -> Option<&TlsConfig> {
        self.tls.as_ref()
    }

    /// The same settings, for where TLS is up to somebody else.
    pub(crate) fn without_tls(self) -> Self {
        Self { tls: None, ..self }
    }

    pub(crate) fn origin_weights(&self) -> &Weights {
        &self.origin_weights
    }

    pub(crate) fn public_names(&self) -> &PublicNames {
        &self.public_names
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// An interval of zero would spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
/// JavaScript clients add interval and timeout up, and their timers take no more than 24 days: what is longer is
/// over at once.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// What one peer, and all together, may use.
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which is never. A timeout of zero
/// is over at once.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(crate) message: usize,
    pub(crate) queue: usize,
    pub(crate) memory: usize,
    pub(crate) announce_rate: usize,
    pub(crate) links: usize,
    pub(crate) links_per_ip: usize,
    pub(crate) connection_rate: Rate,
    pub(crate) joins: usize,
    pub(crate) pending_dials: usize,
    pub(crate) open_dials: usize,
    pub(crate) join_rate: Rate,
    pub(crate) origin_join_rate: Rate,
    pub(crate) dial_rate: Rate,
    pub(crate) origin_dial_rate: Rate,
    pub(crate) refusal_rate: Rate,
    pub(crate) handshake_timeout: Duration,
    pub(crate) http_age: Duration,
    pub(crate) http_requests: usize,
    pub(crate) http_rate: Rate,
    pub(crate) join_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) drain_rate: u64,
    pub(crate) hold_timeout: Duration,
    pub(crate) hold_rate: u64,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) link_age: Option<Duration>,
}

impl Default for Limits {
    /// - `message`: 1,000,000 bytes, as engine.io 3; the deployed peers split what is longer.
    /// - `queue`: 1 MiB a link: one message of any size, and 10 ms of a gigabit.
    /// - `memory`: 256 MiB for all links together, beside some 6 KiB for each: it fits the smallest machines that
    ///   are for rent, and a hundred links with full queues.
    /// - `announce_rate`: 16 MiB/s in all: up to some 1,000 peers are announced at npm's pace, more of
    ///   them less often. Beyond 5,000 links it grows with their number, up to three times as much, so that each
    ///   link is told some 3 KiB/s: 10,000 peers are announced every 7 minutes.
    /// - `links`: 10,000; at 16 KiB each while idle.
    /// - `links_per_ip`: 1,000 from one IPv4 address or one IPv6 /64: it takes ten to fill the server, and
    ///   then those who have most give way to others; a company or a provider behind one address still fits. The loopback address counts like
    ///   any other: a reverse proxy has to be one of the
    ///   [trusted proxies](Config::with_trusted_proxies), or all links are its own.
    /// - `connection_rate`: 25 a second and 1,200 at once for an origin: all links that it may have come
    ///   back at once when the server was away, and some requests beside. A TLS handshake costs a
    ///   millisecond with an RSA key, so nobody gets more than a fortieth of a core in the long run.
    /// - `joins`: 16 a link; deployed clients join one address, a client with several listeners
    ///   a few.
    /// - `pending_dials`: 256 from and 256 to a link; they last a round trip, and a swarm that
    ///   starts dials some tens of peers at once.
    /// - `open_dials`: 4,096 a link, more than a libp2p node keeps connections.
    /// - `join_rate`: 4 a second and 64 at once a link: all its addresses four times over.
    /// - `origin_join_rate`: 100 a second and 2,000 at once an origin: all links that it may have join again
    ///   when the server was away.
    /// - `dial_rate`: 100 a second and 1,000 at once a link: a node that has just joined may dial every
    ///   peer it hears of, and later on nobody dials a hundred a second.
    /// - `origin_dial_rate`: ten times that for an origin.
    /// - `refusal_rate`: 100 a second and 1,000 at once an origin: a peer that behaves is refused once or twice.
    /// - `handshake_timeout`: 10 s, for the HTTP request.
    /// - `http_age`: 60 s for a connection that becomes no link: a page, a monitor and a proxy open another
    ///   one without anybody noticing.
    /// - `http_requests`: 100 on such a connection, for the same reason.
    /// - `http_rate`: 50 a second and 2,400 at once for an origin, those that become links included: two for each
    ///   connection that it may open.
    /// - `join_timeout`: 30 s from the start of a link to its first join, and for the answer to a
    ///   challenge; deployed clients join at once.
    /// - `dial_timeout`: 30 s for the answer of the peer that is dialled.
    /// - `stall_timeout`: 60 s in which not a single byte of what is queued was taken; slower than any
    ///   heartbeat, because a peer that computes for a while is not gone.
    /// - `drain_rate`: 2 KiB/s, of a peer that others wait for: below that no line of today is, and
    ///   who sends to such a peer would wait for minutes.
    /// - `hold_timeout`: 5 s that a receiver may hold up the other dials of a sender: less than the deadlines of what they
    ///   do, and long enough for a peer that computes for a while.
    /// - `hold_rate`: 128 KiB/s, a megabit: a receiver that takes more than that holds up nobody for long, and whose line is
    ///   slower may still be sent some megabytes at once.
    /// - `shutdown_timeout`: 5 s to hand over what is queued when the server is shut down.
    /// - `link_age`: never; only some proxies and firewalls make it of use.
    fn default() -> Self {
        Self {
            message: 1_000_000,
            queue: 1024 * 1024,
            memory: 256 * 1024 * 1024,
            announce_rate: 16 * 1024 * 1024,
            links: 10_000,
            links_per_ip: 1000,
            connection_rate: Rate::new(25, 1200),
            joins: 16,
            pending_dials: 256,
            open_dials: 4096,
            join_rate: Rate::new(4, 64),
            origin_join_rate: Rate::new(100, 2000),
            dial_rate: Rate::new(100, 1000),
            origin_dial_rate: Rate::new(1000, 10_000),
            refusal_rate: Rate::new(100, 1000),
            handshake_timeout: Duration::from_secs(10),
            http_age: Duration::from_secs(60),
            http_requests: 100,
            http_rate: Rate::new(50, 2400),
            join_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            drain_rate: 2 * 1024,
            hold_timeout: Duration::from_secs(5),
            hold_rate: 128 * 1024,
            shutdown_timeout: Duration::from_secs(5),
            link_age: None,
        }
    }
}

impl Limits {
    /// A WebSocket message must be shorter than this many bytes, a binary one's leading 0x04
    /// included. The link of a peer that sends a longer one is closed.
    #[must_use]
    pub fn with_message_limit(mut self, bytes: usize) -> Self {
        self.message = bytes;
        self
    }

    /// How many bytes may wait for one link until those who send to it have to wait. They are written in turns, and
    /// shared by the dials: each may have eight times as much queued as is free, or one message of any size. Items of a
    /// dial that has at most 17 KiB queued find room until there is as much again.
    ///
    /// Answers of the server's own do not wait: they may take up to 4 MiB more, and 256 KiB and one message more
    /// are in the hands of the socket.
    #[must_use]
    pub fn with_queue_limit(mut self, bytes: usize) -> Self {
        self.queue = bytes;
        self
    }

    /// How many bytes all links together may hold of messages that have not come whole, of what waits for
    /// them, of what waits to be handed on, and of 2 KiB for each of their dials. What waits for a link counts for that link, and so for
    /// its address: it is there because that one does not read it.
    ///
    /// When more is held, the link that holds most is closed, of the origin that holds most for its
    /// [weight](Config::with_origin_weight). What the system holds of each socket, TLS, and HTTP before
    /// there is a link are not counted; they are bounded for each connection. Nor is what has been announced, of which
    /// there are 4 MiB at most.
    #[must_use]
    pub fn with_max_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How many bytes a second all announcements together may take, with up to 5,000 links; with more, it
    /// grows as their number does, up to three times. What exceeds it comes later, in an order that is fair
    /// among origins. Newcomers come before repeats of the same origin. Links of an origin that has far more
    /// of them than the others come on top of it, up to four times as many bytes: what they hear makes nothing
    /// rarer for the others.
    #[must_use]
    pub fn with_announce_rate(mut self, bytes_per_second: usize) -> Self {
        self.announce_rate = bytes_per_second.max(1);
        self
    }

    /// How many links there may be, and 1,024 connections more for what else is asked over HTTP.
    ///
    /// When all are taken, they are shared: a new one gets the place of one of the origin that has most
    /// for its [weight](Config::with_origin_weight), as long as its own origin has less. A connection that is
    /// no link gives way first, then the newest link that has not joined, then the newest. Whoever
    /// has a share already is answered with 503, or its connection is reset. Connections of
    /// [trusted proxies](Config::with_trusted_proxies) have 1,024 places of their own until they say for whom
    /// they are.
    #[must_use]
    pub fn with_max_links(mut self, links: usize) -> Self {
        self.links = links;
        self
    }

    /// How many links there may be from one IPv4 address, or from one IPv6 /64; further ones are
    /// answered with 429. The loopback address is no exception; behind a reverse proxy, see
    /// [`Config::with_trusted_proxies`].
    #[must_use]
    pub fn with_max_links_per_ip(mut self, links: usize) -> Self {
        self.links_per_ip = links;
        self
    }

    /// How many times a second an origin may connect, and how many times at once after a rest; at least
    /// one each, for each unit of its [weight](Config::with_origin_weight). What exceeds it is reset before
    /// it costs a TLS handshake or a request. A trusted proxy may connect as often as it likes; whoever opens too
    /// many links through it is answered with 429. A connection that begins with a header of the PROXY protocol counts for
    /// whom that names.
    #[must_use]
    pub fn with_connection_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.connection_rate = Rate::new(per_second, burst);
        self
    }

    /// How many addresses one link may join, those whose challenge is open included.
    #[must_use]
    pub fn with_max_joins(mut self, joins: usize) -> Self {
        self.joins = joins;
        self
    }

    /// How many dials from a link, and as many to it, may wait for their answer. When a link has as many to
    /// it, they are shared among those who dial it: the latest of the origin that dials it most, and there
    /// of the link that does, gives way.
    #[must_use]
    pub fn with_max_pending_dials(mut self, dials: usize) -> Self {
        self.pending_dials = dials;
        self
    }

    /// How many dials from a link, and as many to it, pending ones included, may have an open stream. They are
    /// shared in the same way.
    #[must_use]
    pub fn with_max_open_dials(mut self, dials: usize) -> Self {
        self.open_dials = dials;
        self
    }

    /// How many times a second a link may join, and how many times at once after a rest; at least one
    /// each. A join that exceeds it is refused. One that fails, because its proof is wrong, counts too.
    #[must_use]
    pub fn with_join_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.join_rate = Rate::new(per_second, burst);
        self
    }

    /// The same for all links of an origin together, for each unit of its
    /// [weight](Config::with_origin_weight).
    #[must_use]
    pub fn with_origin_join_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.origin_join_rate = Rate::new(per_second, burst);
        self
    }

    /// How many times a second a link may dial, and how many times at once after a rest; at least one
    /// each. Dials that fail count too.
    #[must_use]
    pub fn with_dial_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.dial_rate = Rate::new(per_second, burst);
        self
    }

    /// The same for all links of an origin together, for each unit of its
    /// [weight](Config::with_origin_weight).
    #[must_use]
    pub fn with_origin_dial_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.origin_dial_rate = Rate::new(per_second, burst);
        self
    }

    /// How many times a second the requests of an origin may be refused, and how many times at once after a rest; at
    /// least one each, for each unit of its [weight](Config::with_origin_weight). A link that is refused beyond that
    /// is not read until the origin has rested, 5 seconds at most. A dial that fails within the rate of dials does
    /// not count: the dialled peer may have left.
    #[must_use]
    pub fn with_refusal_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.refusal_rate = Rate::new(per_second, burst);
        self
    }

    /// How long a TLS handshake may take, and as long again an HTTP request to arrive, the first one and each
    /// further one on the same connection, and an answer to be taken. A header of the PROXY protocol may take as long
    /// before all that.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = time::timeout(timeout);
        self
    }

    /// How old a connection may become that is no link, however much it asks for. An answer that is under
    /// way then has half a second more.
    #[must_use]
    pub fn with_max_http_age(mut self, age: Duration) -> Self {
        self.http_age = time::timeout(age);
        self
    }

    /// How many requests are answered on one connection, at least one; the last answer says so.
    #[must_use]
    pub fn with_max_http_requests(mut self, requests: usize) -> Self {
        self.http_requests = requests;
        self
    }

    /// How many HTTP requests a second an origin may send on all its connections, and how many at once after a rest; at
    /// least one each, for each unit of its [weight](Config::with_origin_weight). What exceeds it is answered with 429,
    /// and its connection ends. Through a [trusted proxy](Config::with_trusted_proxies), requests count for whom it names.
    #[must_use]
    pub fn with_http_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.http_rate = Rate::new(per_second, burst);
        self
    }

    /// How long a link may last without ever joining, and how long a challenge is good.
    #[must_use]
    pub fn with_join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = time::timeout(timeout);
        self
    }

    /// How long a dialled peer may take to answer, until the dial fails.
    #[must_use]
    pub fn with_dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = time::timeout(timeout);
        self
    }

    /// How long a link may take none of what is queued for it, until it is closed. The system hands
    /// bytes on in steps of some 256 KiB (on Linux; elsewhere they may be larger), so the link of a peer
    /// that takes less than that in this time may be taken for one that takes nothing. At least 20 ms.
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = time::interval(timeout, SHORTEST_INTERVAL);
        self
    }

    /// How many bytes a second a peer must take while others wait for room in its queue, on the average
    /// over the stall timeout; 0 lets it be as slow as it likes. The link of one that takes less is
    /// closed: whoever sends to it could not reach anybody else meanwhile.
    #[must_use]
    pub fn with_min_drain_rate(mut self, bytes_per_second: u64) -> Self {
        self.drain_rate = bytes_per_second;
        self
    }

    /// How long a receiver that takes too little may hold up the other dials of a link that sends to it: while what was sent
    /// last finds no room, the link is not read. Then the dial is reset, both peers are told why, and the links live. A link
    /// that has one dial only waits for the [stall timeout](Self::with_stall_timeout).
    ///
    /// A receiver owes each link the time that it has held it up, whatever the dials. It pays with the bytes that it takes,
    /// see [`with_hold_rate`](Self::with_hold_rate), and with a tenth of the time in which it holds up nothing.
    #[must_use]
    pub fn with_hold_timeout(mut self, timeout: Duration) -> Self {
        self.hold_timeout = time::timeout(timeout);
        self
    }

    /// How many bytes a second a receiver must take, whoever sends them, to hold up a link for longer than
    /// [`with_hold_timeout`](Self::with_hold_timeout); with 0, any byte will do. The system takes bytes in steps
    /// of some 256 KiB, so a rate of less than that in the timeout is not told from nothing.
    #[must_use]
    pub fn with_hold_rate(mut self, bytes_per_second: u64) -> Self {
        self.hold_rate = bytes_per_second;
        self
    }

    /// How long a shutdown may take to hand over what is queued.
    #[must_use]
    pub fn with_shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = time::timeout(timeout);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_javascript_timer_takes_the_longest_heartbeat() {
        let config = Config::default()
            .with_ping_interval(Duration::MAX)
            .with_ping_timeout(Duration::MAX);
        let together = config.ping_interval() + config.ping_timeout();
        assert!(together.as_millis() <= 0x7fff_ffff);
    }
}
