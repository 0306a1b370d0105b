//! A Rust node for networks of old JavaScript nodes, as users build it with the crate's preset.

use std::time::Duration;

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _,
    future::{join_all, try_join},
};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    gossipsub, identify,
    identity::Keypair,
    ping,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_stream as stream;
use libp2p_websocket_star::{Behaviour, Config, WebSocketStarTransport, preset};

use super::{PATIENCE, log, node::Bulk, pattern, within};

const ECHO: StreamProtocol = StreamProtocol::new("/echo/1.0.0");

#[derive(NetworkBehaviour)]
pub struct Peer {
    pub discovery: Behaviour,
    pub identify: preset::Identify,
    pub ping: ping::Behaviour,
    pub echo: request_response::Behaviour<Bulk>,
    pub streams: stream::Behaviour,
    pub pubsub: gossipsub::Behaviour,
}

pub type PeerSwarm = Swarm<Peer>;

/// Returns a node with the preset's transport.
pub fn peer(key: &Keypair) -> PeerSwarm {
    peer_with(key, |star| {
        preset::transport(key, star).expect("the key signs")
    })
}

/// Returns a node with that transport over websocket-star.
pub fn peer_with(
    key: &Keypair,
    transport: impl FnOnce(WebSocketStarTransport) -> Boxed<(PeerId, StreamMuxerBox)>,
) -> PeerSwarm {
    log();
    let star =
        WebSocketStarTransport::new(key, Config::default().with_allow_local_rendezvous(true));
    let discovery = star.discovery();
    SwarmBuilder::with_existing_identity(key.clone())
        .with_tokio()
        .with_other_transport(|_| transport(star))
        .expect("a transport")
        .with_behaviour(|key| Peer {
            discovery: Behaviour::new(key.public().to_peer_id(), discovery).expect("one key"),
            identify: preset::Identify::new(identify::Config::new(
                "ipfs/0.1.0".into(),
                key.public(),
            )),
            ping: ping::Behaviour::new(
                ping::Config::default().with_interval(Duration::from_millis(100)),
            ),
            echo: request_response::Behaviour::with_codec(
                Bulk,
                [(ECHO, ProtocolSupport::Inbound)],
                request_response::Config::default()
                    .with_request_timeout(PATIENCE)
                    .with_max_concurrent_streams(200),
            ),
            streams: stream::Behaviour::new(),
            pubsub: pubsub(key),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build()
}

/// Floodsub nodes number their messages with 20 random bytes, but gossipsub expects 8. Only `None` accepts such
/// messages, and then only their data identifies them.
fn pubsub(key: &Keypair) -> gossipsub::Behaviour {
    let config = gossipsub::ConfigBuilder::default()
        .support_floodsub()
        .validation_mode(gossipsub::ValidationMode::None)
        .message_id_fn(|message| gossipsub::MessageId::new(&message.data))
        .heartbeat_interval(Duration::from_millis(100))
        .build()
        .expect("a configuration");
    let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
    gossipsub::Behaviour::new(signed, config).expect("a behaviour")
}

/// Listens, and waits for the address.
pub async fn listen(swarm: &mut PeerSwarm, star: &str) -> Multiaddr {
    swarm
        .listen_on(star.parse().expect("a multiaddr"))
        .expect("a good address");
    until(swarm, "the listen address", |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        SwarmEvent::ListenerClosed { reason, .. } => panic!("closed: {reason:?}"),
        _ => None,
    })
    .await
}

/// Runs the swarm until `wanted` returns something for an event. Echoes incoming requests in the meantime.
pub async fn until<T>(
    swarm: &mut PeerSwarm,
    what: &str,
    mut wanted: impl FnMut(SwarmEvent<PeerEvent>) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            if let Some(found) = step(swarm).await.and_then(&mut wanted) {
                break found;
            }
        }
    })
    .await
}

/// Runs the swarm until `other` is done.
pub async fn during<T>(swarm: &mut PeerSwarm, other: impl Future<Output = T>) -> T {
    let serve = async {
        loop {
            step(swarm).await;
        }
    };
    tokio::select! {
        done = other => done,
        () = serve => unreachable!("it goes on for ever"),
    }
}

/// Returns the next event that is not an echo.
async fn step(swarm: &mut PeerSwarm) -> Option<SwarmEvent<PeerEvent>> {
    match swarm.select_next_some().await {
        SwarmEvent::Behaviour(PeerEvent::Echo(request_response::Event::Message {
            message:
                request_response::Message::Request {
                    request, channel, ..
                },
            ..
        })) => {
            // The other side may be gone.
            let _ = swarm.behaviour_mut().echo.send_response(channel, request);
            None
        }
        event => Some(event),
    }
}

/// Pings three times, and has `len` bytes sent back on each of `streams` streams at once.
pub async fn exercise(swarm: &mut PeerSwarm, peer: PeerId, streams: usize, len: usize) {
    let control = swarm.behaviour().streams.new_control();
    during(swarm, echoes(control, peer, streams, len)).await;
    let mut pings = 0;
    until(swarm, "pings", |event| {
        match event {
            SwarmEvent::Behaviour(PeerEvent::Ping(event)) if event.peer == peer => {
                event.result.expect("a ping");
                pings += 1;
            }
            SwarmEvent::ConnectionClosed { cause, .. } => panic!("closed: {cause:?}"),
            _ => {}
        }
        (pings >= 3).then_some(())
    })
    .await;
}

/// Has `len` bytes sent back on each of `streams` streams at once.
pub async fn echoes(control: stream::Control, peer: PeerId, streams: usize, len: usize) {
    let echoes = join_all((0..streams).map(|_| {
        let mut control = control.clone();
        async move {
            let stream = control.open_stream(peer, ECHO).await.expect("a stream");
            check_echo(stream, len).await;
        }
    }));
    within("the echoes", echoes).await;
}

/// Reads while it writes: mplex has no flow control, and a stream that is not read holds up its connection.
async fn check_echo(stream: Stream, len: usize) {
    let sent = pattern(0, len);
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    let send = async {
        writer.write_all(&sent).await?;
        writer.close().await
    };
    let both = try_join(send, reader.read_to_end(&mut received)).await;
    both.expect("an echo");
    assert!(received == sent, "the wrong bytes");
}
