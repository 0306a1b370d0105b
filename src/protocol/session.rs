//! The client's state at one rendezvous, from the time when the link opens until it is lost.
//!
//! Sans-IO: frames go in through [`Session::handle_text`] and come out of [`Session::poll_transmit`]. Events come out
//! of [`Session::poll_output`], and the caller passes in the time. The session does not keep the data of streams: it
//! hands each stream event back to the caller, who owns the [`Pair`](super::stream::Pair)s.

mod error;
mod joins;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use web_time::Instant;

pub use self::error::{DialError, JoinError, JoinRefusal};
use self::joins::without_proof;
use super::{
    ProtocolError,
    credit::Grant,
    engine_io::{self, Version},
    event::{DialAnswer, DialId, Event, StreamEvent, StreamName},
    socket_io::Packet,
};
use crate::address::StarAddr;

/// The maximum data of a heartbeat, in bytes, as in WebSocket. The deployed software sends no data, or `probe`.
const MAX_HEARTBEAT_DATA: usize = 125;

/// The settings of a session.
#[derive(Clone)]
pub struct Settings {
    /// Our identity.
    pub keypair: Keypair,
    /// The time limit for each answer to `ss-join`.
    pub join_timeout: Duration,
    /// The time limit for a dial, including the join.
    pub dial_timeout: Duration,
    /// Whether to stay at a rendezvous that asks for no proof of the key.
    pub allow_join_with_disabled_challenge: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// An event that the session reports to its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// We have joined under an address that we listen on.
    Joined {
        /// The address.
        address: StarAddr,
    },
    /// We could not join under an address that we listen on.
    JoinFailed {
        /// The address.
        address: StarAddr,
        /// The reason.
        error: JoinError,
    },
    /// A dial is over.
    Dialed {
        /// The dial.
        dial_id: DialId,
        /// Whether it succeeded.
        result: Result<(), DialError>,
    },
    /// A peer dials us. The caller answers with [`Session::accept`] or [`Session::refuse`].
    Incoming {
        /// The dial.
        dial_id: DialId,
        /// The dialer.
        from: StarAddr,
        /// The acknowledgement to answer with.
        ack: u64,
    },
    /// A peer is at the rendezvous.
    Peer(StarAddr),
}

/// What the caller must do with a received text frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing: the session has handled the frame.
    Handled,
    /// Handle this event of a stream.
    Stream(StreamName<'a>, StreamEvent),
    /// Handle this item, which came in a binary message written as text.
    Item(Bytes),
    /// Answer a heartbeat of the server with this frame.
    Ping(String),
    /// Close the link: the server closes the session.
    Close,
}

#[derive(Debug)]
enum Pending {
    /// The first `ss-join`, which carries the public key.
    Challenge(String),
    /// The second `ss-join`, which carries the signature.
    Signature(String),
    /// The second `ss-join` again, with the signature of an earlier challenge on this link.
    Replay(String),
    Dial(Dial),
}

#[derive(Debug)]
struct Join {
    address: StarAddr,
    joined: bool,
    /// Whether we accept dials at this address. If not, we only dial from it.
    listening: bool,
    /// Whether to leave as soon as the join is answered.
    leaving: bool,
}

#[derive(Debug)]
struct Dial {
    dial_id: DialId,
    /// The spelling of the peer's address that was asked for last, and then the other spellings to try.
    to: VecDeque<String>,
    deadline: Instant,
}

/// The binary messages that the last text frame has announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    None,
    Item,
    /// This many binary messages, at least one, which are ignored.
    Foreign(usize),
}

