//! The client's state at one rendezvous, from the time when the link opens until it is lost.
//!
//! Sans-IO: frames go in through [`Session::handle_text`] and come out of [`Session::poll_transmit`]. Events come out
//! of [`Session::poll_output`], and the caller passes in the time. The session does not keep the data of streams: it
//! hands each stream event back to the caller, who owns the [`Pair`](super::stream::Pair)s.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    time::Duration,
};

use web_time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{
    ProtocolError,
    credit::Grant,
    engine_io::{self, Version},
    event::{DialAnswer, DialId, Event, JoinAnswer, StreamEvent, StreamName},
    nonce::{self, NonceError},
    refusal::{self, Refusal},
    socket_io::Packet,
};
use crate::{address::StarAddr, words::Words};

/// The maximum data of a heartbeat, in bytes, as in WebSocket. The deployed software sends no data, or `probe`.
const MAX_HEARTBEAT_DATA: usize = 125;

/// The encoding of the public key in `ss-join`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyEncoding {
    /// Hexadecimal, as in every published client and server.
    #[default]
    Hex,
    /// Base64, as in the specification. No published server accepts it; the server of this crate does.
    Base64,
}

/// The reason why a join failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The rendezvous refused with this reason. `{}` is a JavaScript error that lost its text.
    #[error("the rendezvous refused the join: {}", Words(.0))]
    Refused(String),
    /// The rendezvous let us join without asking for a proof of our key.
    ///
    /// It would also let anybody else join under our address. `Config::with_allow_join_with_disabled_challenge` allows
    /// such a join.
    #[error(
        "the rendezvous has its challenge disabled: any peer could take our address there \
         (allow_join_with_disabled_challenge is off)"
    )]
    ChallengeDisabled,
    /// The rendezvous asked us to sign something other than two UUIDs of version 4 or of version 8.
    ///
    /// The signature has no domain separation: a signature over data that a rogue server chooses could prove anything,
    /// for example the possession of its Noise key.
    #[error("the rendezvous asked for a signature of what is not a nonce of two UUIDs")]
    InvalidNonce,
    /// The rendezvous asked us to sign a nonce of version 8 that was made for another address. It relays the challenge
    /// of another rendezvous, to join there in our place.
    #[error("the rendezvous asked for a signature of a nonce that was made for another address")]
    ForeignNonce,
    /// Our key could not sign.
    #[error("the identity key could not sign the nonce: {0}")]
    Signing(String),
    /// The rendezvous did not answer within the join timeout.
    #[error("the rendezvous did not answer the join within {0:?}")]
    TimedOut(Duration),
    /// The answer was malformed.
    #[error("the rendezvous answered the join with nonsense: {0}")]
    Malformed(#[source] ProtocolError),
    /// The rendezvous takes our public key for the answer to an earlier challenge, whose nonce came too late for us.
    /// The deployed servers never forget a nonce while the link lasts. So the client opens a new link if the link has
    /// no connections.
    #[error("the rendezvous waits for the answer to an earlier challenge")]
    StaleChallenge,
    /// We had joined under the address, and since then another node with the same key has joined under it. Dials now go
    /// to that node. Joining again takes the address back. Only this crate's rendezvous reports this.
    #[error("another node with the same key has joined under this address, and gets its dials now")]
    Displaced,
}

impl JoinError {
    /// Returns whether joining again cannot help, because the cause lies in the identity, the address or the
    /// configuration of one side.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::ChallengeDisabled
            | Self::InvalidNonce
            | Self::ForeignNonce
            | Self::Signing(_) => true,
            Self::TimedOut(_) | Self::Malformed(_) | Self::StaleChallenge | Self::Displaced => {
                false
            }
            Self::Refused(reason) => {
                Refusal::of_words(reason).is_some_and(|refusal| refusal.is_permanent())
            }
        }
    }

    /// Returns how long to wait before joining again, if the rendezvous names a time. Only this crate's rendezvous
    /// does: its operator decides which peers may use it, and when.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(reason) => refusal::retry_after(reason),
            _ => None,
        }
    }

    /// Returns the kind of the refusal, if the rendezvous refused in known words.
    pub fn refusal(&self) -> Option<JoinRefusal> {
        let Self::Refused(reason) = self else {
            return None;
        };
        match Refusal::of_words(reason)? {
            Refusal::InvalidMultiaddr => Some(JoinRefusal::Address),
            Refusal::NotAllowed(_)
            | Refusal::NotAllowedNow { .. }
            | Refusal::Undecided
            | Refusal::Overtaken => Some(JoinRefusal::NotAllowed),
            Refusal::NoKey
            | Refusal::UnusableProof
            | Refusal::WrongId
            | Refusal::WrongSignature
            | Refusal::Unnamed => Some(JoinRefusal::Identity),
            Refusal::TooManyJoins | Refusal::JoinRate => Some(JoinRefusal::TooMany),
            _ => None,
        }
    }

    /// Returns the same error with the time that the rendezvous has named replaced by `left`.
    pub(crate) fn with_time_left(&self, left: Duration) -> Self {
        match self {
            Self::Refused(reason) => Self::Refused(refusal::with_time_left(reason, left)),
            error => error.clone(),
        }
    }
}

