//! A node as users build it: a swarm with noise, yamux, and the crate's discovery.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder,
    core::{Transport as _, upgrade},
    identify,
    identity::Keypair,
    noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    yamux,
};
use libp2p_websocket_star::{Behaviour, Config, WebSocketStarTransport};

use super::{log, pattern, within};

#[derive(NetworkBehaviour)]
pub struct Node {
    pub discovery: Behaviour,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub bulk: request_response::Behaviour<Bulk>,
}

pub fn swarm(config: Config) -> Swarm<Node> {
    log();
    let key = Keypair::generate_ed25519();
    let star = WebSocketStarTransport::new(&key, config);
    let discovery = star.discovery();
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| {
            Ok(star
                .upgrade(upgrade::Version::V1Lazy)
                .authenticate(noise::Config::new(key)?)
                .multiplex(yamux::Config::default()))
        })
        .expect("a transport")
        .with_behaviour(|key| Node {
            discovery: Behaviour::new(key.public().to_peer_id(), discovery).expect("one key"),
            identify: identify::Behaviour::new(identify::Config::new("/test".into(), key.public())),
            ping: ping::Behaviour::new(
                ping::Config::default().with_interval(Duration::from_millis(100)),
            ),
            bulk: request_response::Behaviour::with_codec(
                Bulk,
                [(StreamProtocol::new("/bulk"), ProtocolSupport::Full)],
                request_response::Config::default().with_request_timeout(super::PATIENCE),
            ),
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(super::PATIENCE))
        .build()
}

/// Listens, and waits for the address.
pub async fn listen(swarm: &mut Swarm<Node>, addr: &str) -> Multiaddr {
    swarm
        .listen_on(addr.parse().expect("a multiaddr"))
        .expect("a good address");
    within("the listen address", async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => break address,
                SwarmEvent::ListenerClosed { reason, .. } => panic!("closed: {reason:?}"),
                _ => {}
            }
        }
    })
    .await
}

/// Runs the swarm for ever, and answers all requests.
pub async fn serve(mut swarm: Swarm<Node>) {
    loop {
        let event = swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(NodeEvent::Bulk(request_response::Event::Message {
            message:
                request_response::Message::Request {
                    request, channel, ..
                },
            ..
        })) = event
        {
            // The other side may be gone.
            let _ = swarm.behaviour_mut().bulk.send_response(channel, request);
        }
    }
}

/// Runs the swarm until `wanted` returns something for an event.
pub async fn until<B: NetworkBehaviour, T>(
    swarm: &mut Swarm<B>,
    what: &str,
    mut wanted: impl FnMut(SwarmEvent<B::ToSwarm>) -> Option<T>,
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

/// Identifies the peer, pings it three times, and has `len` bytes sent back.
pub async fn exercise(swarm: &mut Swarm<Node>, peer: PeerId, len: usize) {
    let (mut pings, mut identified, mut answered) = (0, false, false);
    swarm
        .behaviour_mut()
        .bulk
        .send_request(&peer, pattern(0, len));
    until(swarm, "identify, pings and a response", |event| {
        match event {
            SwarmEvent::Behaviour(NodeEvent::Ping(event)) => {
                event.result.expect("a ping");
                pings += 1;
            }
            SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
                info, ..
            })) => {
                assert_eq!(info.public_key.to_peer_id(), peer);
                identified = true;
            }
            SwarmEvent::Behaviour(NodeEvent::Bulk(event)) => match event {
                request_response::Event::Message {
                    message: request_response::Message::Response { response, .. },
                    ..
                } => {
                    assert!(response == pattern(0, len), "the wrong bytes");
                    answered = true;
                }
                request_response::Event::OutboundFailure { error, .. } => panic!("{error}"),
                _ => {}
            },
            SwarmEvent::ConnectionClosed { cause, .. } => panic!("closed: {cause:?}"),
            _ => {}
        }
        (pings >= 3 && identified && answered).then_some(())
    })
    .await;
}

/// A protocol that sends bytes there, and the same bytes back.
#[derive(Clone)]
pub struct Bulk;

async fn read_all<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    io.read_to_end(&mut all).await?;
    Ok(all)
}

async fn write_all<T: AsyncWrite + Unpin + Send>(io: &mut T, data: Vec<u8>) -> io::Result<()> {
    io.write_all(&data).await?;
    io.close().await
}

impl request_response::Codec for Bulk {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_all(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_all(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        data: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_all(io, data).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        data: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_all(io, data).await
    }
}
