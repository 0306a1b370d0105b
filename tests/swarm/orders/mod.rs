//! The transport in every place that a swarm may give it: beside TCP, QUIC, DNS, WebSocket and relay, in the order of
//! the builder and in orders made by hand.
//!
//! Each test has one order. It dials a peer with each spelling of the rendezvous' address, both as a node that only
//! dials and as a node that also listens there. It also uses a relay at that rendezvous.

pub mod build;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, PortUse},
    identity::Keypair,
    noise,
    swarm::{DialError, SwarmEvent},
    tcp, yamux,
};
use libp2p_websocket_star::{Config, preset::Star};

use self::build::{
    Node, Order, Place, alone, by_hand, discovered, joined, or, pinged, resolving, tcp_of,
    websocket_of, with_relay,
};
use crate::{relay, support::node::until};

/// Checks that a swarm in this order reaches peers at every place, by their address and by their peer id.
async fn reaches_everybody(order: Order) {
    for place in Place::all().await {
        let base = &place.base;
        let mut listener = alone(place.config.clone());
        let peer = *listener.local_peer_id();
        let addr = joined(&mut listener, base).await;
        let listener = tokio::spawn(async move { while listener.next().await.is_some() {} });

        let mut dialer = order(place.config.clone());
        dialer.dial(addr.clone()).expect("an address");
        pinged(&mut dialer, peer, base).await;
        drop(dialer);

        let mut both = order(place.config.clone());
        joined(&mut both, base).await;
        assert_eq!(discovered(&mut both, peer).await, addr);
        both.dial(peer).expect("an address is known");
        pinged(&mut both, peer, base).await;
        let links = place.server.snapshot().links;
        assert!(links <= 3, "{base}: one link of each node, not {links}");
        drop(both);

        relay::cell(order, &place).await;
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
    builder_tcp_star_dns_websocket_relay: builder_with_websocket;
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
    star_then_relay: |config| with_relay(config, |_, star, relay| or(star, relay));
    relay_then_star: |config| with_relay(config, |_, star, relay| or(relay, star));
    star_then_relay_then_dns: |config| with_relay(config, |key, star, relay| {
        or(or(star, relay), resolving(tcp_of(key)))
    });
    tcp_then_star_then_relay: |config| with_relay(config, |key, star, relay| or(or(tcp_of(key), star), relay));
}

/// Builds a swarm with `with_websocket`. That method is asynchronous and an [`Order`] is not; but it waits for
/// nothing.
fn builder_with_websocket(config: Config) -> Swarm<Node> {
    let star = Star::new(config);
    let builder = SwarmBuilder::with_new_identity()
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
        .now_or_never()
        .expect("it waits for nothing");
    builder
        .expect("websocket")
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .expect("relay")
        .with_behaviour(|_, relay| Node::new(&star, Some(relay)))
        .expect("a behaviour")
        .build()
}

/// This order is the only one that cannot work: libp2p's DNS transport takes every address, so no transport behind it
/// is asked. Listening works, and the log says what to change.
#[tokio::test]
async fn after_a_transport_that_takes_every_address_no_dial_arrives() {
    let place = Place::plain("127.0.0.1", "ip4/127.0.0.1").await;
    let mut listener = alone(Config::default().with_allow_local_rendezvous(true));
    let addr = joined(&mut listener, &place.base).await;
    let mut swarm = by_hand(
        Config::default().with_allow_local_rendezvous(true),
        |key, star| or(resolving(tcp_of(key)), star),
    );
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

/// Circuits are left to a relay's transport, even if that comes after this one.
#[tokio::test]
async fn a_circuit_through_a_relay_at_a_rendezvous_is_left_to_other_transports() {
    let key = Keypair::generate_ed25519();
    let star = Star::new(Config::default().with_allow_local_rendezvous(true));
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
