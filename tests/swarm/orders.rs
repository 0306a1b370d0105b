//! The transport in every place that a swarm may give it: beside TCP, QUIC, DNS, WebSocket and relay, in the order of
//! the builder and in orders made by hand.
//!
//! Each test is one order, and dials a peer in each way that its rendezvous can be written, both as a
//! node that only dials and as one that listens there too.

use std::{net::IpAddr, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, PortUse},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    noise, ping, relay,
    swarm::{DialError, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, websocket, yamux,
};
use libp2p_websocket_star::{
    Behaviour, Config,
    preset::Star,
    rendezvous::{self, Server, TlsConfig},
};

use crate::support::{log, within};

#[derive(NetworkBehaviour)]
struct Node {
    star: Behaviour,
    ping: ping::Behaviour,
    relay: Toggle<relay::client::Behaviour>,
}

impl Node {
    fn new(star: &Star, relay: Option<relay::client::Behaviour>) -> Self {
        let often = ping::Config::default().with_interval(Duration::from_millis(50));
        Self {
            star: star.behaviour().expect("a transport"),
            ping: ping::Behaviour::new(often),
            relay: relay.into(),
        }
    }
}

type Io = Boxed<(PeerId, StreamMuxerBox)>;

/// Builds a swarm with the transport in one place.
type Order = fn(Config) -> Swarm<Node>;

fn tcp_of(key: &Keypair) -> Io {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

fn websocket_of(key: &Keypair) -> Io {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let dns = dns::tokio::Transport::system(tcp).expect("a resolver");
    websocket::Config::new(dns)
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

fn or(first: Io, second: Io) -> Io {
    first
        .or_transport(second)
        .map(|either, _| either.into_inner())
        .boxed()
}

fn resolving(inner: Io) -> Io {
    dns::tokio::Transport::system(inner)
        .expect("a resolver")
        .boxed()
}

/// A swarm with a transport that was put together by hand from that of websocket-star.
fn by_hand(config: Config, compose: impl FnOnce(&Keypair, Io) -> Io) -> Swarm<Node> {
    log();
    let star = Star::new(config);
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| compose(key, star.transport(key).expect("the key signs")))
        .expect("a transport")
        .with_behaviour(|_| Node::new(&star, None))
        .expect("a behaviour")
        .build()
}

fn alone(config: Config) -> Swarm<Node> {
    by_hand(config, |_, star| star)
}

/// A rendezvous, how its address is written, and what trusts it.
struct Place {
    server: Server,
    base: Multiaddr,
    config: Config,
}

impl Place {
    async fn plain(ip: &str, host: &str) -> Self {
        let ip: IpAddr = ip.parse().expect("an address");
        Self::start(
            rendezvous::Config::default(),
            ip,
            host,
            "ws",
            Config::default(),
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

    async fn all() -> Vec<Self> {
        vec![
            Self::plain("127.0.0.1", "ip4/127.0.0.1").await,
            Self::plain("::1", "ip6/::1").await,
            Self::plain("127.0.0.1", "dns4/localhost").await,
            Self::plain("127.0.0.1", "dns/localhost").await,
            Self::tls().await,
        ]
    }
}

async fn until<T>(
    swarm: &mut Swarm<Node>,
    what: &str,
    mut wanted: impl FnMut(SwarmEvent<NodeEvent>) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            if let Some(found) = wanted(swarm.select_next_some().await) {
                break found;
            }
        }
    })
    .await
}

async fn joined(swarm: &mut Swarm<Node>, base: &Multiaddr) -> Multiaddr {
    swarm.listen_on(base.clone()).expect("a good address");
    until(swarm, "the join", |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        SwarmEvent::ListenerError { error, .. } => panic!("{base}: {error}"),
        _ => None,
    })
    .await
}

