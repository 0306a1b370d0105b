//! Swarms with noise and yamux over several transports.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, OrTransport},
        upgrade,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use libp2p_websocket_star::WebSocketStarTransport;
use tokio::sync::{mpsc, oneshot};

use super::{Kind, Task, place::Place};
use crate::{Result, serve::serve};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench");
/// A time longer than any run.
pub const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// The number of possible streams that leaves no stream room to grow.
const EVEN: usize = 4096;

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: libp2p_stream::Behaviour,
    relay: Toggle<relay::client::Behaviour>,
}

type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

/// Returns the yamux configuration. By default, the windows of a connection may have 1 GiB. yamux reserves 256 KiB,
/// the minimum, for each possible stream, and gives the rest to the streams that ask first. [`EVEN`] possible streams
/// leave no rest.
fn windows(kind: Kind) -> yamux::Config {
    let mut config = yamux::Config::default();
    if kind == Kind::EvenSwarm {
        config.set_max_num_streams(EVEN);
    }
    config
}

fn upgraded<T>(kind: Kind, key: &Keypair, transport: T) -> Result<Authenticated>
where
    T: libp2p::Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    Ok(transport
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(windows(kind))
        .boxed())
}

fn swarm(kind: Kind, via: &Place) -> Result<Swarm<Behaviour>> {
    let key = Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    let mut client = None;
    let transport = match kind {
        Kind::Swarm | Kind::EvenSwarm => {
            upgraded(kind, &key, WebSocketStarTransport::new(&key, via.config()?))?
        }
        Kind::Relay => {
            let (transport, behaviour) = relay::client::new(peer);
            client = Some(behaviour);
            upgraded(kind, &key, OrTransport::new(transport, tcp()))?
        }
        Kind::Tcp => upgraded(kind, &key, tcp())?,
        Kind::WebSocket => upgraded(kind, &key, libp2p_websocket::Config::new(tcp()))?,
        Kind::Raw | Kind::Proxied => return Err(format!("{kind} has no swarm").into()),
    };
    let behaviour = Behaviour {
        streams: libp2p_stream::Behaviour::new(),
        relay: client.into(),
    };
    let config =
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(FOR_EVER);
    Ok(Swarm::new(transport, behaviour, peer, config))
}

/// Returns the address at which a peer of a kind listens.
fn listen_address(kind: Kind, via: &Place) -> Result<Multiaddr> {
    Ok(match kind {
        Kind::Swarm | Kind::EvenSwarm => via.address.parse()?,
        Kind::Relay => via.address.parse::<Multiaddr>()?.with(Protocol::P2pCircuit),
        Kind::WebSocket => "/ip4/127.0.0.1/tcp/0/ws".parse()?,
        _ => "/ip4/127.0.0.1/tcp/0".parse()?,
    })
}

async fn wait_for_address(swarm: &mut Swarm<Behaviour>) -> Result<Multiaddr> {
    let peer = *swarm.local_peer_id();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                return Ok(match address.iter().last() {
                    Some(Protocol::P2p(_)) => address,
                    _ => address.with(Protocol::P2p(peer)),
                });
            }
            SwarmEvent::ListenerClosed { reason, .. } => reason?,
            _ => {}
        }
    }
}

pub async fn listen(kind: Kind, via: &Place) -> Result<(String, Vec<Task>)> {
    let mut swarm = swarm(kind, via)?;
    let mut control = swarm.behaviour().streams.new_control();
    let mut incoming = control.accept(PROTOCOL)?;
    swarm.listen_on(listen_address(kind, via)?)?;
    let address = wait_for_address(&mut swarm).await?;
    let run = Task::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let accept = Task::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(serve(Box::new(stream)));
        }
    });
    Ok((address.to_string(), vec![run, accept]))
}

/// A swarm that dials, and keeps one connection for its streams.
pub struct Dialer {
    peer: PeerId,
    control: libp2p_stream::Control,
    dials: mpsc::Sender<oneshot::Sender<Result<Duration>>>,
    _task: Task,
}

impl Dialer {
    pub async fn start(kind: Kind, via: &Place, to: &str) -> Result<Self> {
        let mut swarm = swarm(kind, via)?;
        let control = swarm.behaviour().streams.new_control();
        let to: Multiaddr = to.parse()?;
        let Some(Protocol::P2p(peer)) = to.iter().last() else {
            return Err(format!("no peer in {to}").into());
        };
        match kind {
            Kind::Swarm | Kind::EvenSwarm => {
                swarm.listen_on(via.address.parse()?)?;
                wait_for_address(&mut swarm).await?;
            }
            // Connect to the relay, as the peer at a rendezvous has its link.
            Kind::Relay => {
                let relay: Multiaddr = via.address.parse()?;
                connect(&mut swarm, DialOpts::from(relay)).await?;
            }
            _ => {}
        }
        connect(&mut swarm, another(peer, &to)).await?;
        let (dials, asked) = mpsc::channel(1);
        Ok(Self {
            peer,
            control,
            dials,
            _task: Task::spawn(run(swarm, peer, to, asked)),
        })
    }

    pub async fn open(&self) -> Result<libp2p::Stream> {
        Ok(self
            .control
            .clone()
            .open_stream(self.peer, PROTOCOL)
            .await?)
    }

    /// Dials once more, and closes that connection again. Returns the time of the dial.
    pub async fn dial(&self) -> Result<Duration> {
        let (reply, answer) = oneshot::channel();
        self.dials.send(reply).await?;
        answer.await?
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    peer: PeerId,
    to: Multiaddr,
    mut asked: mpsc::Receiver<oneshot::Sender<Result<Duration>>>,
) {
    loop {
        tokio::select! {
            _ = swarm.select_next_some() => {}
            Some(reply) = asked.recv() => {
                let took = dial_and_close(&mut swarm, another(peer, &to)).await;
                // The measurement may have been given up.
                let _ = reply.send(took);
            }
        }
    }
}

async fn dial_and_close(swarm: &mut Swarm<Behaviour>, opts: DialOpts) -> Result<Duration> {
    let started = Instant::now();
    let connection = connect(swarm, opts).await?;
    let took = started.elapsed();
    swarm.close_connection(connection);
    loop {
        let event = swarm.select_next_some().await;
        match event {
            SwarmEvent::ConnectionClosed { connection_id, .. } if connection_id == connection => {
                return Ok(took);
            }
            _ => {}
        }
    }
}

/// Returns the options for one more connection, from a port of its own.
fn another(peer: PeerId, to: &Multiaddr) -> DialOpts {
    DialOpts::peer_id(peer)
        .addresses(vec![to.clone()])
        .condition(PeerCondition::Always)
        .allocate_new_port()
        .build()
}

async fn connect(swarm: &mut Swarm<Behaviour>, opts: DialOpts) -> Result<ConnectionId> {
    let dialled = opts.connection_id();
    swarm.dial(opts)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { connection_id, .. } if connection_id == dialled => {
                return Ok(dialled);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } if connection_id == dialled => return Err(error.into()),
            _ => {}
        }
    }
}