impl From<NonceError> for JoinError {
    fn from(error: NonceError) -> Self {
        match error {
            NonceError::Form => Self::InvalidNonce,
            NonceError::OtherAddress => Self::ForeignNonce,
        }
    }
}

/// The kind of a refusal with which a rendezvous answers a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// No peer may join there under this address. This crate's rendezvous says so because it is known by other names.
    Address,
    /// The rendezvous does not accept the key or the signature. The npm server gives the same answer for some
    /// addresses.
    Identity,
    /// The operator of the rendezvous does not let this peer join, or not now.
    NotAllowed,
    /// There are too many joins, on one link or in one second.
    TooMany,
}

/// The reason why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The peer is not at the rendezvous.
    #[error("the peer is not at the rendezvous")]
    PeerNotFound,
    /// The rendezvous does not accept the address that we dial from as ours.
    #[error("the rendezvous does not let us dial from our address")]
    NotAuthorized,
    /// The peer or the rendezvous refused with this reason.
    #[error("the dial was refused: {}", Words(.0))]
    Refused(String),
    /// There was no answer within the dial timeout.
    #[error("no answer to the dial within {0:?}")]
    TimedOut(Duration),
    /// The answer was malformed.
    #[error("the rendezvous answered the dial with nonsense: {0}")]
    Malformed(#[source] ProtocolError),
    /// We are not joined at the rendezvous, and could not join.
    #[error("cannot join the rendezvous to dial through it: {0}")]
    Join(#[source] JoinError),
    /// The other peer reset the stream before it answered the dial.
    #[error("the peer reset the connection while it was being dialled")]
    Reset,
    /// The link has the maximum number of pending dials or of connections.
    #[error("too many dials and connections at this rendezvous")]
    TooMany,
}

impl DialError {
    /// Returns how long to wait before dialling the peer again, if the rendezvous names a time.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(reason) => refusal::retry_after(reason),
            Self::Join(error) => error.retry_after(),
            _ => None,
        }
    }
}

