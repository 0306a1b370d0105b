//! A swarm's handling of a listener's events, and what its behaviours are notified of.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::{
        Endpoint, Transport as _,
        transport::{ListenerId, PortUse, TransportError},
        upgrade,
    },
    noise,
    swarm::{
        self, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, SwarmEvent,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
        dummy,
    },
    yamux,
};
use libp2p_websocket_star::rendezvous::{self, Server};

use super::{base, counts, settled, steps, tasks, transport, until};
use crate::support::{ed25519, embedded, log, within};

/// What behaviours are notified of about listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    New(ListenerId),
    Address(Multiaddr),
    Expired(Multiaddr),
    Error,
    Closed { failed: bool },
}

#[derive(Default)]
struct Recorder(Vec<Told>);

impl NetworkBehaviour for Recorder {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.0.extend(match event {
            FromSwarm::NewListener(new) => Some(Told::New(new.listener_id)),
            FromSwarm::NewListenAddr(new) => Some(Told::Address(new.addr.clone())),
            FromSwarm::ExpiredListenAddr(old) => Some(Told::Expired(old.addr.clone())),
            FromSwarm::ListenerError(_) => Some(Told::Error),
            FromSwarm::ListenerClosed(closed) => Some(Told::Closed {
                failed: closed.reason.is_err(),
            }),
            _ => None,
        });
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

fn swarm() -> Swarm<Recorder> {
    log();
    let key = ed25519();
    let transport = transport(&key)
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed();
    let config =
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(crate::support::PATIENCE);
    let peer = key.public().to_peer_id();
    Swarm::new(transport, Recorder::default(), peer, config)
}

/// Returns what `wanted` finds in the next event in which it finds something.
async fn next<T>(
    swarm: &mut Swarm<Recorder>,
    what: &str,
    mut wanted: impl FnMut(SwarmEvent<Infallible>) -> Option<T>,
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

async fn listen(swarm: &mut Swarm<Recorder>, star: &Server) -> (ListenerId, Multiaddr) {
    let id = swarm.listen_on(base(star)).expect("a good address");
    let address = next(swarm, "the address", |event| match event {
        SwarmEvent::NewListenAddr {
            listener_id,
            address,
        } if listener_id == id => Some(address),
        _ => None,
    })
    .await;
    (id, address)
}

/// Returns the addresses that a listener had at its end, and the error if it failed.
async fn closed(swarm: &mut Swarm<Recorder>, id: ListenerId) -> (Vec<Multiaddr>, Option<String>) {
    next(swarm, "the end", |event| match event {
        SwarmEvent::ListenerClosed {
            listener_id,
            addresses,
            reason,
        } if listener_id == id => Some((addresses, reason.err().map(|error| error.to_string()))),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_removed_listener_takes_its_address_along_and_is_told_of_once() {
    let star = embedded().await;
    let before = tasks();
    let mut swarm = swarm();
    let (id, address) = listen(&mut swarm, &star).await;
    assert_eq!(swarm.listeners().collect::<Vec<_>>(), [&address]);
    assert!(swarm.remove_listener(id));
    assert!(!swarm.remove_listener(id));
    assert!(!swarm.remove_listener(ListenerId::next()));
    let end = closed(&mut swarm, id).await;
    assert_eq!(end, (vec![address.clone()], None));
    assert_eq!(swarm.listeners().count(), 0);
    settled(&star, 0, before).await;
    assert!(futures::FutureExt::now_or_never(swarm.next()).is_none());
    let told = [
        Told::New(id),
        Told::Address(address.clone()),
        Told::Expired(address.clone()),
        Told::Closed { failed: false },
    ];
    assert_eq!(swarm.behaviour().0, told);

    // Listen again, with another id.
    let (next, again) = listen(&mut swarm, &star).await;
    assert_ne!(next, id);
    assert_eq!(again, address);
    star.shutdown().await;
}

#[tokio::test]
async fn an_address_expires_once_when_its_link_is_lost_and_the_listener_is_removed() {
    let star = embedded().await;
    let mut swarm = swarm();
    let (id, address) = listen(&mut swarm, &star).await;
    star.shutdown().await;
    let expired = next(&mut swarm, "the expiry", |event| match event {
        SwarmEvent::ExpiredListenAddr { address, .. } => Some(address),
        SwarmEvent::ListenerError { .. } => panic!("an error before the address expires"),
        _ => None,
    })
    .await;
    assert_eq!(expired, address);
    assert_eq!(swarm.listeners().count(), 0);
    let error = next(&mut swarm, "the error", |event| match event {
        SwarmEvent::ListenerError { listener_id, error } if listener_id == id => Some(error),
        _ => None,
    })
    .await;
    assert!(error.to_string().contains("ws://127.0.0.1"), "{error}");
    assert!(swarm.remove_listener(id));
    assert_eq!(closed(&mut swarm, id).await, (vec![], None));
    let told = &mut swarm.behaviour_mut().0;
    told.retain(|told| *told != Told::Error);
    let expected = [
        Told::New(id),
        Told::Address(address.clone()),
        Told::Expired(address),
        Told::Closed { failed: false },
    ];
    assert_eq!(*told, expected);
}

#[tokio::test]
async fn a_listener_that_fails_for_good_says_why_and_is_gone() {
    let config = rendezvous::Config::default().with_challenge(false);
    let star = Server::bind(config).await.expect("a free port");
    let mut swarm = swarm();
    let id = swarm.listen_on(base(&star)).expect("a good address");
    let (addresses, reason) = closed(&mut swarm, id).await;
    assert_eq!(addresses, Vec::<Multiaddr>::new());
    let reason = reason.expect("a reason");
    assert!(reason.contains("challenge"), "{reason}");
    assert!(!swarm.remove_listener(id));
    let told = [Told::New(id), Told::Closed { failed: true }];
    assert_eq!(swarm.behaviour().0, told);
    star.shutdown().await;
}

#[tokio::test]
async fn a_foreign_address_comes_back_from_the_swarm_as_it_was() {
    let mut swarm = swarm();
    for text in [
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "/memory/1",
    ] {
        let addr: Multiaddr = text.parse().expect("a multiaddr");
        match swarm.listen_on(addr.clone()) {
            Err(TransportError::MultiaddrNotSupported(back)) => assert_eq!(back, addr),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(swarm.behaviour().0, [Told::Error, Told::Error, Told::Error]);
}

/// If the dial names a peer, the swarm adds it to the address. Otherwise, an address without a peer fails with a
/// reason.
#[tokio::test]
async fn an_address_without_a_peer_is_dialled_if_the_swarm_knows_whom_it_means() {
    let star = embedded().await;
    let (mut listener, mut dialer) = (swarm(), swarm());
    let peer = *listener.local_peer_id();
    listen(&mut listener, &star).await;
    let listener = tokio::spawn(async move {
        loop {
            listener.next().await;
        }
    });

    dialer.dial(base(&star)).expect("it fails later");
    let error = next(&mut dialer, "the error", |event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(error),
        SwarmEvent::ConnectionEstablished { .. } => panic!("to whom?"),
        _ => None,
    })
    .await;
    assert!(matches!(error, DialError::Transport(_)), "{error:?}");
    let text = format!("{error:?}");
    assert!(
        text.contains("does not end in /p2p/<peer id>") || text.contains("MissingPeerId"),
        "{text}"
    );

    let known = DialOpts::peer_id(peer).addresses(vec![base(&star)]).build();
    dialer.dial(known).expect("an address");
    let found = next(&mut dialer, "the connection", |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => Some(peer_id),
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
        _ => None,
    })
    .await;
    assert_eq!(found, peer);
    listener.abort();
    star.shutdown().await;
}

/// The swarm is dropped while it listens, and while it dials one peer at two addresses that mean the same.
#[tokio::test]
async fn a_swarm_that_is_dropped_at_any_step_of_a_dial_leaves_nothing() {
    let star = embedded().await;
    let mut listener = swarm();
    let peer = *listener.local_peer_id();
    let (_, address) = listen(&mut listener, &star).await;
    let served = tokio::spawn(async move {
        loop {
            listener.next().await;
        }
    });
    let before = tasks();
    for count in counts() {
        let mut dialer = swarm();
        dialer.listen_on(base(&star)).expect("a good address");
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![base(&star), address.clone()]);
        dialer.dial(opts.build()).expect("an address");
        let mut connected = false;
        for _ in 0..count {
            while let Some(event) = futures::FutureExt::now_or_never(dialer.next()) {
                connected |= matches!(event, Some(SwarmEvent::ConnectionEstablished { .. }));
            }
            steps(1).await;
        }
        drop(dialer);
        settled(&star, 1, before).await;
        if connected {
            assert!(count > 8, "all in {count} steps");
            break;
        }
    }
    served.abort();
    until("the listener's link to close", || {
        star.snapshot().links == 0
    })
    .await;
    star.shutdown().await;
}