/// Where `peer` was discovered, before now or later.
async fn discovered(swarm: &mut Swarm<Node>, peer: PeerId) -> Multiaddr {
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
async fn pinged(swarm: &mut Swarm<Node>, peer: PeerId, base: &Multiaddr) {
    until(swarm, "a ping", |event| match event {
        SwarmEvent::Behaviour(NodeEvent::Ping(event)) if event.peer == peer => {
            event.result.is_ok().then_some(())
        }
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{base}: {error}"),
        _ => None,
    })
    .await;
}

/// The order reaches peers at every place, by address and by name of the peer.
async fn reaches_everybody(order: Order) {
    for place in Place::all().await {
        let base = &place.base;
        let mut listener = alone(place.config.clone());
        let peer = *listener.local_peer_id();
        let addr = joined(&mut listener, base).await;
        let listener = tokio::spawn(async move { while listener.next().await.is_some() {} });

        let mut dialler = order(place.config.clone());
        dialler.dial(addr.clone()).expect("an address");
        pinged(&mut dialler, peer, base).await;
        drop(dialler);

        let mut both = order(place.config.clone());
        joined(&mut both, base).await;
        assert_eq!(discovered(&mut both, peer).await, addr);
        both.dial(peer).expect("an address is known");
        pinged(&mut both, peer, base).await;
        let links = place.server.snapshot().links;
        assert!(links <= 3, "{base}: one link of each node, not {links}");

        listener.abort();
        place.server.shutdown().await;
    }
}

macro_rules! orders {
    ($($name:ident: $order:expr;)*) => { $(
        #[tokio::test]
        async fn $name() {
            reaches_everybody($order).await;
        }
    )* };
}

orders! {
    alone_in_the_swarm: alone;
    builder_tcp_star: |config| {
        let star = Star::new(config);
        SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("tcp")
            .with_other_transport(|key| star.transport(key))
            .expect("star")
            .with_behaviour(|_| Node::new(&star, None))
            .expect("a behaviour")
            .build()
    };
    builder_star_dns: |config| {
        let star = Star::new(config);
        SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|key| star.transport(key))
            .expect("star")
            .with_dns()
            .expect("dns")
            .with_behaviour(|_| Node::new(&star, None))
            .expect("a behaviour")
            .build()
    };
    builder_tcp_quic_star_dns_relay: |config| {
        let star = Star::new(config);
        SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("tcp")
            .with_quic()
            .with_other_transport(|key| star.transport(key))
            .expect("star")
            .with_dns()
            .expect("dns")
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .expect("relay")
            .with_behaviour(|_, relay| Node::new(&star, Some(relay)))
            .expect("a behaviour")
            .build()
    };
    star_then_dns: |config| by_hand(config, |key, star| or(star, resolving(tcp_of(key))));
    dns_around_tcp_then_star: |config| by_hand(config, |key, star| resolving(or(tcp_of(key), star)));
    dns_around_star_then_tcp: |config| by_hand(config, |key, star| resolving(or(star, tcp_of(key))));
    dns_around_star_then_websocket: |config| by_hand(config, |key, star| or(resolving(star), websocket_of(key)));
    star_then_websocket: |config| by_hand(config, |key, star| or(star, websocket_of(key)));
    tcp_then_star: |config| by_hand(config, |key, star| or(tcp_of(key), star));
    dns_around_dns_around_star: |config| by_hand(config, |_, star| resolving(resolving(star)));
}

/// `with_websocket` is asynchronous, and stands before the rest.
#[tokio::test]
async fn builder_tcp_star_dns_websocket_relay() {
    for place in Place::all().await {
        let mut listener = alone(place.config.clone());
        let peer = *listener.local_peer_id();
        let addr = joined(&mut listener, &place.base).await;
        let listener = tokio::spawn(async move { while listener.next().await.is_some() {} });
        let star = Star::new(place.config.clone());
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("tcp")
            .with_other_transport(|key| star.transport(key))
            .expect("star")
            .with_dns()
            .expect("dns")
            .with_websocket(noise::Config::new, yamux::Config::default)
            .await
            .expect("websocket")
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .expect("relay")
            .with_behaviour(|_, relay| Node::new(&star, Some(relay)))
            .expect("a behaviour")
            .build();
        swarm.dial(addr).expect("an address");
        pinged(&mut swarm, peer, &place.base).await;
        assert!(swarm.disconnect_peer_id(peer).is_ok());
        joined(&mut swarm, &place.base).await;
        discovered(&mut swarm, peer).await;
        // It may be connected still.
        let _ = swarm.dial(peer);
        pinged(&mut swarm, peer, &place.base).await;
        listener.abort();
        place.server.shutdown().await;
    }
}

/// The one order that cannot work: libp2p's DNS transport takes every address, and nothing behind it is
/// asked. Listening works, and the log says what to change.
#[tokio::test]
async fn after_a_transport_that_takes_every_address_no_dial_arrives() {
    let place = Place::plain("127.0.0.1", "ip4/127.0.0.1").await;
    let mut listener = alone(Config::default());
    let addr = joined(&mut listener, &place.base).await;
    let mut swarm = by_hand(Config::default(), |key, star| {
        or(resolving(tcp_of(key)), star)
    });
    joined(&mut swarm, &place.base).await;
    swarm.dial(addr).expect("an address");
    let error = until(&mut swarm, "the failure", |event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(error),
        _ => None,
    })
    .await;
    assert!(matches!(error, DialError::Transport(_)), "{error}");
    assert!(
        error.to_string().contains("Unsupported resolved address"),
        "{error}"
    );
    place.server.shutdown().await;
}

/// In front of a relay's transport, too, circuits are left to it.
#[tokio::test]
async fn a_circuit_through_a_relay_at_a_rendezvous_is_left_to_other_transports() {
    let key = Keypair::generate_ed25519();
    let star = Star::new(Config::default());
    let mut transport = star.transport(&key).expect("the key signs");
    let (relay, peer) = (PeerId::random(), PeerId::random());
    for base in [
        "/ip4/127.0.0.1/tcp/1/ws",
        "/ip6/::1/tcp/1/ws",
        "/dns4/localhost/tcp/1/ws",
        "/dns4/localhost/tcp/1/wss",
    ] {
        let to_listen = format!("{base}/p2p-websocket-star/p2p/{relay}/p2p-circuit");
        let addr: Multiaddr = to_listen.parse().expect("a multiaddr");
        match transport.listen_on(ListenerId::next(), addr.clone()) {
            Err(TransportError::MultiaddrNotSupported(found)) => assert_eq!(found, addr),
            other => panic!("{other:?}"),
        }
        let addr: Multiaddr = format!("{to_listen}/p2p/{peer}").parse().expect("one");
        let opts = DialOpts {
            role: libp2p::core::Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        match transport.dial(addr.clone(), opts) {
            Err(TransportError::MultiaddrNotSupported(found)) => assert_eq!(found, addr),
            _ => panic!("{addr} is taken"),
        }
    }
}
