//! The configuration of a rendezvous, and the reasons for the defaults.

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
    rate::Rate,
    tls::TlsConfig,
};
use crate::time;

/// The configuration of a [`Server`](super::Server), or of a [`Rendezvous`](super::Rendezvous) without a socket.
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which means never. An interval of
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
    /// Returns the defaults, with these reasons:
    ///
    /// - Listens on a free port of the loopback interface: an embedded server should be reachable from elsewhere only
    ///   if its application says so.
    /// - Requires a proof of the key: without it, any peer can claim any id.
    /// - Accepts websocket-star addresses only. In the npm server's library this is off by default, but its command
    ///   line turns it on.
    /// - Announces each peer every 10 s, like the npm server. Peers there forget a peer that is not announced for a
    ///   while.
    /// - Expects a ping every 25 s, and allows 20 s more: engine.io's own defaults.
    /// - Speaks plain WebSocket: TLS needs a certificate, and often a proxy terminates it.
    /// - Trusts no proxy: otherwise any client could claim another address.
    /// - Gives each address the same weight: the server cannot see how many peers are behind one.
    /// - Accepts peers that join under any name: the server cannot know its own names.
    /// - Lets every peer in: the server cannot know whom to keep out.
    /// - Has one network for all peers: the server cannot know which of them belong together.
    /// - Has no quotas: the server cannot know what its line carries, nor what that costs.
    /// - Serves `/metrics`: they name no peer, and anyone who can connect may read them, as with the npm server's
    ///   command line. The page and `/health` tell no more.
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
    /// Sets the address to listen on; port 0 takes any free port.
    #[must_use]
    pub fn with_listen_addr(mut self, addr: SocketAddr) -> Self {
        self.listen_addr = addr;
        self
    }

    /// Sets whether a peer must prove that it has the key of the peer id in its address. Without the proof, the peer
    /// that joins an address last has it.
    #[must_use]
    pub fn with_challenge(mut self, challenge: bool) -> Self {
        self.challenge = challenge;
        self
    }

    /// Sets whether an address must be a websocket-star address, rather than any multiaddr.
    #[must_use]
    pub fn with_strict_multiaddr(mut self, strict: bool) -> Self {
        self.strict_multiaddr = strict;
        self
    }

    /// Sets the interval at which each peer is announced to all others.
    #[must_use]
    pub fn with_announce_interval(mut self, interval: Duration) -> Self {
        self.announce_interval = time::interval(interval, SHORTEST_INTERVAL);
        self
    }

    /// Sets the interval at which a client is told to send pings. The protocol has whole milliseconds. At most 10 days.
    #[must_use]
    pub fn with_ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_HEARTBEAT);
        self
    }

    /// Sets how long a client may be silent beyond the ping interval. It is also the time that the client is told to
    /// wait for the answer to a ping. At most 10 days.
    #[must_use]
    pub fn with_ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout.clamp(SHORTEST_INTERVAL, LONGEST_HEARTBEAT);
        self
    }

    /// Makes everything on the server's port speak TLS, with this certificate.
    /// [`Server::reload_tls`](super::Server::reload_tls) replaces it later.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the weight of each address of a network, which is 1 otherwise, for the sharing of scarce resources. Use it
    /// for a company or a carrier that has many peers behind one address. May be called for several networks; the one
    /// with the longest prefix counts.
    ///
    /// Scarce resources are shared by origin, which is an IPv4 address or an IPv6 /64. A whole IPv6 /48 weighs at most
    /// four times as much as one of its addresses, or as much as the heaviest of them.
    /// [`Limits::with_max_links_per_ip`] is not shared; it is the same for every weight.
    #[must_use]
    pub fn with_origin_weight(mut self, network: Network, weight: u32) -> Self {
        self.origin_weights.insert(network, weight);
        self
    }

    /// Sets the names and IP addresses under which peers may join. Other addresses are refused with
    /// `Invalid multiaddr`, so that no peer can be announced at a host that is not this server. If the list is empty,
    /// any name is accepted.
    ///
    /// Only the host of an address is checked. A DNS name is compared without regard to case, and may come after
    /// `/dns`, `/dns4`, `/dns6` or `/dnsaddr`. The port and the transport are not checked, because a proxy may have its
    /// own. Peers on the same machine need a name, too: to let them join as `/ip4/127.0.0.1/…`, add `127.0.0.1`.
    #[must_use]
    pub fn with_public_names(mut self, names: impl IntoIterator<Item = PublicName>) -> Self {
        self.public_names = names.into_iter().collect();
        self
    }

    /// Sets the maximum number of connections, links included, for a process that has fewer file descriptors than
    /// [`Limits::with_max_links`] needs. Use at least 3. These connections are shared by origins, too. By default, only
    /// the limit of links limits the connections.
    ///
    /// If a server runs out of descriptors all the same, it ends connections of the origin that has the most.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.most_connections = connections;
        self
    }

    /// Returns the maximum number of connections at one time, and so the number of descriptors that they may need.
    pub fn max_connections(&self) -> usize {
        let wanted = places::most(self.limits.links, !self.trusted_proxies().is_empty());
        wanted.min(self.most_connections)
    }

    /// Returns the configured maximum of connections, if it is no more than the links need.
    pub(crate) fn few_connections(&self) -> Option<usize> {
        let most = self.most_connections;
        (self.max_connections() == most).then_some(most)
    }

    /// Sets the limits for each peer, and for all peers together.
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

    /// Returns the same settings without TLS, for an application that ends TLS itself.
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