/// The client's state at one rendezvous.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    local_peer: PeerId,
    /// The joins, by the wire form of the address.
    joins: HashMap<String, Join>,
    /// The signatures made on this link, by the wire form of the address. The deployed servers never clear a nonce, and
    /// take a second join of an address for the answer to its challenge.
    signatures: HashMap<String, String>,
    pending: HashMap<u64, (Pending, Instant)>,
    deadlines: BTreeSet<(Instant, u64)>,
    next_ack: u64,
    /// The dials that wait until an address is joined.
    waiting: VecDeque<Dial>,
    /// The binary messages that were announced and have not come yet.
    binary: Binary,
    transmit: VecDeque<String>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Returns a session for a link that has just opened.
    pub fn new(settings: Settings) -> Self {
        Self {
            local_peer: settings.keypair.public().to_peer_id(),
            settings,
            joins: HashMap::new(),
            signatures: HashMap::new(),
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_ack: 0,
            waiting: VecDeque::new(),
            binary: Binary::None,
            transmit: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Joins under `address` to accept dials there.
    pub fn listen(&mut self, now: Instant, address: &StarAddr) {
        let wire = address.to_wire();
        match self.joins.get_mut(&wire) {
            None => self.join(now, address.clone(), true),
            Some(join) => {
                join.listening = true;
                join.leaving = false;
                if join.joined {
                    self.outputs.push_back(Output::Joined {
                        address: address.clone(),
                    });
                }
            }
        }
    }

    /// Leaves `address`, so peers can no longer dial us there.
    pub fn leave(&mut self, address: &StarAddr) {
        let wire = address.to_wire();
        let Some(join) = self.joins.get_mut(&wire) else {
            return;
        };
        if join.joined {
            self.joins.remove(&wire);
            self.transmit
                .push_back(Event::Leave { address: wire }.encode(None));
        } else {
            join.listening = false;
            join.leaving = self.waiting.is_empty();
        }
    }

    /// Dials `to`. If we have not joined at the rendezvous yet, joins under our own address there first.
    ///
    /// `spellings` are the possible spellings of the peer's address on the wire. They are tried in turn, because a
    /// rendezvous knows a peer only by the spelling that the peer has joined with. All tries, and the join, must be
    /// over by `deadline`, which is [`Settings::dial_timeout`] after the dial began.
    pub fn dial(
        &mut self,
        now: Instant,
        deadline: Instant,
        dial_id: DialId,
        to: &StarAddr,
        spellings: impl IntoIterator<Item = String>,
    ) {
        let dial = Dial {
            dial_id,
            to: spellings.into_iter().collect(),
            deadline,
        };
        if let Some(from) = self.dialling_address() {
            return self.send_dial(&from, dial);
        }
        if self.joins.is_empty() {
            self.join(now, to.with_peer(self.local_peer), false);
        }
        for join in self.joins.values_mut() {
            join.leaving = false;
        }
        self.waiting.push_back(dial);
    }

    /// Forgets a dial whose answer is no longer needed.
    pub fn cancel_dial(&mut self, dial_id: &DialId) {
        self.waiting.retain(|dial| dial.dial_id != *dial_id);
        let is_it =
            |pending: &Pending| matches!(pending, Pending::Dial(dial) if dial.dial_id == *dial_id);
        let id = self.pending.iter().find(|(_, (pending, _))| is_it(pending));
        if let Some(id) = id.map(|(id, _)| *id) {
            self.take_pending(id);
        }
    }

    /// Accepts an incoming dial, and the dialer's stream.
    pub fn accept(&mut self, dial_id: &DialId, ack: u64) {
        let stream = StreamName {
            dial_id: dial_id.as_str(),
            sender: super::event::Side::Dialer,
        };
        self.accept_stream(stream);
        self.transmit.push_back(DialAnswer(Ok(())).encode(ack));
    }

    /// Refuses an incoming dial.
    pub fn refuse(&mut self, ack: u64, reason: &str) {
        self.transmit
            .push_back(DialAnswer(Err(reason.to_owned())).encode(ack));
    }

    /// Tells the sender of `stream` that it may send. A sender that knows credits may send the first credit.
    pub fn accept_stream(&mut self, stream: StreamName<'_>) {
        let event = Event::Stream {
            stream,
            event: StreamEvent::Accept(Some(Grant::FIRST)),
        };
        self.transmit.push_back(event.encode(None));
    }

    /// Returns whether any address for accepting dials is joined or being joined.
    pub fn is_listening(&self) -> bool {
        self.joins.values().any(|join| join.listening)
    }

    /// Returns whether any address is joined or being joined.
    pub fn has_joins(&self) -> bool {
        !self.joins.is_empty()
    }

    /// Handles a text frame from the link.
    ///
    /// # Errors
    /// Returns a violation of the protocol. The link is unusable after it.
    pub fn handle_text<'a>(
        &mut self,
        now: Instant,
        text: &'a str,
    ) -> Result<Received<'a>, ProtocolError> {
        if let Some(stream) = StreamName::of_queue_header(text) {
            self.expect_binary()?;
            return Ok(Received::Stream(stream, StreamEvent::BinaryItem));
        }
        match engine_io::Packet::decode(text)? {
            engine_io::Packet::Message(data) => self.handle_packet(now, Packet::decode(data)?),
            engine_io::Packet::Ping(data) if data.len() > MAX_HEARTBEAT_DATA => {
                Err(ProtocolError::Heartbeat(data.len()))
            }
            engine_io::Packet::Ping(data) => {
                Ok(Received::Ping(engine_io::Packet::Pong(data).encode()))
            }
            engine_io::Packet::Base64(data) => {
                let frame = Version::V3.decode_base64(data)?;
                let item = self.handle_binary(frame)?;
                Ok(item.map_or(Received::Handled, Received::Item))
            }
            engine_io::Packet::Close => Ok(Received::Close),
            engine_io::Packet::Open(_) => {
                Err(ProtocolError::Open("a second one on this link".to_owned()))
            }
            engine_io::Packet::Pong(_) | engine_io::Packet::Upgrade | engine_io::Packet::Noop => {
                Ok(Received::Handled)
            }
        }
    }

    /// Handles a binary frame from the link, and returns the item in it. Returns `None` if the frame belongs to an
    /// ignored packet.
    ///
    /// # Errors
    /// Returns a violation of the protocol. The link is unusable after it.
    pub fn handle_binary(&mut self, frame: Bytes) -> Result<Option<Bytes>, ProtocolError> {
        let (left, is_ours) = match self.binary {
            Binary::None => return Err(ProtocolError::UnannouncedBinary),
            Binary::Item => (Binary::None, true),
            Binary::Foreign(1) => (Binary::None, false),
            Binary::Foreign(due) => (Binary::Foreign(due.saturating_sub(1)), false),
        };
        self.binary = left;
        let data = engine_io::decode_binary(frame)?;
        Ok(is_ours.then_some(data))
    }

    /// Handles everything that is overdue at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            match self.take_pending(id) {
                Some(
                    Pending::Challenge(wire) | Pending::Signature(wire) | Pending::Replay(wire),
                ) => {
                    // The join may have succeeded all the same, and only its answer be late.
                    self.transmit.push_back(
                        Event::Leave {
                            address: wire.clone(),
                        }
                        .encode(None),
                    );
                    let error = JoinError::TimedOut(self.settings.join_timeout);
                    self.join_failed(&wire, error);
                }
                Some(Pending::Dial(dial)) => self.dial_timed_out(dial.dial_id),
                None => {}
            }
        }
        let (overdue, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|dial| dial.deadline <= now);
        self.waiting = waiting;
        for dial in overdue {
            self.dial_timed_out(dial.dial_id);
        }
    }

    /// Returns the time of the next call of [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|dial| dial.deadline);
        let pending = self.deadlines.first().map(|(deadline, _)| *deadline);
        waiting.chain(pending).min()
    }

    /// Returns the next text frame to send.
    pub fn poll_transmit(&mut self) -> Option<String> {
        self.transmit.pop_front()
    }

    /// Returns the number of text frames that wait to be sent.
    pub fn transmits(&self) -> usize {
        self.transmit.len()
    }

    /// Returns the next event for the caller.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn handle_packet<'a>(
        &mut self,
        now: Instant,
        packet: Packet<'a>,
    ) -> Result<Received<'a>, ProtocolError> {
        if self.binary != Binary::None {
            return Err(ProtocolError::MissingBinary);
        }
        match packet {
            Packet::Event { ack, json } => Ok(self.handle_event(ack, Event::decode(json, false))),
            Packet::BinaryEvent { ack, json } => {
                self.expect_binary()?;
                Ok(self.handle_event(ack, Event::decode(json, true)))
            }
            Packet::Ack { id, json } => {
                self.handle_answer(now, id, json);
                Ok(Received::Handled)
            }
            Packet::Disconnect => Ok(Received::Close),
            Packet::Error(_) => Err(ProtocolError::SocketIo("the server refused the namespace")),
            Packet::Foreign { attachments } => {
                if attachments > 0 {
                    self.binary = Binary::Foreign(attachments);
                }
                Ok(Received::Handled)
            }
            Packet::Connect(_) | Packet::ForeignConnect(_) => Ok(Received::Handled),
        }
    }

    fn expect_binary(&mut self) -> Result<(), ProtocolError> {
        if self.binary != Binary::None {
            return Err(ProtocolError::MissingBinary);
        }
        self.binary = Binary::Item;
        Ok(())
    }

    /// Handles an event. Malformed events are ignored, as in the deployed clients: a rendezvous may relay what a peer
    /// made up, and one peer must not be able to break our link.
    fn handle_event<'a>(
        &mut self,
        ack: Option<u64>,
        event: Result<Event<'a>, ProtocolError>,
    ) -> Received<'a> {
        match (event, ack) {
            (Ok(Event::Stream { stream, event }), _) => return Received::Stream(stream, event),
            (Ok(Event::Incoming { dial_id, from }), Some(ack)) => {
                self.incoming(dial_id, &from, ack);
            }
            (Ok(Event::Peer { address }), _) => self.peer(&address),
            (Ok(Event::Displaced { address }), _) => self.displaced(&address),
            (Err(error), ack) => {
                tracing::debug!(%error, "a malformed event is ignored");
                if let Some(ack) = ack {
                    self.refuse(ack, "malformed arguments");
                }
            }
            // Servers do not send these. socket.io drops events without a handler.
            (Ok(_), _) => {}
        }
        Received::Handled
    }

    fn incoming(&mut self, dial_id: DialId, from: &str, ack: u64) {
        if !self.is_listening() {
            return self.refuse(ack, "not listening");
        }
        match StarAddr::from_wire(from) {
            Ok(from) if from.peer().is_some() => {
                self.outputs
                    .push_back(Output::Incoming { dial_id, from, ack });
            }
            _ => self.refuse(ack, "invalid dialer address"),
        }
    }

    fn peer(&mut self, address: &str) {
        match StarAddr::from_wire(address) {
            Ok(address) if address.peer().is_some_and(|peer| peer != self.local_peer) => {
                self.outputs.push_back(Output::Peer(address));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a peer was announced under an unusable address"),
        }
    }

    fn handle_answer(&mut self, now: Instant, id: u64, json: &str) {
        match self.take_pending(id) {
            Some(Pending::Challenge(wire)) => self.challenge_answered(now, wire, json),
            Some(Pending::Signature(wire)) => {
                self.signature_answered(&wire, json, JoinError::Refused);
            }
            Some(Pending::Replay(wire)) => self.signature_answered(&wire, json, without_proof),
            Some(Pending::Dial(dial)) => self.dial_answered(dial, json),
            // The answer came after its deadline, or it answers no request.
            None => tracing::debug!(id, "an unexpected acknowledgement is ignored"),
        }
    }

    fn dial_answered(&mut self, mut dial: Dial, json: &str) {
        let result = match DialAnswer::decode(json) {
            Ok(DialAnswer(answer)) => answer.map_err(DialError::from),
            Err(error) => Err(DialError::Malformed(error)),
        };
        if result == Err(DialError::PeerNotFound) && dial.to.len() > 1 {
            dial.to.pop_front();
            if let Some(from) = self.dialling_address() {
                return self.send_dial(&from, dial);
            }
        }
        self.outputs.push_back(Output::Dialed {
            dial_id: dial.dial_id,
            result,
        });
    }

    /// Returns a joined address to dial from.
    fn dialling_address(&self) -> Option<String> {
        let joined = self.joins.iter().find(|(_, join)| join.joined);
        joined.map(|(wire, _)| wire.clone())
    }

    fn send_dial(&mut self, from: &str, dial: Dial) {
        let event = Event::Dial {
            from: from.to_owned(),
            to: dial.to.front().cloned().unwrap_or_default(),
            dial_id: dial.dial_id.clone(),
        };
        let deadline = dial.deadline;
        let ack = self.expect(Pending::Dial(dial), deadline);
        self.transmit.push_back(event.encode(Some(ack)));
    }

    fn dial_timed_out(&mut self, dial_id: DialId) {
        let result = Err(DialError::TimedOut(self.settings.dial_timeout));
        self.outputs.push_back(Output::Dialed { dial_id, result });
    }

    fn expect(&mut self, pending: Pending, deadline: Instant) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        self.pending.insert(id, (pending, deadline));
        self.deadlines.insert((deadline, id));
        id
    }

    fn take_pending(&mut self, id: u64) -> Option<Pending> {
        let (pending, deadline) = self.pending.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        Some(pending)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
