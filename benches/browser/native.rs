//! The native side: the rendezvous, and the peers that the page dials through it. They run in this process.

use std::{future::poll_fn, io, pin::Pin};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, SwarmBuilder,
    core::{
        Transport as _,
        transport::{ListenerId, TransportEvent},
    },
    identity::Keypair,
    swarm::SwarmEvent,
};
use libp2p_websocket_star::{
    Config, WebSocketStarTransport,
    preset::Star,
    rendezvous::{self, Server},
};

use crate::{
    Result,
    behaviours::{Behaviours, IDLE, PROTOCOL},
    echo::echo,
    request::{CHUNK, GO, LEN, READY, Request},
};

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Stream = Box<dyn Io>;

/// The rendezvous and the peers. The addresses are text.
pub struct Native {
    pub rendezvous: String,
    /// The address of a peer with the transport alone.
    pub raw: String,
    /// The address of a peer with noise and yamux.
    pub swarm: String,
    _server: Server,
}

impl Native {
    pub async fn start() -> Result<Self> {
        let config = rendezvous::Config::default().with_listen_addr(([127, 0, 0, 1], 0).into());
        let server = Server::bind(config).await?;
        let addresses = server.addresses();
        let rendezvous = addresses.first().ok_or("the rendezvous has no address")?;
        Ok(Self {
            rendezvous: rendezvous.to_string(),
            raw: raw(rendezvous).await?.to_string(),
            swarm: swarm(rendezvous).await?.to_string(),
            _server: server,
        })
    }
}

fn config() -> Config {
    Config::default().with_allow_local_rendezvous(true)
}

async fn raw(rendezvous: &Multiaddr) -> Result<Multiaddr> {
    let mut transport = WebSocketStarTransport::new(&Keypair::generate_ed25519(), config());
    transport.listen_on(ListenerId::next(), rendezvous.clone())?;
    let address = loop {
        match poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await {
            TransportEvent::NewAddress { listen_addr, .. } => break listen_addr,
            TransportEvent::ListenerError { error, .. } => return Err(error.into()),
            TransportEvent::ListenerClosed { reason, .. } => reason?,
            _ => {}
        }
    };
    tokio::spawn(async move {
        loop {
            let event = poll_fn(|cx| Pin::new(&mut transport).poll(cx)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event
                && let Ok(connection) = upgrade.await
            {
                tokio::spawn(serve(Box::new(connection)));
            }
        }
    });
    Ok(address)
}

async fn swarm(rendezvous: &Multiaddr) -> Result<Multiaddr> {
    let star = Star::new(config());
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_other_transport(|key| star.transport(key))?
        .with_behaviour(|key| Ok(Behaviours::new(key, star.behaviour()?)))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    let mut incoming = swarm.behaviour().streams.new_control().accept(PROTOCOL)?;
    swarm.listen_on(rendezvous.clone())?;
    let address = loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => break address,
            SwarmEvent::ListenerError { error, .. } => return Err(error.into()),
            SwarmEvent::ListenerClosed { reason, .. } => reason?,
            _ => {}
        }
    };
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(serve(Box::new(stream)));
        }
    });
    Ok(address)
}

/// Answers the request of the page on a stream.
async fn serve(stream: Stream) {
    if let Err(error) = answer(stream).await {
        // A page that has been left cannot report the error.
        eprintln!("a stream from the page: {error}");
    }
}

async fn answer(mut stream: Stream) -> io::Result<()> {
    let mut request = [0; LEN];
    stream.read_exact(&mut request).await?;
    let request = Request::decode(request)?;
    stream.write_all(&[READY]).await?;
    stream.flush().await?;
    match request {
        Request::Sink => sink(&mut stream).await?,
        Request::Source(bytes) => source(&mut stream, bytes).await?,
        Request::Echo => echo(&mut stream, CHUNK).await?,
    }
    stream.close().await?;
    // Reads to the end first: if the stream were dropped before the page has ended its direction, it would be reset.
    sink(&mut stream).await
}

async fn sink(stream: &mut Stream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn source(stream: &mut Stream, bytes: u64) -> io::Result<()> {
    let mut go = [0];
    stream.read_exact(&mut go).await?;
    if go != [GO] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let data = vec![0x5a; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(CHUNK as u64);
        stream.write_all(&data[..n as usize]).await?;
        left -= n;
    }
    Ok(())
}
