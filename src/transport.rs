//! libp2p's [`Transport`] on top of the links.

mod dial;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Ready,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

#[cfg(feature = "direct")]
use futures::TryFutureExt as _;
use futures::{StreamExt as _, channel::mpsc, future::BoxFuture};
use libp2p_core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p_identity::{Keypair, PeerId};
use multiaddr::{Multiaddr, Protocol};

use crate::{
    address::{AddressError, StarAddr},
    config::Config,
    connection::Connection,
    discovery::{self, Announcer, Discovery},
    error::Error,
    hints::Hints,
    link::{Context as LinkContext, LinkEvent, Links, Listening, Orphans, SocketConfig},
    metrics::{Metrics, Snapshot},
    protocol::{session::Settings, stream::Budgets},
};

/// The number of link events that may wait until the transport is polled, in addition to one for each link.
const EVENTS: usize = 16;

/// Reaches peers through websocket-star rendezvous.
///
/// Listening on `/…/p2p-websocket-star` joins the rendezvous under this node's peer id, which is proved with the key.
/// Peers there can then dial `/…/p2p-websocket-star/p2p/<this peer>`. Dialling such an address opens a link to its
/// rendezvous, joins it if no listener has, and dials the peer through it.
///
/// * The listener's address is reported (`NewAddress`) once the rendezvous acknowledges the join, with `/p2p/<this
///   peer>` at its end. If the link is lost, the address expires, a `ListenerError` is reported, and the link is opened
///   again after a growing wait; other listeners are not affected. A listener is closed only for errors that a retry
///   cannot fix: for example, a rendezvous whose challenge is off.
/// * All listeners and connections at one rendezvous share one WebSocket, which is closed after the last of them.
///   Connections outlive their listener.
/// * A dial does nothing until its future is polled. Dropping the future cancels the dial.
///
/// Connections are neither encrypted nor authenticated nor multiplexed; upgrade them:
///
/// ```
/// use libp2p::{Swarm, SwarmBuilder, core::{Transport as _, upgrade}, noise, yamux};
/// use libp2p_websocket_star::{Behaviour, Config, WebSocketStarTransport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = libp2p::identity::Keypair::generate_ed25519();
/// let star = WebSocketStarTransport::new(&key, Config::default());
/// let discovery = star.discovery();
///
/// let swarm: Swarm<Behaviour> = SwarmBuilder::with_existing_identity(key)
///     .with_tokio()
///     .with_other_transport(|key| {
///         Ok(star
///             .upgrade(upgrade::Version::V1Lazy)
///             .authenticate(noise::Config::new(key)?)
///             .multiplex(yamux::Config::default()))
///     })?
///     .with_behaviour(|key| Ok(Behaviour::new(key.public().to_peer_id(), discovery)?))?
///     .build();
/// # drop(swarm);
/// # Ok(())
/// # }
/// ```
///
/// Natively, the transport must be polled, and its dials awaited, in a Tokio runtime with time and IO enabled;
/// otherwise they fail with [`Error::NoRuntime`]. In a browser no runtime is needed. If the runtime of a listener is
/// gone, the listener is closed with [`LinkError::TaskEnded`](crate::error::LinkError::TaskEnded).
///
/// # Beside other transports
/// * `SwarmBuilder::with_dns` resolves names for every transport built before it, including this one. The transport
///   finds the original name through its listeners, the discovered addresses, and the dials of the swarm that the
///   [`Behaviour`](crate::Behaviour) has seen. Without any of these, the address can give a name for TLS:
///   `/ip4/192.0.2.1/tcp/443/tls/sni/star.example/ws/p2p-websocket-star`.
/// * If you compose transports by hand, put this one before a transport that accepts every address, as the DNS
///   transport does: `star.or_transport(dns)`, or `dns::Transport::system(tcp.or_transport(star))`. With
///   `dns.or_transport(…)` no dial reaches it.
/// * Circuits through a relay that is reached through a rendezvous are left to the relay's transport, in any order.
pub struct WebSocketStarTransport {
    local_peer: PeerId,
    links: Arc<Links>,
    link_events: mpsc::Receiver<LinkEvent>,
    announcer: Announcer,
    hints: Arc<Hints>,
    #[cfg(feature = "direct")]
    activity: Arc<crate::activity::Activity>,
    metrics: Metrics,
    listeners: HashMap<ListenerId, Listener>,
    /// Listeners whose link does not know of them yet. To start a link takes a runtime, and only `poll` is sure to run
    /// in one.
    starting: VecDeque<ListenerId>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl fmt::Debug for WebSocketStarTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStarTransport")
            .field("local_peer", &self.local_peer)
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

type Event = TransportEvent<Ready<Result<Connection, Error>>, Error>;

struct Listener {
    address: StarAddr,
    announced: bool,
}

impl WebSocketStarTransport {
    /// Creates a transport that joins as the peer of `keypair`, which is an Ed25519, secp256k1 or RSA key. No published
    /// rendezvous supports ECDSA keys.
    pub fn new(keypair: &Keypair, config: Config) -> Self {
        let local_peer = keypair.public().to_peer_id();
        let (announcer, discovery) = discovery::channel(
            local_peer,
            config.announce_interval,
            config.limits.known_peers,
        );
        let (events, link_events) = mpsc::channel(EVENTS);
        let metrics = Metrics::default();
        let links = Links::new(LinkContext {
            settings: Settings {
                keypair: keypair.clone(),
                join_timeout: config.join_timeout,
                dial_timeout: config.dial_timeout,
                allow_join_with_disabled_challenge: config.allow_join_with_disabled_challenge,
            },
            socket: SocketConfig::new(&config),
            budgets: Budgets {
                receive: config.limits.receive_bytes,
                send: config.limits.send_bytes,
                item: config.limits.item_bytes,
            },
            connections: config.limits.connections,
            known_peers: config.limits.known_peers,
            dial_links: config.limits.dial_links,
            allow_local: config.allow_local_rendezvous,
            listening: Listening::default(),
            stall_timeout: config.stall_timeout,
            hold_up_timeout: config.hold_up_timeout,
            window: config.limits.window_bytes as u64,
            backoff: config.backoff,
            routes: Mutex::default(),
            refusals: Mutex::default(),
            announcer: announcer.clone(),
            events,
            orphans: Orphans::default(),
            counts: metrics.0.clone(),
        });
        Self {
            local_peer,
            links: Arc::new(links),
            link_events,
            announcer,
            hints: discovery.hints(),
            #[cfg(feature = "direct")]
            activity: discovery.activity(),
            metrics,
            listeners: HashMap::new(),
            starting: VecDeque::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    /// Returns a subscription to the peers at all rendezvous that this transport has joined, as they come and go. Give it
    /// to a [`Behaviour`](crate::Behaviour), or use it as a stream.
    pub fn discovery(&self) -> Discovery {
        self.announcer.subscribe()
    }

    /// Returns a handle to the transport's counters, for use after a swarm has taken the transport.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Returns what the transport has done so far.
    pub fn snapshot(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Joined(listener_id) => {
                let Some(listener) = self.listeners.get_mut(&listener_id) else {
                    return;
                };
                listener.announced = true;
                let listen_addr = listener.address.to_multiaddr();
                self.events.push_back(TransportEvent::NewAddress {
                    listener_id,
                    listen_addr,
                });
            }
            LinkEvent::Failed(listener_id, error) => {
                self.expire(listener_id);
                if self.listeners.contains_key(&listener_id) {
                    self.events
                        .push_back(TransportEvent::ListenerError { listener_id, error });
                }
            }
            LinkEvent::Left(listener_id) => self.expire(listener_id),
            LinkEvent::Closed(listener_id, error) => self.closed(listener_id, error),
            LinkEvent::Incoming {
                listener: listener_id,
                from,
                connection,
            } => {
                #[cfg(feature = "direct")]
                let connection = connection.counted(self.activity.of(from));
                // The connection of a removed listener is dropped, and so reset.
                if let Some(listener) = self.listeners.get(&listener_id) {
                    self.events.push_back(TransportEvent::Incoming {
                        listener_id,
                        upgrade: std::future::ready(Ok(connection)),
                        local_addr: listener.address.to_multiaddr(),
                        // The same form as libp2p's relay uses. The host and port of the rendezvous are not the peer's,
                        // and address translation would treat them as the peer's.
                        send_back_addr: Multiaddr::empty().with(Protocol::P2p(from)),
                    });
                }
            }
        }
    }

    fn closed(&mut self, listener_id: ListenerId, error: Error) {
        self.links.closed(listener_id);
        self.expire(listener_id);
        if self.listeners.remove(&listener_id).is_some() {
            let reason = Err(error);
            self.events.push_back(TransportEvent::ListenerClosed {
                listener_id,
                reason,
            });
        }
    }

    /// Starts the links of new listeners.
    fn start_listeners(&mut self) {
        while let Some(id) = self.starting.pop_front() {
            // The listener may have been removed before the first poll.
            if let Some(Listener { address, .. }) = self.listeners.get(&id)
                && let Err(error) = self.links.listen(id, address.clone())
            {
                self.closed(id, error);
            }
        }
    }

    fn expire(&mut self, listener_id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(&listener_id) else {
            return;
        };
        if std::mem::take(&mut listener.announced) {
            let listen_addr = listener.address.to_multiaddr();
            self.events.push_back(TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            });
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Transport for WebSocketStarTransport {
    type Output = Connection;
    type Error = Error;
    type ListenerUpgrade = Ready<Result<Connection, Error>>;
    type Dial = BoxFuture<'static, Result<Connection, Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let parsed = parse(&addr)?;
        if let Some(found) = parsed.peer().filter(|peer| *peer != self.local_peer) {
            return Err(TransportError::Other(Error::WrongPeerId {
                found: Box::new(found),
                local: Box::new(self.local_peer),
            }));
        }
        if let Some(listener) = self.listeners.get(&id) {
            // Two listeners with one id could not be told apart or removed.
            let address = listener.address.to_multiaddr();
            return Err(TransportError::Other(Error::AlreadyListening(address)));
        }
        let address = parsed.with_peer(self.local_peer);
        if self
            .listeners
            .values()
            .any(|listener| listener.address == address)
        {
            return Err(TransportError::Other(Error::AlreadyListening(addr)));
        }
        self.listeners.insert(
            id,
            Listener {
                address,
                announced: false,
            },
        );
        self.starting.push_back(id);
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.remove(&id) else {
            return false;
        };
        self.links.unlisten(id, listener.address.rendezvous());
        self.events.push_back(TransportEvent::ListenerClosed {
            listener_id: id,
            reason: Ok(()),
        });
        self.wake();
        true
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if opts.role.is_listener() {
            // Hole punching is useless here, because the connection is relayed in any case.
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        let to = parse(&addr)?;
        match to.peer() {
            None => Err(TransportError::Other(Error::MissingPeerId(addr))),
            Some(peer) if peer == self.local_peer => Err(TransportError::Other(Error::DialedSelf)),
            Some(peer) => {
                self.hints.asked(&peer);
                let (links, hints) = (self.links.clone(), self.hints.clone());
                let dial = dial::dial(links, hints, peer, to);
                #[cfg(feature = "direct")]
                let dial = {
                    let activity = self.activity.clone();
                    dial.map_ok(move |connection| connection.counted(activity.of(peer)))
                };
                Ok(Box::pin(dial))
            }
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        self.start_listeners();
        while let Some((listener, error)) = self.links.next_orphan(cx.waker()) {
            self.closed(listener, error);
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            match self.link_events.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => self.link_event(event),
                // `None` does not occur, because the transport itself holds a sender.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for WebSocketStarTransport {
    fn drop(&mut self) {
        for (id, listener) in self.listeners.drain() {
            self.links.unlisten(id, listener.address.rendezvous());
        }
    }
}

fn parse(addr: &Multiaddr) -> Result<StarAddr, TransportError<Error>> {
    StarAddr::try_from(addr).map_err(|error| match error {
        AddressError::NotWebsocketStar => TransportError::MultiaddrNotSupported(addr.clone()),
        error => TransportError::Other(error.into()),
    })
}
