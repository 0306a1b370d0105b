//! The native node at the other end.

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::try_join};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_stream as stream;
use libp2p_websocket_star::{AddressGuard, Behaviour, preset::Star, rendezvous::Server};
use tokio::sync::mpsc;

use crate::support::{address, ed25519, hasty, within};

const ECHO: StreamProtocol = StreamProtocol::new("/star-test/echo/1");

#[derive(NetworkBehaviour)]
struct Behaviours {
    star: Behaviour,
    identify: AddressGuard<identify::Behaviour>,
    ping: ping::Behaviour,
    stream: stream::Behaviour,
}

/// It echoes, and is told whom to dial.
pub struct Node {
    pub peer: PeerId,
    pub address: String,
    streams: stream::Control,
    dials: mpsc::Sender<Multiaddr>,
    connected: mpsc::Receiver<PeerId>,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    pub async fn join(server: &Server) -> Self {
        Self::join_at(&address(server)).await
    }

    pub async fn join_at(rendezvous: &str) -> Self {
        let mut swarm = swarm();
        let at = rendezvous.parse().expect("an address");
        swarm.listen_on(at).expect("of this transport");
        let joined = within("the join", async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    return address;
                }
            }
        })
        .await;
        let peer = *swarm.local_peer_id();
        let mut streams = swarm.behaviour().stream.new_control();
        let mut incoming = streams.accept(ECHO).expect("once");
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(async move {
                    let (reader, mut writer) = stream.split();
                    // Whoever dialled sees what went wrong.
                    let _ = futures::io::copy(reader, &mut writer).await;
                    let _ = writer.close().await;
                });
            }
        });
        let (dials, mut asked) = mpsc::channel(64);
        let (told, connected) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event {
                            // The test may not ask.
                            let _ = told.try_send(peer_id);
                        }
                    }
                    Some(to) = asked.recv() => swarm.dial(to).expect("an address"),
                }
            }
        });
        let mut address = joined.to_string();
        if !address.contains("/p2p/") {
            address = format!("{address}/p2p/{peer}");
        }
        Self {
            peer,
            address,
            streams,
            dials,
            connected,
            task,
        }
    }

    pub async fn dial(&mut self, to: &str) {
        let to = to.parse().expect("an address");
        self.dials.send(to).await.expect("it runs");
        let connected = within("the connection", self.connected.recv()).await;
        connected.expect("it runs");
    }

    /// Sends bytes, and checks that they come back.
    pub async fn echo(&mut self, peer: &str, bytes: usize) {
        let peer = peer.parse().expect("a peer");
        let opened = within("a stream", self.streams.open_stream(peer, ECHO)).await;
        let (mut reader, mut writer) = opened.expect("it echoes").split();
        let sent = crate::support::pattern(0, bytes);
        let mut came = Vec::with_capacity(bytes);
        let write = async {
            writer.write_all(&sent).await?;
            writer.close().await
        };
        let both = within("the echo", try_join(write, reader.read_to_end(&mut came))).await;
        both.expect("a good connection");
        assert!(came == sent, "{} bytes of {bytes}, or others", came.len());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn swarm() -> Swarm<Behaviours> {
    let star = Star::new(hasty());
    SwarmBuilder::with_existing_identity(ed25519())
        .with_tokio()
        .with_other_transport(|key| star.transport(key))
        .expect("a key that signs")
        .with_behaviour(|key| {
            let identify = identify::Config::new("/star-test".to_owned(), key.public());
            Ok(Behaviours {
                star: star.behaviour()?,
                identify: AddressGuard::new(identify::Behaviour::new(identify)),
                ping: ping::Behaviour::default(),
                stream: stream::Behaviour::new(),
            })
        })
        .expect("a transport was made")
        .build()
}
