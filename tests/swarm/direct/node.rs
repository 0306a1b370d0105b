//! A node that is at a rendezvous and can be reached directly, driven in a task of its own.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    connection_limits::{self, ConnectionLimits},
    gossipsub, identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::{DialError, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use libp2p_stream::{Control, OpenStreamError};
use libp2p_websocket_star::{AddressGuard, Behaviour, direct, preset::Star, rendezvous::Server};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    node::{IDLE, join},
    support::{ed25519, hasty, node::Bulk, pattern, within},
};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
/// A protocol that reads everything, and answers with a sum of it.
const SUM: StreamProtocol = StreamProtocol::new("/test/sum/1");
const PIECE: usize = 1 << 16;
/// The most events that may wait for a test.
const EVENTS: usize = 4096;

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Tcp,
    Quic,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub kind: Kind,
    pub listens: bool,
    pub direct: bool,
    pub ping: Duration,
    /// The time after which a connection without streams is closed.
    pub idle: Duration,
    /// The most connections with each peer.
    pub limit: Option<u32>,
    pub gossipsub: bool,
}

impl Options {
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            listens: true,
            direct: true,
            ping: Duration::from_secs(15),
            idle: IDLE,
            limit: None,
            gossipsub: false,
        }
    }
}

#[derive(NetworkBehaviour)]
pub struct Inner {
    limits: connection_limits::Behaviour,
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    streams: libp2p_stream::Behaviour,
    pub gossipsub: Toggle<gossipsub::Behaviour>,
    pub requests: request_response::Behaviour<Bulk>,
    direct: Toggle<direct::Behaviour>,
}

impl Inner {
    fn new(key: &Keypair, star: &Star, options: &Options) -> Self {
        let identify = identify::Config::new("/test/1".to_owned(), key.public());
        let limits = ConnectionLimits::default().with_max_established_per_peer(options.limit);
        let gossipsub = options.gossipsub.then(|| {
            let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
            gossipsub::Behaviour::new(signed, gossipsub::Config::default()).expect("a behaviour")
        });
        let direct = options.direct.then(|| star.direct().expect("a transport"));
        let requests = [(StreamProtocol::new("/test/bulk/1"), ProtocolSupport::Full)];
        Self {
            limits: connection_limits::Behaviour::new(limits),
            star: star.behaviour().expect("a transport"),
            identify: AddressGuard::new(identify::Behaviour::new(identify)),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(options.ping)),
            streams: libp2p_stream::Behaviour::new(),
            gossipsub: gossipsub.into(),
            requests: request_response::Behaviour::with_codec(
                Bulk,
                requests,
                request_response::Config::default(),
            ),
            direct: direct.into(),
        }
    }
}

pub fn swarm(options: &Options) -> Swarm<Inner> {
    let star = Star::new(hasty());
    SwarmBuilder::with_existing_identity(ed25519())
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("the key signs")
        .with_quic()
        .with_other_transport(|key| star.transport(key))
        .expect("the key signs")
        .with_behaviour(|key| Inner::new(key, &star, options))
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(options.idle))
        .build()
}

/// Returns an address at any port of that host.
fn direct_address(host: Ipv4Addr, kind: Kind) -> Multiaddr {
    let host = Multiaddr::from(host);
    match kind {
        Kind::Tcp => host.with(Protocol::Tcp(0)),
        Kind::Quic => host.with(Protocol::Udp(0)).with(Protocol::QuicV1),
    }
}

/// Listens at that host, and waits until it does.
pub async fn listening(swarm: &mut Swarm<Inner>, host: Ipv4Addr, kind: Kind) {
    let id = swarm
        .listen_on(direct_address(host, kind))
        .expect("an address");
    event_of(swarm, "the listener", |event| {
        matches!(event, SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == id)
    })
    .await;
}

/// Drives the swarm until such an event occurs.
pub async fn event_of(
    swarm: &mut Swarm<Inner>,
    what: &str,
    seen: impl Fn(&SwarmEvent<InnerEvent>) -> bool,
) {
    within(what, async {
        while !seen(&swarm.select_next_some().await) {}
    })
    .await;
}

type Order = Box<dyn FnOnce(&mut Swarm<Inner>) + Send>;

/// A swarm in its task. The task ends when this is dropped.
pub struct Node {
    pub peer: PeerId,
    pub control: Control,
    events: mpsc::Receiver<InnerEvent>,
    orders: mpsc::Sender<Order>,
    dials: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<Vec<Multiaddr>>>>,
    tasks: [JoinHandle<()>; 3],
}

