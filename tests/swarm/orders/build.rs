//! Builds swarms with their transports in every order, and the rendezvous that they use.

use std::{net::IpAddr, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    dns,
    identity::Keypair,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, websocket, yamux,
};
use libp2p_websocket_star::{
    Behaviour, Config,
    preset::Star,
    rendezvous::{self, Server, TlsConfig},
};

use crate::support::{ed25519, log, node::until, within};

#[derive(NetworkBehaviour)]
pub struct Node {
    pub star: Behaviour,
    pub ping: ping::Behaviour,
    pub relay: Toggle<relay::client::Behaviour>,
}

impl Node {
    pub fn new(star: &Star, relay: Option<relay::client::Behaviour>) -> Self {
        let often = ping::Config::default().with_interval(Duration::from_millis(50));
        Self {
            star: star.behaviour().expect("a transport"),
            ping: ping::Behaviour::new(often),
            relay: relay.into(),
        }
    }
}

pub type Io = Boxed<(PeerId, StreamMuxerBox)>;

/// A function that builds a swarm with the transport in one place.
pub type Order = fn(Config) -> Swarm<Node>;

pub fn tcp_of(key: &Keypair) -> Io {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

pub fn websocket_of(key: &Keypair) -> Io {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let dns = dns::tokio::Transport::system(tcp).expect("a resolver");
    websocket::Config::new(dns)
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

pub fn or(first: Io, second: Io) -> Io {
    first
        .or_transport(second)
        .map(|either, _| either.into_inner())
        .boxed()
}

pub fn resolving(inner: Io) -> Io {
    dns::tokio::Transport::system(inner)
        .expect("a resolver")
        .boxed()
}

/// Builds a swarm whose transport is composed by hand from those of websocket-star and of a relay client.
pub fn with_relay(config: Config, compose: impl FnOnce(&Keypair, Io, Io) -> Io) -> Swarm<Node> {
    log();
    let (key, star) = (ed25519(), Star::new(config));
    let (circuits, client) = relay::client::new(key.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| {
            let star = star.transport(key).expect("the key signs");
            compose(key, star, circuits)
        })
        .expect("a transport")
        .with_behaviour(|_| Node::new(&star, Some(client)))
        .expect("a behaviour")
        .build()
}

/// Builds a swarm with the relay client in front, where the builder puts it.
pub fn by_hand(config: Config, compose: impl FnOnce(&Keypair, Io) -> Io) -> Swarm<Node> {
    with_relay(config, |key, star, circuits| {
        or(circuits, compose(key, star))
    })
}

/// Builds a swarm without a relay client.
pub fn alone(config: Config) -> Swarm<Node> {
    log();
    let star = Star::new(config);
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("a transport")
        .with_behaviour(|_| Node::new(&star, None))
        .expect("a behaviour")
        .build()
}

/// A rendezvous, the spelling of its address, and a configuration that trusts it.
pub struct Place {
    pub server: Server,
    pub base: Multiaddr,
    pub config: Config,
}

impl Place {
    pub async fn plain(ip: &str, host: &str) -> Self {
        let ip: IpAddr = ip.parse().expect("an address");
        Self::start(
            rendezvous::Config::default(),
            ip,
            host,
            "ws",
            Config::default().with_allow_local_rendezvous(true),
        )
        .await
    }

    async fn tls() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let certified = certified.expect("a certificate");
        let (cert, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let tls = TlsConfig::from_pem(cert.as_bytes(), key.as_bytes()).expect("good files");
        let server = rendezvous::Config::default().with_tls(tls);
        let trusting = Config::default()
            .with_allow_local_rendezvous(true)
            .with_root_certificate(cert)
            .expect("a certificate");
        let ip = IpAddr::from([127, 0, 0, 1]);
        Self::start(server, ip, "dns4/localhost", "wss", trusting).await
    }

    async fn start(
        server: rendezvous::Config,
        ip: IpAddr,
        host: &str,
        ws: &str,
        config: Config,
    ) -> Self {
        let server = Server::bind(server.with_listen_addr((ip, 0).into()))
            .await
            .expect("a free port");
        let port = server.local_addr().port();
        let base = format!("/{host}/tcp/{port}/{ws}/p2p-websocket-star");
        Self {
            server,
            base: base.parse().expect("a multiaddr"),
            config,
        }
    }

    pub async fn all() -> Vec<Self> {
        vec![
            Self::plain("127.0.0.1", "ip4/127.0.0.1").await,
            Self::plain("::1", "ip6/::1").await,
            Self::plain("127.0.0.1", "dns4/localhost").await,
            Self::plain("127.0.0.1", "dns/localhost").await,
            Self::tls().await,
        ]
    }
}

pub async fn joined(swarm: &mut Swarm<Node>, base: &Multiaddr) -> Multiaddr {
    swarm.listen_on(base.clone()).expect("a good address");
    until(swarm, "the join", |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        SwarmEvent::ListenerError { error, .. } => panic!("{base}: {error}"),
        _ => None,
    })
    .await
}

/// Returns the address at which `peer` is discovered, now or later.
pub async fn discovered(swarm: &mut Swarm<Node>, peer: PeerId) -> Multiaddr {
    within("the discovery", async {
        loop {
            let mut known = swarm.behaviour().star.discovered();
            if let Some((_, address)) = known.find(|(known, _)| **known == peer) {
                break address.clone();
            }
            drop(known);
            swarm.select_next_some().await;
        }
    })
    .await
}

/// Waits for a ping over the connection that was dialled.
pub async fn pinged(swarm: &mut Swarm<Node>, peer: PeerId, base: &Multiaddr) {
    until(swarm, "a ping", |event| match event {
        SwarmEvent::Behaviour(NodeEvent::Ping(event)) if event.peer == peer => {
            event.result.is_ok().then_some(())
        }
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{base}: {error}"),
        _ => None,
    })
    .await;
}
