//! The page's behaviour, in one task.

use std::{error::Error, pin::Pin, rc::Rc, time::Duration};

use futures::{
    StreamExt as _,
    channel::{mpsc, oneshot},
    future::{AbortHandle, AbortRegistration, Abortable},
    select,
    stream::{Fuse, FuturesUnordered},
};
use futures_timer::Delay;
use libp2p::{
    PeerId, Stream, Swarm, gossipsub, identify, ping,
    swarm::{DialError, SwarmEvent},
};
use libp2p_stream::IncomingStreams;
use libp2p_websocket_star::Event;
use web_sys::File;

use crate::{
    actions::{self, Action},
    behaviours::{Behaviours, BehavioursEvent, FILES, once, topic},
    chat::Chat,
    dom, node,
    peers::Peers,
    store::Store,
    tasks::{SOON, ended, receive, send, within},
    text::cut,
    transfer::{self, Incoming, Name, Refusal, incoming, refuse},
    transfers::{Ended, Failure, Transfers},
};

/// The interval at which the progress of transfers is shown.
const LOOK: Duration = Duration::from_millis(250);
/// The delays before a lost peer is dialled again: the first for the node of the pair that dials (the smaller peer
/// id), the second for the other node, which dials only if the first does not.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The delay before a peer that was not reached is dialled again.
const NOT_REACHED: Duration = Duration::from_secs(10);
/// The most offers that are refused at the same time. Further ones are dropped without an answer.
const REFUSING: usize = 16;
/// The most characters of an error that are shown.
const ERROR: usize = 300;

/// The result of a task of the page.
enum Done {
    Offered(PeerId, Result<Incoming<Stream>, transfer::Error>),
    Refused,
    Ended(u64, Ended),
    Look,
    Again(PeerId),
}

pub struct App {
    swarm: Swarm<Behaviours>,
    offers: Fuse<IncomingStreams>,
    actions: mpsc::Receiver<Action>,
    tasks: FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>,
    chat: Chat,
    peers: Peers,
    transfers: Transfers,
    /// The place for received files, or the reason why there is none.
    store: Result<Rc<Store>, String>,
    /// The peers whose offers are being read.
    unread: Vec<PeerId>,
    refusing: usize,
    looks: bool,
}

