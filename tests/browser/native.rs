//! The native node at the other end.

use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId, swarm::SwarmEvent};
use libp2p_stream as stream;
use libp2p_websocket_star::rendezvous::Server;
use tokio::sync::mpsc;

use crate::{
    behaviours::{Behaviours, ECHO, exchange, serve},
    node::{join_at, star_only},
    support::{address, within},
};

/// A native node that echoes, and dials when it is told to.
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
        let mut swarm = star_only(Behaviours::new);
        let address = join_at(&mut swarm, rendezvous).await.to_string();
        let peer = *swarm.local_peer_id();
        let streams = swarm.behaviour().stream.new_control();
        tokio::spawn(serve(streams.clone(), |answer| {
            tokio::spawn(answer);
        }));
        let (dials, mut asked) = mpsc::channel(64);
        let (told, connected) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = event {
                            // The test may not read this.
                            let _ = told.try_send(peer_id);
                        }
                    }
                    Some(to) = asked.recv() => swarm.dial(to).expect("an address"),
                }
            }
        });
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

    /// Sends bytes, and checks that the same bytes come back.
    pub async fn echo(&mut self, peer: &str, bytes: usize) {
        let peer = peer.parse().expect("a peer");
        let opened = within("a stream", self.streams.open_stream(peer, ECHO)).await;
        let stream = opened.expect("it echoes");
        let echoed = within("the echo", exchange(stream, bytes as u64)).await;
        echoed.expect("all came back");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}
