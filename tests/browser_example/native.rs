//! The native node: the chat of `examples/chat.rs`, and files.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use libp2p::{PeerId, Stream, Swarm, gossipsub, swarm::SwarmEvent};
use libp2p_stream::{Control, IncomingStreams};
use libp2p_websocket_star::{Event, preset::Star};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    behaviours::{Behaviours, BehavioursEvent, FILES, once, topic},
    support::{hasty, within},
    transfer::{self, Incoming, Name, Sink, Source},
};

pub struct Native {
    pub peer: PeerId,
    pub streams: Control,
    offers: IncomingStreams,
    words: mpsc::Sender<String>,
    seen: Seen,
    task: JoinHandle<()>,
}

#[derive(Default, Clone)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    fn has(&self, words: &str) -> bool {
        let lines = self.0.lock().expect("no panic");
        lines.iter().any(|line| line == words)
    }
}

impl Native {
    pub fn start(rendezvous: &str) -> Self {
        let star = Star::new(hasty());
        let mut swarm = libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_other_transport(|key| star.transport(key))
            .expect("a key that signs")
            .with_behaviour(|key| Behaviours::new(key, star.behaviour()?))
            .expect("its settings")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(crate::support::PATIENCE)
            })
            .build();
        let listened = swarm.listen_on(rendezvous.parse().expect("an address"));
        listened.expect("an address of this transport");
        let mut streams = swarm.behaviour().streams.new_control();
        let offers = streams.accept(FILES).expect("only once");
        let (words, said) = mpsc::channel(16);
        let seen = Seen::default();
        Self {
            peer: *swarm.local_peer_id(),
            streams,
            offers,
            words,
            task: tokio::spawn(run(swarm, said, seen.clone())),
            seen,
        }
    }

    /// Returns the full name that pages use for it.
    pub fn name(&self) -> String {
        self.peer.to_string()
    }

    pub async fn say(&self, words: &str) {
        self.words.send(words.to_owned()).await.expect("it runs");
    }

    pub async fn until_heard(&self, words: &str) {
        self.until_seen(&format!("heard {words}")).await;
    }

    /// Waits until a peer is in the chat.
    pub async fn until_here(&self, peer: &str) {
        self.until_seen(&format!("here {peer}")).await;
    }

    async fn until_seen(&self, line: &str) {
        within(line, async {
            while !self.seen.has(line) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub async fn offer(&mut self) -> Incoming<Stream> {
        let (_, stream) = within("an offer", self.offers.next())
            .await
            .expect("it runs");
        let offer = within("its header", transfer::incoming(stream)).await;
        offer.expect("an offer")
    }

    pub async fn accept(&mut self) -> Received {
        let offer = self.offer().await;
        let mut received = Received {
            name: offer.name().as_str().to_owned(),
            bytes: Vec::new(),
        };
        let done = within("the file", offer.receive(&mut received)).await;
        done.expect("all came");
        received
    }

    /// Sends a file in a task of its own.
    pub fn send(
        &self,
        peer: &str,
        name: &str,
        bytes: Vec<u8>,
    ) -> JoinHandle<Result<(), transfer::Error>> {
        let (mut streams, name) = (self.streams.clone(), Name::new(name).expect("a name"));
        let peer = peer.parse().expect("a peer");
        tokio::spawn(async move {
            let stream = streams
                .open_stream(peer, FILES)
                .await
                .expect("a peer that takes files");
            let size = bytes.len() as u64;
            let outgoing = transfer::offer(stream, &name, size).await?;
            outgoing.send(&mut Bytes(bytes.into())).await
        })
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut swarm: Swarm<Behaviours>, mut words: mpsc::Receiver<String>, seen: Seen) {
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            Some(words) = words.recv() => {
                let published = swarm.behaviour_mut().gossipsub.publish(topic(), words);
                published.expect("somebody is here");
                continue;
            }
        };
        match event {
            SwarmEvent::Behaviour(BehavioursEvent::Star(Event::Discovered { peer, .. }))
                if *swarm.local_peer_id() < peer =>
            {
                // It may be connected already.
                let _ = swarm.dial(once(peer));
            }
            SwarmEvent::Behaviour(BehavioursEvent::Gossipsub(gossipsub::Event::Subscribed {
                peer_id,
                ..
            })) => seen.add(format!("here {peer_id}")),
            SwarmEvent::Behaviour(BehavioursEvent::Gossipsub(gossipsub::Event::Message {
                message,
                ..
            })) => seen.add(format!("heard {}", String::from_utf8_lossy(&message.data))),
            _ => {}
        }
    }
}

/// A received file.
pub struct Received {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Sink for Received {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The part of a file that is not sent yet.
pub struct Bytes(pub bytes::Bytes);

impl Source for Bytes {
    async fn next(&mut self, most: usize) -> io::Result<Vec<u8>> {
        Ok(self.0.split_to(most.min(self.0.len())).into())
    }
}