impl App {
    /// # Errors
    /// If the node cannot be started.
    pub async fn start() -> Result<Self, Box<dyn Error>> {
        let actions = actions::listen();
        let swarm = node::swarm()?;
        let session = swarm.local_peer_id().to_string();
        let store = within(SOON, Store::open(&session)).await;
        let store = store.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()));
        // This comes before the first connection, so that identify lists the protocol from the start.
        let offers = swarm.behaviour().streams.new_control().accept(FILES)?;
        let mut app = Self {
            swarm,
            offers: offers.fuse(),
            actions,
            tasks: FuturesUnordered::new(),
            chat: Chat::new(),
            peers: Peers::new(),
            transfers: Transfers::new(),
            store: store.map(Rc::new).map_err(|error| error.to_string()),
            unread: Vec::new(),
            refusing: 0,
            looks: false,
        };
        if let Err(error) = &app.store {
            let note = format!("This browser cannot store files from others: {error}");
            app.chat.note(None, &note);
        }
        app.join().await;
        Ok(app)
    }

    async fn join(&mut self) {
        let star = match node::rendezvous().await {
            Ok(Some(star)) => star,
            Ok(None) => {
                dom::set(&dom::by_id("elsewhere"), "open", "");
                return dom::set_state("waiting", "Give the address of a rendezvous below.");
            }
            Err(error) => {
                dom::set(&dom::by_id("elsewhere"), "open", "");
                return dom::set_state("lost", &format!("Not joined: {error}."));
            }
        };
        let command = format!("cargo run --example chat -- {}", star.to_multiaddr());
        dom::share("command", "copy-command", &command);
        dom::set_state("waiting", &format!("Joining {}…", star.rendezvous()));
        if let Err(error) = self.swarm.listen_on(star.to_multiaddr()) {
            dom::set_state("lost", &cut(&error.to_string(), ERROR));
        }
    }

    pub async fn run(mut self) {
        loop {
            select! {
                event = self.swarm.select_next_some() => self.happened(event),
                (peer, stream) = self.offers.select_next_some() => self.offered(peer, stream),
                action = self.actions.select_next_some() => self.act(action),
                done = self.tasks.select_next_some() => self.done(done),
            }
        }
    }

    fn happened(&mut self, event: SwarmEvent<BehavioursEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                dom::set_state("joined", "Joined. Others find this node now.");
                dom::share("address", "copy-address", &address.to_string());
                // Connections through a link end with it, so lost peers are dialled again after a new join.
                for peer in self.peers.missing() {
                    self.again(peer, self.later(&peer));
                }
            }
            SwarmEvent::ExpiredListenAddr { .. } => {
                dom::set_state("lost", "The link to the rendezvous is lost. Joining again…");
            }
            SwarmEvent::ListenerError { error, .. } => {
                let error = cut(&error.to_string(), ERROR);
                dom::set_state("lost", &format!("Not joined: {error}. Joining again…"));
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                let reason = reason.err().map(|error| cut(&error.to_string(), ERROR));
                let reason = reason.unwrap_or_else(|| "the listener was closed".to_owned());
                dom::set_state("lost", &format!("Not joined: {reason}."));
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.peers.connected(peer_id),
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => {
                self.peers.disconnected(peer_id);
                self.chat.note(Some(&peer_id), "has left");
                self.again(peer_id, self.later(&peer_id));
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } if !self.swarm.is_connected(&peer) => self.not_reached(peer, &error),
            SwarmEvent::Behaviour(event) => self.heard(event),
            _ => {}
        }
    }

    fn heard(&mut self, event: BehavioursEvent) {
        match event {
            BehavioursEvent::Star(Event::Discovered { peer, .. }) => {
                self.peers.discovered(peer);
                // The other peer discovers this node too. If both dialled, there would be two connections.
                if self.dials(&peer) {
                    self.dial(peer);
                }
            }
            BehavioursEvent::Star(Event::Expired { peer, .. }) => self.peers.expired(peer),
            BehavioursEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.peers
                    .takes_files(peer_id, info.protocols.contains(&FILES));
            }
            BehavioursEvent::Ping(ping::Event {
                peer,
                result: Ok(time),
                ..
            }) => self.peers.round_trip(peer, time),
            BehavioursEvent::Gossipsub(gossipsub::Event::Subscribed { peer_id, .. }) => {
                self.chat.note(Some(&peer_id), "is here");
            }
            BehavioursEvent::Gossipsub(gossipsub::Event::Message { message, .. }) => {
                self.chat.said(message.source.as_ref(), &message.data);
            }
            _ => {}
        }
    }

    /// Returns whether this node is the one of the pair that dials.
    fn dials(&self, peer: &PeerId) -> bool {
        self.swarm.local_peer_id() < peer
    }

    fn dial(&mut self, peer: PeerId) {
        match self.swarm.dial(once(peer)) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.not_reached(peer, &error),
        }
    }

    fn not_reached(&mut self, peer: PeerId, error: &DialError) {
        self.peers.not_reached(peer, cut(&error.to_string(), ERROR));
        self.again(peer, NOT_REACHED);
    }

    fn later(&self, peer: &PeerId) -> Duration {
        match self.dials(peer) {
            true => AGAIN.0,
            false => AGAIN.1,
        }
    }

    /// Dials a peer later, if it is then still announced and not connected.
    fn again(&mut self, peer: PeerId, after: Duration) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| !known.waits) else {
            return;
        };
        known.waits = true;
        self.task(async move {
            Delay::new(after).await;
            Done::Again(peer)
        });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Say(words) => self.say(&words),
            Action::Send(peer, file) => self.send(peer, file),
            Action::Accept(id) => self.transfers.answer(id, true),
            Action::Decline(id) => self.transfers.answer(id, false),
            Action::Cancel(id) => self.transfers.cancel(id),
            Action::Remove(id) => self.transfers.remove(id),
        }
    }

    fn say(&mut self, words: &str) {
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        match gossipsub.publish(topic(), words.as_bytes()) {
            Ok(_) => self.chat.said_here(words),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                self.chat.note(None, "Not sent: no other peer is here yet.");
            }
            Err(error) => self.chat.note(None, &format!("Not sent: {error}")),
        }
    }

    fn send(&mut self, peer: PeerId, file: File) {
        let name = match Name::new(&file.name()) {
            Ok(name) => name,
            Err(error) => {
                let note = format!("The file cannot be sent under its name: {error}");
                return self.chat.note(None, &note);
            }
        };
        let (stop, stopped) = AbortHandle::new_pair();
        let bytes = file.size() as u64;
        let Some(started) = self.transfers.add(peer, name.clone(), bytes, stop, None) else {
            return self
                .chat
                .note(None, "The list of files is full: remove some first.");
        };
        let streams = self.swarm.behaviour().streams.new_control();
        let sent = send(streams, peer, name, file, started.progress);
        self.begin(started.id, stopped, sent);
    }

    /// Handles a stream that a peer has opened to offer a file. An offer costs little until it is accepted.
    fn offered(&mut self, peer: PeerId, stream: Stream) {
        if self.transfers.are_too_many(&peer, &self.unread) {
            return self.refuse(refuse(stream, Refusal::Busy));
        }
        self.unread.push(peer);
        self.task(async move {
            let read = within(SOON, incoming(stream)).await;
            Done::Offered(peer, read.unwrap_or(Err(transfer::Error::Cancelled)))
        });
    }

    fn read(&mut self, peer: PeerId, offer: Result<Incoming<Stream>, transfer::Error>) {
        let place = self.unread.iter().position(|unread| *unread == peer);
        if let Some(place) = place {
            self.unread.swap_remove(place);
        }
        let offer = match offer {
            Ok(offer) => offer,
            Err(error) => {
                let note = format!("has offered a file, which was refused. {error}");
                return self.chat.note(Some(&peer), &note);
            }
        };
        let store = match &self.store {
            Ok(store) => store.clone(),
            Err(_) => {
                let note = "has offered a file. This browser cannot store it.";
                self.chat.note(Some(&peer), note);
                return self.refuse(offer.decline(Refusal::NoPlace));
            }
        };
        let (decide, decision) = oneshot::channel();
        let (stop, stopped) = AbortHandle::new_pair();
        let (name, size) = (offer.name().clone(), offer.size());
        let Some(started) = self.transfers.add(peer, name, size, stop, Some(decide)) else {
            return self.refuse(offer.decline(Refusal::Busy));
        };
        let place = started.id.to_string();
        let received = receive(offer, decision, store, place, started.progress);
        self.begin(started.id, stopped, received);
    }

    fn refuse(&mut self, refused: impl Future<Output = Result<(), transfer::Error>> + 'static) {
        if self.refusing >= REFUSING {
            return;
        }
        self.refusing += 1;
        self.task(async move {
            // The sender may be gone.
            let _ = within(SOON, refused).await;
            Done::Refused
        });
    }

    /// Runs a transfer until it ends or is cancelled.
    fn begin(
        &mut self,
        id: u64,
        stopped: AbortRegistration,
        transfer: impl Future<Output = Ended> + 'static,
    ) {
        let transfer = Abortable::new(transfer, stopped);
        self.task(async move { Done::Ended(id, ended(transfer.await)) });
        self.look_soon();
    }

    fn task(&mut self, task: impl Future<Output = Done> + 'static) {
        self.tasks.push(Box::pin(task));
    }

    fn look_soon(&mut self) {
        if self.looks || !self.transfers.are_live() {
            return;
        }
        self.looks = true;
        self.task(async {
            Delay::new(LOOK).await;
            Done::Look
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Offered(peer, offer) => self.read(peer, offer),
            Done::Refused => self.refusing -= 1,
            Done::Ended(id, result) => {
                let peer = self.transfers.peer(id);
                let gone = peer.is_some_and(|peer| !self.peers.is_connected(&peer));
                let result = match result {
                    // The stream reports a lost connection and a cancelled transfer in the same way.
                    Err(Failure::Transfer(transfer::Error::Cancelled)) if gone => {
                        Err(Failure::Lost)
                    }
                    result => result,
                };
                self.transfers.end(id, result);
            }
            Done::Look => {
                self.looks = false;
                self.transfers.look();
                self.look_soon();
            }
            Done::Again(peer) => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.waits = false;
                }
                if self.peers.is_missing(&peer) {
                    self.dial(peer);
                }
            }
        }
    }
}