impl From<String> for DialError {
    fn from(reason: String) -> Self {
        match Refusal::of_words(&reason) {
            Some(Refusal::PeerNotFound) => Self::PeerNotFound,
            Some(Refusal::NotAuthorized) => Self::NotAuthorized,
            _ => Self::Refused(reason),
        }
    }
}

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
    /// The encoding of the public key.
    pub key_encoding: KeyEncoding,
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
            engine_io::Packet::Open(_) => Err(ProtocolError::Open("a second one".to_owned())),
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
                tracing::debug!(%error, "an event is passed over");
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
            _ => self.refuse(ack, "invalid dialler address"),
        }
    }

    fn peer(&mut self, address: &str) {
        match StarAddr::from_wire(address) {
            Ok(address) if address.peer().is_some_and(|peer| peer != self.local_peer) => {
                self.outputs.push_back(Output::Peer(address));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a peer is announced at an unusable address"),
        }
    }

    fn join(&mut self, now: Instant, address: StarAddr, listening: bool) {
        let wire = address.to_wire();
        let key = self.settings.keypair.public().encode_protobuf();
        let data = match self.settings.key_encoding {
            KeyEncoding::Hex => hex::encode(key),
            KeyEncoding::Base64 => BASE64_STANDARD.encode(key),
        };
        let join = Join {
            address,
            joined: false,
            listening,
            leaving: false,
        };
        self.joins.insert(wire.clone(), join);
        self.send_join(now, wire, data, Pending::Challenge);
    }

    fn send_join(
        &mut self,
        now: Instant,
        wire: String,
        data: String,
        pending: fn(String) -> Pending,
    ) {
        let ack = self.expect(pending(wire.clone()), now + self.settings.join_timeout);
        self.transmit.push_back(
            Event::Join {
                address: wire,
                data,
            }
            .encode(Some(ack)),
        );
    }

    fn handle_answer(&mut self, now: Instant, id: u64, json: &str) {
        match self.take_pending(id) {
            Some(Pending::Challenge(wire)) => match JoinAnswer::decode(json) {
                Ok(JoinAnswer::Nonce(nonce)) => self.sign(now, wire, &nonce),
                Ok(JoinAnswer::Joined(peers))
                    if self.settings.allow_join_with_disabled_challenge =>
                {
                    self.joined(&wire, &peers);
                }
                Ok(JoinAnswer::Joined(_)) => {
                    self.transmit.push_back(
                        Event::Leave {
                            address: wire.clone(),
                        }
                        .encode(None),
                    );
                    self.join_failed(&wire, JoinError::ChallengeDisabled);
                }
                Ok(JoinAnswer::Refused(reason)) => self.key_refused(now, wire, reason),
                Err(error) => self.join_failed(&wire, JoinError::Malformed(error)),
            },
            Some(Pending::Signature(wire)) => {
                self.signature_answered(&wire, json, JoinError::Refused);
            }
            Some(Pending::Replay(wire)) => self.signature_answered(&wire, json, without_proof),
            Some(Pending::Dial(dial)) => self.dial_answered(dial, json),
            // The answer came after its deadline, or it answers no request.
            None => tracing::debug!(id, "an acknowledgement that nobody waits for"),
        }
    }

    /// Handles the refusal of the first `ss-join`. If the rendezvous takes it for the answer to a challenge that it has
    /// kept, sends that answer. Any other refusal is unrelated to our proof.
    fn key_refused(&mut self, now: Instant, wire: String, reason: String) {
        let error = without_proof(reason);
        let kept = match error {
            JoinError::StaleChallenge => self.signatures.remove(&wire),
            _ => None,
        };
        match kept {
            Some(signature) => self.send_join(now, wire, signature, Pending::Replay),
            None => self.join_failed(&wire, error),
        }
    }

    fn signature_answered(&mut self, wire: &str, json: &str, refused: fn(String) -> JoinError) {
        let error = match JoinAnswer::decode(json) {
            Ok(JoinAnswer::Joined(peers)) => return self.joined(wire, &peers),
            Ok(JoinAnswer::Refused(reason)) => refused(reason),
            Ok(JoinAnswer::Nonce(_)) => JoinError::Malformed(ProtocolError::Arguments {
                event: "ss-join",
                reason: "a nonce where the join was due",
            }),
            Err(error) => JoinError::Malformed(error),
        };
        self.join_failed(wire, error);
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

    fn sign(&mut self, now: Instant, wire: String, nonce: &str) {
        if self.joins.get(&wire).is_none_or(|join| join.leaving) {
            self.joins.remove(&wire);
            return;
        }
        if let Err(error) = nonce::check(nonce, &wire) {
            return self.join_failed(&wire, error.into());
        }
        match self.settings.keypair.sign(nonce.as_bytes()) {
            Ok(signature) => {
                let signature = hex::encode(signature);
                self.signatures.insert(wire.clone(), signature.clone());
                self.send_join(now, wire, signature, Pending::Signature);
            }
            Err(error) => self.join_failed(&wire, JoinError::Signing(error.to_string())),
        }
    }

    fn joined(&mut self, wire: &str, peers: &[String]) {
        let Some(join) = self.joins.get_mut(wire) else {
            return;
        };
        join.joined = true;
        let address = join.address.clone();
        if join.leaving {
            return self.leave(&address);
        }
        if join.listening {
            self.outputs.push_back(Output::Joined { address });
        }
        for peer in peers {
            self.peer(peer);
        }
        for dial in std::mem::take(&mut self.waiting) {
            self.send_dial(wire, dial);
        }
    }

    /// Handles the loss of an address to another node. Ignores addresses that are not joined on this link.
    fn displaced(&mut self, wire: &str) {
        if self.joins.get(wire).is_some_and(|join| join.joined) {
            self.join_failed(wire, JoinError::Displaced);
        }
    }

    fn join_failed(&mut self, wire: &str, error: JoinError) {
        let Some(join) = self.joins.remove(wire) else {
            return;
        };
        if self.joins.is_empty() {
            for dial in std::mem::take(&mut self.waiting) {
                let result = Err(DialError::Join(error.clone()));
                self.outputs.push_back(Output::Dialed {
                    dial_id: dial.dial_id,
                    result,
                });
            }
        }
        if join.listening {
            let address = join.address;
            self.outputs
                .push_back(Output::JoinFailed { address, error });
        }
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

/// Returns why a join failed whose request had no signature for the open challenge. If the refusal is about a
/// signature, the rendezvous waits for the signature of another challenge.
fn without_proof(reason: String) -> JoinError {
    match Refusal::of_words(&reason) {
        Some(Refusal::WrongSignature | Refusal::UnusableProof) => JoinError::StaleChallenge,
        _ => JoinError::Refused(reason),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