/// The shortest interval. An interval of zero would spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
/// The longest ping interval or ping timeout. JavaScript clients add the two, and their timers take at most 24 days: a
/// longer timer fires at once.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// The limits for each peer, and for all peers together.
///
/// A duration of more than 30 years, such as [`Duration::MAX`], counts as 30 years, which means never. A timeout of
/// zero expires at once.
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
    /// Returns the defaults, with these reasons:
    ///
    /// - `message`: 1,000,000 bytes, as in engine.io 3. The deployed peers split longer data.
    /// - `queue`: 1 MiB a link, which is one message of any size, and 10 ms of a gigabit line.
    /// - `memory`: 256 MiB for all links together, in addition to some 6 KiB for each link. It fits the smallest
    ///   machines for rent, and is enough for a hundred links with full queues.
    /// - `announce_rate`: 16 MiB/s in all. Up to some 1,000 peers are announced as often as by the npm server, more of
    ///   them less often. Beyond 5,000 links the rate grows with their number, up to three times as much, so that each
    ///   link receives some 3 KiB/s: 10,000 peers are announced every 7 minutes.
    /// - `links`: 10,000, at some 6 KiB each while idle.
    /// - `links_per_ip`: 1,000 from one IPv4 address or one IPv6 /64. Ten addresses are needed to fill the server, and
    ///   then those that have the most give way to others. A company or a provider behind one address still fits. The
    ///   loopback address counts like any other: add a reverse proxy to the
    ///   [trusted proxies](Config::with_trusted_proxies), or all links count as its own.
    /// - `connection_rate`: 25 a second and 1,200 at once for an origin. So all links that an origin may have can come
    ///   back at once after the server was away, with some requests besides. A TLS handshake costs a millisecond with
    ///   an RSA key, so no origin gets more than a fortieth of a core in the long run.
    /// - `joins`: 16 a link. Deployed clients join one address, and a client with several listeners joins a few.
    /// - `pending_dials`: 256 from and 256 to a link. They last one round trip, and a swarm that starts dials some tens
    ///   of peers at once.
    /// - `open_dials`: 4,096 a link, more than the number of connections that a libp2p node keeps.
    /// - `join_rate`: 4 a second and 64 at once for a link, which is all its addresses four times.
    /// - `origin_join_rate`: 100 a second and 2,000 at once for an origin. So all links that an origin may have can
    ///   join again after the server was away.
    /// - `dial_rate`: 100 a second and 1,000 at once for a link. A node that has just joined may dial every peer it
    ///   hears of, and later no node dials a hundred a second.
    /// - `origin_dial_rate`: ten times that for an origin.
    /// - `refusal_rate`: 100 a second and 1,000 at once for an origin. A peer that behaves is refused once or twice.
    /// - `handshake_timeout`: 10 s, for the HTTP request.
    /// - `http_age`: 60 s for a connection that does not become a link. A page, a monitor and a proxy open another one
    ///   unnoticed.
    /// - `http_requests`: 100 on such a connection, for the same reason.
    /// - `http_rate`: 50 a second and 2,400 at once for an origin, including those that become links. These are two for
    ///   each connection that it may open.
    /// - `join_timeout`: 30 s from the start of a link to its first join, and for the answer to a challenge. Deployed
    ///   clients join at once.
    /// - `dial_timeout`: 30 s for the answer of the dialled peer.
    /// - `stall_timeout`: 60 s in which the peer took not a single byte of the queued data. This is longer than any
    ///   heartbeat, because a peer that computes for a while is not gone.
    /// - `drain_rate`: 2 KiB/s, for a peer that others wait for. No line of today is slower, and a sender to such a
    ///   peer would wait for minutes.
    /// - `hold_timeout`: 5 s for which a receiver may hold up the other dials of a sender. This is less than the
    ///   deadlines of what those dials do, and long enough for a peer that computes for a while.
    /// - `hold_rate`: 128 KiB/s, a megabit. A receiver that takes more than that holds up no sender for long, and a
    ///   receiver with a slower line may still be sent some megabytes at once.
    /// - `shutdown_timeout`: 5 s to hand over queued data when the server is shut down.
    /// - `link_age`: never. A limit is of use only with some proxies and firewalls.
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
    /// Sets the length that every WebSocket message must stay below, in bytes. The leading 0x04 of a binary message
    /// counts. The link of a peer that sends a longer message is closed.
    #[must_use]
    pub fn with_message_limit(mut self, bytes: usize) -> Self {
        self.message = bytes;
        self
    }

    /// Sets how many bytes may wait for one link before its senders have to wait. The dials of the link are written in
    /// turns and share this space: each dial may have eight times as much queued as is free, or one message of any
    /// size. Items of a dial that has at most 17 KiB queued still find room until twice the limit is queued.
    ///
    /// The server's own answers do not wait: they may take up to 4 MiB more. Besides, the socket may hold 256 KiB and
    /// one message.
    #[must_use]
    pub fn with_queue_limit(mut self, bytes: usize) -> Self {
        self.queue = bytes;
        self
    }

    /// Sets how many bytes all links together may hold: incomplete messages, data that waits for links, data that waits
    /// to be handed on, and 2 KiB for each dial. Data that waits for a link counts for that link, and so for its
    /// address: it is there because that link does not read it.
    ///
    /// When more is held, the largest link of the origin that holds the most for its
    /// [weight](Config::with_origin_weight) is closed. Not counted are the buffers of the system for each socket, and
    /// TLS and HTTP before there is a link; those are limited for each connection. Announcements are not counted
    /// either; there are at most 4 MiB of them, or 64 KiB for each tenant if that is more.
    #[must_use]
    pub fn with_max_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets how many bytes a second all announcements together may take, with up to 5,000 links. With more links, the
    /// rate grows as their number does, up to three times. Announcements that exceed the rate come later, in an order
    /// that is fair among origins. Newcomers come before repeats of the same origin. If one origin has far more links
    /// than the others, the bytes for its surplus links are not charged, up to four times the rate. So announcements to
    /// them do not make announcements rarer for the others.
    #[must_use]
    pub fn with_announce_rate(mut self, bytes_per_second: usize) -> Self {
        self.announce_rate = bytes_per_second.max(1);
        self
    }

    /// Sets the maximum number of links. In addition, there are 1,024 connections for other HTTP requests.
    ///
    /// When all are taken, they are shared: a new connection or link gets the place of one of the origin that has the
    /// most for its [weight](Config::with_origin_weight), as long as its own origin has less. A connection that is not
    /// a link gives way first, then the newest link that has not joined, then the newest link. If the newcomer's origin
    /// already has its share, the newcomer is answered with 503, or its connection is reset. Connections of
    /// [trusted proxies](Config::with_trusted_proxies) have 1,024 places of their own until they name their client.
    #[must_use]
    pub fn with_max_links(mut self, links: usize) -> Self {
        self.links = links;
        self
    }

    /// Sets the maximum number of links from one IPv4 address, or from one IPv6 /64. Further ones are answered
    /// with 429. The loopback address is no exception; behind a reverse proxy, see [`Config::with_trusted_proxies`].
    #[must_use]
    pub fn with_max_links_per_ip(mut self, links: usize) -> Self {
        self.links_per_ip = links;
        self
    }

    /// Sets how many times a second an origin may connect, and how many times at once after a rest. Both are at least
    /// one, and count for each unit of its [weight](Config::with_origin_weight). A connection that exceeds this is
    /// reset before it costs a TLS handshake or a request. A trusted proxy may connect at any rate; a client that opens
    /// too many links through it is answered with 429. A connection that begins with a PROXY protocol header counts for
    /// the client that the header names.
    #[must_use]
    pub fn with_connection_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.connection_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets how many addresses one link may join. Those with an open challenge count, too.
    #[must_use]
    pub fn with_max_joins(mut self, joins: usize) -> Self {
        self.joins = joins;
        self
    }

    /// Sets how many dials from a link, and as many to it, may wait for their answer. If a link already has this many
    /// dials to it, its dialers share them: the dial that gives way is the latest one of the link that dials it most,
    /// of the origin that dials it most.
    #[must_use]
    pub fn with_max_pending_dials(mut self, dials: usize) -> Self {
        self.pending_dials = dials;
        self
    }

    /// Sets how many dials from a link, and as many to it, may have an open stream. Pending dials count, too. They are
    /// shared in the same way.
    #[must_use]
    pub fn with_max_open_dials(mut self, dials: usize) -> Self {
        self.open_dials = dials;
        self
    }

    /// Sets how many times a second a link may join, and how many times at once after a rest. Both are at least one. A
    /// join that exceeds this is refused. A join that fails because its proof is wrong counts, too.
    #[must_use]
    pub fn with_join_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.join_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets the same as [`with_join_rate`](Self::with_join_rate) for all links of an origin together, for each unit of
    /// its [weight](Config::with_origin_weight).
    #[must_use]
    pub fn with_origin_join_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.origin_join_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets how many times a second a link may dial, and how many times at once after a rest. Both are at least one.
    /// Dials that fail count, too.
    #[must_use]
    pub fn with_dial_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.dial_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets the same as [`with_dial_rate`](Self::with_dial_rate) for all links of an origin together, for each unit of
    /// its [weight](Config::with_origin_weight).
    #[must_use]
    pub fn with_origin_dial_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.origin_dial_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets how many times a second the requests of an origin may be refused, and how many times at once after a rest.
    /// Both are at least one, and count for each unit of its [weight](Config::with_origin_weight). A link that is
    /// refused more often is not read until the origin has rested, for 5 seconds at most. A dial that fails within the
    /// rate of dials does not count, because the dialled peer may have left.
    #[must_use]
    pub fn with_refusal_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.refusal_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets the time limit of each step before a link: the PROXY protocol header, the TLS handshake, and the arrival of
    /// each HTTP request on the connection. It is also the longest time for which a client may take nothing of an
    /// answer.
    #[must_use]
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = time::timeout(timeout);
        self
    }

    /// Sets the maximum age of a connection that is not a link, however many requests it sends. An answer that is under
    /// way then has half a second more. A stream of events of the operator's page may last longer.
    #[must_use]
    pub fn with_max_http_age(mut self, age: Duration) -> Self {
        self.http_age = time::timeout(age);
        self
    }

    /// Sets how many requests are answered on one connection, at least one. The last answer says that it is the last.
    #[must_use]
    pub fn with_max_http_requests(mut self, requests: usize) -> Self {
        self.http_requests = requests;
        self
    }

    /// Sets how many HTTP requests a second an origin may send on all its connections, and how many at once after a
    /// rest. Both are at least one, and count for each unit of its [weight](Config::with_origin_weight). A request that
    /// exceeds this is answered with 429, and its connection ends. Requests through a
    /// [trusted proxy](Config::with_trusted_proxies) count for the client that it names.
    #[must_use]
    pub fn with_http_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.http_rate = Rate::new(per_second, burst);
        self
    }

    /// Sets how long a link may last without ever joining, and how long a challenge is valid.
    #[must_use]
    pub fn with_join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = time::timeout(timeout);
        self
    }

    /// Sets how long a dialled peer may take to answer before the dial fails.
    #[must_use]
    pub fn with_dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = time::timeout(timeout);
        self
    }

    /// Sets how long a peer may take none of the data queued for its link before the link is closed. At least 20 ms.
    /// The system hands bytes on in steps of some 256 KiB (on Linux; elsewhere the steps may be larger). So a peer that
    /// takes less than one step in this time may count as one that takes nothing.
    #[must_use]
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = time::interval(timeout, SHORTEST_INTERVAL);
        self
    }

    /// Sets how many bytes a second a peer must take while others wait for room in its queue, on average over the stall
    /// timeout. With 0, it may be as slow as it likes. The link of a peer that takes less is closed, because its
    /// senders could not reach any other peer meanwhile.
    #[must_use]
    pub fn with_min_drain_rate(mut self, bytes_per_second: u64) -> Self {
        self.drain_rate = bytes_per_second;
        self
    }

    /// Sets how long a receiver that takes too little may hold up the other dials of a link that sends to it. The
    /// sending link is not read while its last item finds no room. After this time the dial is reset, both peers are
    /// told why, and the links stay open. A link with only one dial waits for the
    /// [stall timeout](Self::with_stall_timeout) instead.
    ///
    /// A receiver owes each link the time for which it has held it up, over all dials. It pays with the bytes that it
    /// takes, see [`with_hold_rate`](Self::with_hold_rate), and with a tenth of the time in which it holds up nothing.
    #[must_use]
    pub fn with_hold_timeout(mut self, timeout: Duration) -> Self {
        self.hold_timeout = time::timeout(timeout);
        self
    }

    /// Sets how many bytes a second a receiver must take, from any sender, to be allowed to hold up a link for longer
    /// than [`with_hold_timeout`](Self::with_hold_timeout). With 0, any byte is enough. The system takes bytes in steps
    /// of some 256 KiB, so a receiver that takes less than one step in the timeout may count as one that takes nothing.
    #[must_use]
    pub fn with_hold_rate(mut self, bytes_per_second: u64) -> Self {
        self.hold_rate = bytes_per_second;
        self
    }

    /// Sets how long a shutdown may take to hand over queued data.
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