impl Node {
    pub fn new(mut swarm: Swarm<Inner>) -> Self {
        let peer = *swarm.local_peer_id();
        let mut control = swarm.behaviour().streams.new_control();
        let mut incoming = control.accept(ECHO).expect("accepted once");
        let (to, events) = mpsc::channel(EVENTS);
        let (orders, mut ordered) = mpsc::channel::<Order>(EVENTS);
        let dials = Arc::<AtomicUsize>::default();
        let counted = dials.clone();
        let failed = Arc::<Mutex<Vec<Vec<Multiaddr>>>>::default();
        let failures = failed.clone();
        let driver = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::Behaviour(event) => {
                            let full = matches!(to.try_send(event), Err(TrySendError::Full(_)));
                            assert!(!full, "nobody reads the events");
                        }
                        SwarmEvent::Dialing { .. } => {
                            counted.fetch_add(1, Relaxed);
                        }
                        SwarmEvent::OutgoingConnectionError {
                            error: DialError::Transport(errors),
                            ..
                        } => {
                            let dialled = errors.into_iter().map(|(address, _)| address);
                            failures.lock().expect("not poisoned").push(dialled.collect());
                        }
                        event => tracing::debug!(?event, "swarm"),
                    },
                    Some(order) = ordered.recv() => order(&mut swarm),
                }
            }
        });
        let mut summed = control.accept(SUM).expect("accepted once");
        let sum = tokio::spawn(async move {
            while let Some((_, stream)) = summed.next().await {
                tokio::spawn(answer_with_sum(stream));
            }
        });
        let echo = tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    let _ = futures::io::copy(&mut reads, &mut writes).await;
                    let _ = writes.close().await;
                });
            }
        });
        Self {
            peer,
            control,
            events,
            orders,
            dials,
            failed,
            tasks: [driver, echo, sum],
        }
    }

    pub fn order(&self, order: impl FnOnce(&mut Swarm<Inner>) + Send + 'static) {
        let sent = self.orders.try_send(Box::new(order));
        assert!(sent.is_ok(), "the task runs");
    }

    pub fn listen(&self, kind: Kind) {
        self.order(move |swarm| {
            let address = direct_address(Ipv4Addr::LOCALHOST, kind);
            swarm.listen_on(address).expect("an address");
        });
    }

    pub fn dial(&self, at: Multiaddr) {
        self.order(move |swarm| swarm.dial(at).expect("an address"));
    }

    /// Returns the number of dials that its behaviours have started.
    pub fn dials(&self) -> usize {
        self.dials.load(Relaxed)
    }

    /// Returns the addresses of each of its dials that have failed.
    pub fn failed_dials(&self) -> Vec<Vec<Multiaddr>> {
        self.failed.lock().expect("not poisoned").clone()
    }

    pub async fn event<T>(
        &mut self,
        what: &str,
        mut seen: impl FnMut(InnerEvent) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                let event = self.events.recv().await.expect("the task runs");
                if let Some(found) = seen(event) {
                    return found;
                }
            }
        })
        .await
    }

    /// Waits until identify has received the information of a connected peer.
    pub async fn identified(&mut self) {
        self.event("identify", |event| match event {
            InnerEvent::Identify(identify::Event::Received { .. }) => Some(()),
            _ => None,
        })
        .await;
    }

    /// Returns an event that has arrived already.
    pub fn seen(&mut self) -> Option<InnerEvent> {
        self.events.try_recv().ok()
    }

    /// Returns the next event of the behaviour `direct`.
    async fn direct(&mut self, what: &str) -> direct::Event {
        self.event(what, |event| match event {
            InnerEvent::Direct(event) => Some(event),
            _ => None,
        })
        .await
    }

    pub async fn connected(&mut self, other: PeerId) {
        match self.direct("the direct connection").await {
            direct::Event::Connected { peer, .. } if peer == other => {}
            event => panic!("{event:?}"),
        }
    }

    /// Waits until it has a direct connection, and after that no other one.
    pub async fn upgraded(&mut self, other: PeerId) {
        self.connected(other).await;
        self.left_the_rendezvous(other).await;
    }

    pub async fn left_the_rendezvous(&mut self, other: PeerId) {
        let event = self.direct("the end of the other connection").await;
        assert_eq!(event, direct::Event::Upgraded { peer: other });
    }

    /// Waits until it has lost its direct connection. If the other node notices the loss first, that node is back at the
    /// rendezvous while this one still has the direct connection.
    pub async fn lost(&mut self, other: PeerId) {
        loop {
            match self.direct("the loss").await {
                direct::Event::Connected { peer, .. } if peer == other => {}
                event => {
                    assert_eq!(event, direct::Event::Lost { peer: other });
                    return;
                }
            }
        }
    }

    pub async fn failed(&mut self, other: PeerId) -> direct::Error {
        match self.direct("the failure").await {
            direct::Event::Failed { peer, error } if peer == other => error,
            event => panic!("{event:?}"),
        }
    }

    /// Checks that no event of the behaviour `direct` occurs in this time.
    pub async fn quiet_for(&mut self, time: Duration) {
        if let Ok(event) = timeout(time, self.direct("nothing")).await {
            panic!("{event:?}");
        }
    }

    /// Opens a stream to an echo.
    pub async fn open(&mut self, peer: PeerId) -> Stream {
        let opened = async {
            loop {
                match self.control.open_stream(peer, ECHO).await {
                    Ok(stream) => return stream,
                    // The swarm may still choose a connection that is being closed.
                    Err(OpenStreamError::Io(error)) => tracing::debug!(%error, "again"),
                    Err(error) => panic!("{error}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        within("a stream", opened).await
    }

    /// Sends that many pieces of 64 KiB in one direction, and compares their sum.
    pub async fn send_pieces(&mut self, peer: PeerId, pieces: usize) {
        let opened = self.control.open_stream(peer, SUM);
        let mut stream = within("a stream", opened).await.expect("a stream");
        let mut sum = Sum::default();
        for number in 0..pieces {
            let piece = pattern(number, PIECE);
            sum.add(&piece);
            let written = stream.write_all(&piece);
            within("room", written).await.expect("no reset");
        }
        within("the end", stream.close()).await.expect("no reset");
        let mut answer = [0; 8];
        let read = stream.read_exact(&mut answer);
        within("the sum", read).await.expect("no reset");
        assert_eq!(u64::from_be_bytes(answer), sum.0);
    }

    /// Sends that many bytes on a new stream, and compares what comes back.
    pub async fn send(&mut self, peer: PeerId, len: usize) {
        let (mut reads, mut writes) = self.open(peer).await.split();
        let sent = pattern(0, len);
        let write = async {
            writes.write_all(&sent).await.expect("no reset");
            writes.close().await.expect("no reset");
        };
        let mut received = Vec::new();
        let read = reads.read_to_end(&mut received);
        let (read, ()) = within("the echo", futures::future::join(read, write)).await;
        read.expect("no reset");
        assert!(received == sent, "{} bytes of {len}", received.len());
    }
}

/// A sum that depends on each byte and on its position.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }
}

async fn answer_with_sum(mut stream: Stream) {
    let (mut sum, mut piece) = (Sum::default(), vec![0; PIECE]);
    // If the stream is reset, the sender sees it.
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        sum.add(&piece[..read]);
    }
    let _ = stream.write_all(&sum.0.to_be_bytes()).await;
    let _ = stream.close().await;
}

/// Sends until that fails.
pub async fn send_without_end(control: &mut Control, peer: PeerId) -> std::io::Result<()> {
    let opened = control.open_stream(peer, SUM).await;
    let mut stream = opened.map_err(std::io::Error::other)?;
    let piece = pattern(0, PIECE);
    loop {
        stream.write_all(&piece).await?;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts two nodes. The second one dials the first one through the rendezvous.
pub async fn pair(server: &Server, options: [Options; 2]) -> [Node; 2] {
    let (nodes, [at, _]) = apart(server, options).await;
    nodes[1].dial(at);
    nodes
}

/// Starts two nodes at the rendezvous. Returns them with their addresses there.
pub async fn apart(server: &Server, options: [Options; 2]) -> ([Node; 2], [Multiaddr; 2]) {
    let [one, two] = options;
    let ((one, at_one), (two, at_two)) = (
        at_the_rendezvous(server, one).await,
        at_the_rendezvous(server, two).await,
    );
    ([one, two], [at_one, at_two])
}

async fn at_the_rendezvous(server: &Server, options: Options) -> (Node, Multiaddr) {
    let mut swarm = swarm(&options);
    if options.listens {
        listening(&mut swarm, Ipv4Addr::LOCALHOST, options.kind).await;
    }
    let joined = join(&mut swarm, server).await;
    (Node::new(swarm), joined)
}
