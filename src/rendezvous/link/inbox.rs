//! What arrives on one link: requests go to the registry, items go straight to the other peer's link.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Ended, Partner,
    joining::{self, Begun, Joining},
    quota_wait::QuotaWait,
    way::{Delivery, Destination, Sent, Waiting, note_sent, put},
};
use crate::{
    protocol::{
        ProtocolError,
        engine_io::{self, Version},
        event::{DialId, End, Event, Side, StreamEvent, StreamName, uuid},
        excerpt, socket_io,
    },
    rendezvous::{hub::Member, outbox::Parcel, registry::Route},
    runtime::now,
    websocket::Message,
};

/// The number of cached routes from which on those of ended streams are looked for and forgotten.
const FIRST_SWEEP: usize = 64;
/// The longest name of a foreign namespace that is repeated in a refusal, in bytes.
const MAX_NAMESPACE: usize = 256;
/// The number of bytes beside the items' data (headers, accepts, ends) that are counted at once, in bytes. They have to
/// count: what belongs to a stream is relayed unchanged, so a sender could otherwise use them to get around its quota.
const BESIDE: usize = 16 * 1024;
const MALFORMED_ITEM: &str = "the sender sent something that is neither bytes nor a string";

/// The outcome of a message.
#[derive(Debug)]
pub(super) enum Handled {
    /// The message is dealt with.
    Done,
    /// A heartbeat, to be answered with this text.
    Ping(&'static str),
    /// A request was refused, and so were too many before it. Nothing more may be read until this time.
    Rest(Instant),
    /// A join that is not decided yet. Nothing more may be read before it is.
    Join(Box<Joining>),
    /// An item for which a quota may have no room now. Until the item has passed, only messages that [may overtake
    /// it](Inbox::may_overtake) may be dealt with.
    Limit(Box<QuotaWait>),
    /// The item's destination has no room now. Nothing more may be read before the item is put in.
    Wait(Waiting),
}

/// The peer's state in the namespace `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    /// A peer of version 4, which has to ask for the namespace first.
    Due,
    Connected,
    /// The peer has left. It may ask for the namespace again; until then, its events are ignored.
    Left,
}

#[derive(Debug)]
pub(super) struct Inbox {
    version: Version,
    end: Partner,
    namespace: Namespace,
    /// The number of binary frames that a text frame has announced and that have not arrived yet.
    attachments: usize,
    /// The destination of the next of these frames, if it has one.
    due: Option<Arc<Destination>>,
    /// The cached destinations of each dial, by the side that sends the stream.
    routes: HashMap<DialId, [Option<Arc<Destination>>; 2]>,
    next_sweep: usize,
    /// The number of bytes that came beside items and are not counted yet.
    beside: usize,
}

impl Inbox {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            end: Partner::Client,
            namespace: match version {
                Version::V3 => Namespace::Connected,
                Version::V4 => Namespace::Due,
            },
            attachments: 0,
            due: None,
            routes: HashMap::new(),
            next_sweep: FIRST_SWEEP,
            beside: 0,
        }
    }

    /// Creates the inbox of a link to another node, which need not ask for the namespace.
    #[cfg(feature = "cluster")]
    pub(super) fn connected(version: Version, end: Partner) -> Self {
        Self {
            namespace: Namespace::Connected,
            end,
            ..Self::new(version)
        }
    }

    /// Deals with a message from the link.
    pub(super) fn handle(&mut self, member: &Member, message: Message) -> Result<Handled, Ended> {
        let message = match message {
            Message::Binary(data) => return Ok(self.handle_binary(member, data)?),
            Message::Close(_) => return Err(Ended::ByPeer),
            // The WebSocket answers its own pings.
            Message::Ping(_) | Message::Pong(_) => return Ok(Handled::Done),
            Message::Text(_) => message,
        };
        let text = message.as_text().unwrap_or_default();
        if let Some(stream) = StreamName::of_queue_header(text) {
            let stream = self.takes_events(text)?.then_some(stream);
            self.expect_binary(member, stream)?;
            return Ok(Handled::Done);
        }
        match engine_io::Packet::decode(text)? {
            engine_io::Packet::Message(data) => {
                if self.attachments > 0 {
                    return Err(ProtocolError::MissingBinary.into());
                }
                let packet = socket_io::Packet::decode(data)?;
                if let Some(handled) = self.pass_over(member, packet, text)? {
                    self.attachments = packet.attachments();
                    return Ok(handled);
                }
                self.handle_packet(member, packet, &message)
            }
            engine_io::Packet::Base64(data) => {
                let data = self.version.decode_base64(data)?;
                Ok(self.handle_binary(member, data)?)
            }
            // In version 4 the server sends the pings, so there is nothing to answer.
            engine_io::Packet::Ping(_) if self.version == Version::V4 => Ok(Handled::Done),
            engine_io::Packet::Ping("probe") => Ok(Handled::Ping("3probe")),
            engine_io::Packet::Ping(_) => Ok(Handled::Ping("3")),
            engine_io::Packet::Close => Err(Ended::ByPeer),
            engine_io::Packet::Open(_) => {
                Err(ProtocolError::Open("only a server opens".to_owned()).into())
            }
            engine_io::Packet::Pong(_) | engine_io::Packet::Upgrade | engine_io::Packet::Noop => {
                Ok(Handled::Done)
            }
        }
    }

    /// Returns whether a message may overtake an item that came before it and waits. Heartbeats, joins, dials and the
    /// answers to dials may. All other messages belong to a stream, or may end one.
    pub(super) fn may_overtake(&self, message: &Message) -> bool {
        match message {
            Message::Ping(_) | Message::Pong(_) => return true,
            Message::Binary(_) | Message::Close(_) => return false,
            Message::Text(_) => {}
        }
        let text = message.as_text().unwrap_or_default();
        match engine_io::Packet::decode(text) {
            Ok(engine_io::Packet::Ping(_) | engine_io::Packet::Pong(_)) => true,
            Ok(engine_io::Packet::Message(data)) if self.attachments == 0 => {
                match socket_io::Packet::decode(data) {
                    Ok(socket_io::Packet::Ack { .. }) => true,
                    Ok(socket_io::Packet::Event { json, .. }) => matches!(
                        Event::decode(json, false),
                        Ok(Event::Join { .. } | Event::Dial { .. })
                    ),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Handles the end of a wait: the parcel was put in, or its destination is gone.
    pub(super) fn handle_sent(&mut self, member: &Member, waiting: Waiting) {
        let Waiting {
            destination,
            sent,
            counted,
            ..
        } = waiting;
        note_sent(member, &destination, &sent, counted);
    }

    /// Resets the dial of a parcel that has waited for too long.
    pub(super) fn give_up(&mut self, member: &Member, waiting: Waiting) {
        let Waiting {
            push, destination, ..
        } = waiting;
        drop(push);
        let stream = destination.header.as_text();
        if let Some(stream) = stream.and_then(StreamName::of_queue_header) {
            let flow = destination.route.flow();
            member
                .hub
                .with(|registry| registry.handle_held_up(member.link, stream.dial_id, flow));
        }
    }

    fn handle_binary(&mut self, member: &Member, data: Bytes) -> Result<Handled, ProtocolError> {
        let left = self.attachments.checked_sub(1);
        self.attachments = left.ok_or(ProtocolError::UnannouncedBinary)?;
        let due = self.due.take();
        if !self.version.is_binary_message(&data) {
            return Err(ProtocolError::BinaryPrefix);
        }
        let Some(destination) = due.filter(|due| due.route.sends && !due.route.is_over()) else {
            return Ok(Handled::Done);
        };
        let bytes = data.len().saturating_sub(self.version.binary_prefix());
        let data = match destination.outbox.version() {
            version if version == self.version => data,
            version => self.version.convert_binary(data, version),
        };
        let counted = bytes + self.count_beside(destination.header.len());
        let parcel = Parcel::Item(destination.header.clone(), Message::Binary(data));
        let delivery = Delivery {
            destination,
            parcel,
            sent: Sent::Item(bytes),
            counted,
        };
        Ok(forward(member, delivery))
    }

    /// Returns whether the peer's events are accepted, that is, whether it is connected to the namespace.
    fn takes_events(&self, text: &str) -> Result<bool, ProtocolError> {
        match self.namespace {
            Namespace::Connected => Ok(true),
            Namespace::Left => Ok(false),
            Namespace::Due => Err(ProtocolError::Start {
                expected: "the Socket.IO connect packet",
                received: excerpt(text, 64),
            }),
        }
    }

    /// Deals with a packet that belongs to another namespace, is of no use here, or asks for a namespace; its
    /// attachments are left to the caller. Returns `None` for any other packet.
    fn pass_over(
        &mut self,
        member: &Member,
        packet: socket_io::Packet<'_>,
        text: &str,
    ) -> Result<Option<Handled>, ProtocolError> {
        match packet {
            socket_io::Packet::Connect(_) => self.connect(member)?,
            socket_io::Packet::ForeignConnect(name) if name.len() <= MAX_NAMESPACE => {
                let refusal = socket_io::refuse_namespace(self.version, name);
                member.outbox.push_own(Message::text(refusal));
                let rest = member.hub.with(|registry| {
                    registry.count_refusal(member.link, now());
                    registry.poll_rest(member.link)
                });
                return Ok(Some(done_or_rest(rest)));
            }
            socket_io::Packet::ForeignConnect(_) | socket_io::Packet::Foreign { .. } => {}
            _ if self.takes_events(text)? => return Ok(None),
            _ => {}
        }
        Ok(Some(Handled::Done))
    }

    /// Answers a peer that asks for the namespace.
    fn connect(&mut self, member: &Member) -> Result<(), ProtocolError> {
        let answer = match (self.version, self.namespace) {
            // A client of version 3 is connected already, and need not ask.
            (Version::V3, Namespace::Connected) => return Ok(()),
            (Version::V4, Namespace::Connected) => {
                return Err(ProtocolError::SocketIo("connected already"));
            }
            (Version::V3, _) => socket_io::Packet::Connect(None).encode(),
            (Version::V4, _) => {
                let json = serde_json::json!({ "sid": uuid() }).to_string();
                socket_io::Packet::Connect(Some(&json)).encode()
            }
        };
        self.namespace = Namespace::Connected;
        member.outbox.push_own(Message::text(answer));
        Ok(())
    }

    /// Handles a peer that leaves the namespace and keeps its link.
    fn disconnect(&mut self, member: &Member) {
        self.namespace = Namespace::Left;
        self.routes.clear();
        member
            .hub
            .with(|registry| registry.handle_disconnect(member.link));
        member.set_joined(false);
    }

    fn expect_binary(
        &mut self,
        member: &Member,
        stream: Option<StreamName<'_>>,
    ) -> Result<(), ProtocolError> {
        if self.attachments > 0 {
            return Err(ProtocolError::MissingBinary);
        }
        self.attachments = 1;
        self.due = stream.and_then(|stream| self.destination(member, stream, Route::is_over));
        Ok(())
    }

    fn handle_packet(
        &mut self,
        member: &Member,
        packet: socket_io::Packet<'_>,
        message: &Message,
    ) -> Result<Handled, Ended> {
        match packet {
            socket_io::Packet::Event { ack, json } => match Event::decode(json, false) {
                Ok(Event::Stream { stream, event }) => {
                    return Ok(self.handle_stream(member, stream, &event, ack, message));
                }
                // On a way, only this node sends requests; a request from the other end ends the link.
                #[cfg(feature = "cluster")]
                Ok(_) if self.end == Partner::Way => return Err(Ended::ByPeer),
                Ok(event) => return Ok(request(member, event, ack)),
                Err(error) => return Ok(malformed(member, ack, error)),
            },
            socket_io::Packet::BinaryEvent { ack, json } => match Event::decode(json, true) {
                Ok(Event::Stream {
                    stream,
                    event: StreamEvent::BinaryItem,
                }) => self.expect_binary(member, Some(stream))?,
                Ok(_) => self.expect_binary(member, None)?,
                Err(error) => {
                    self.expect_binary(member, None)?;
                    return Ok(malformed(member, ack, error));
                }
            },
            socket_io::Packet::Ack { id, json } => {
                member.hub.handle_ack(member.link, id, json);
            }
            // A node that no longer needs a link closes it, so this ends the link.
            socket_io::Packet::Disconnect if self.end != Partner::Client => {
                return Err(Ended::ByPeer);
            }
            socket_io::Packet::Disconnect => self.disconnect(member),
            // Only a server sends an error. The other packets were dealt with before.
            socket_io::Packet::Error(_)
            | socket_io::Packet::Connect(_)
            | socket_io::Packet::ForeignConnect(_)
            | socket_io::Packet::Foreign { .. } => {}
        }
        Ok(Handled::Done)
    }

    fn handle_stream(
        &mut self,
        member: &Member,
        stream: StreamName<'_>,
        event: &StreamEvent,
        ack: Option<u64>,
        message: &Message,
    ) -> Handled {
        // An accept with a credit may also return credit of the dial's other stream, so it is dropped only when both
        // are over.
        let is_over = match event {
            StreamEvent::Accept(Some(_)) => Route::is_dial_over,
            _ => Route::is_over,
        };
        let Some(destination) = self.destination(member, stream, is_over) else {
            return Handled::Done;
        };
        let (sends, receives) = (destination.route.sends, destination.route.receives);
        let end =
            || DialId::new(stream.dial_id).map_or(Sent::Nothing, |id| Sent::End(id, stream.sender));
        // If the sender asked for an acknowledgement, the text is encoded anew without it: the other peer is not to
        // give one.
        let text = |event: &StreamEvent| match ack {
            None => message.clone(),
            Some(_) => encode(stream, event.clone()),
        };
        let (text, sent) = match event {
            StreamEvent::Accept(_) if receives => (text(event), Sent::Nothing),
            StreamEvent::Item(item) if sends => (text(event), Sent::Item(item.len())),
            StreamEvent::End(_) if sends || receives => (text(event), end()),
            StreamEvent::Malformed if sends => {
                let event = StreamEvent::End(End::Error(MALFORMED_ITEM.to_owned()));
                let text = encode(stream, event);
                // Both peers are told that the stream is over.
                member.outbox.push_own(text.clone());
                (text, end())
            }
            _ => return Handled::Done,
        };
        let item = match sent {
            Sent::Item(bytes) => bytes,
            Sent::Nothing | Sent::End(..) => 0,
        };
        let beside = text.len().saturating_sub(item);
        let counted = item + self.count_beside(beside);
        let parcel = match event {
            StreamEvent::Accept(_) => Parcel::Accept(text),
            _ => Parcel::One(text),
        };
        let delivery = Delivery {
            destination,
            parcel,
            sent,
            counted,
        };
        forward(member, delivery)
    }

    /// Counts bytes that came beside items; returns the number of bytes that are charged now.
    fn count_beside(&mut self, bytes: usize) -> usize {
        self.beside += bytes;
        match self.beside >= BESIDE {
            true => std::mem::take(&mut self.beside),
            false => 0,
        }
    }

    /// Returns the destination of what this link sends on `stream`; `None` if the stream is over or not the link's.
    fn destination(
        &mut self,
        member: &Member,
        stream: StreamName<'_>,
        is_over: fn(&Route) -> bool,
    ) -> Option<Arc<Destination>> {
        let side = side_index(stream.sender);
        if let Some(destinations) = self.routes.get(stream.dial_id)
            && let Some(destination) = destinations.get(side)?
            && !is_over(&destination.route)
        {
            return Some(destination.clone());
        }
        let (route, outbox) = member.hub.route(member.link, stream)?;
        if is_over(&route) {
            return None;
        }
        self.sweep();
        let destination = Arc::new(Destination {
            route,
            outbox,
            header: Message::text(stream.queue_header()),
        });
        let destinations = self.routes.entry(DialId::new(stream.dial_id)?).or_default();
        *destinations.get_mut(side)? = Some(destination.clone());
        Some(destination)
    }

    /// Forgets the routes of ended streams, whenever there are twice as many routes as the last sweep left.
    fn sweep(&mut self) {
        if self.routes.len() < self.next_sweep {
            return;
        }
        self.routes.retain(|_, destinations| {
            let mut open = destinations.iter().flatten();
            open.any(|destination| !destination.route.is_over())
        });
        self.next_sweep = FIRST_SWEEP.max(self.routes.len() * 2);
    }
}

fn side_index(side: Side) -> usize {
    match side {
        Side::Dialer => 0,
        Side::Listener => 1,
    }
}

fn encode(stream: StreamName<'_>, event: StreamEvent) -> Message {
    Message::text(Event::Stream { stream, event }.encode(None))
}

/// Relays a parcel, or returns it as an item that waits for a quota.
fn forward(member: &Member, delivery: Delivery) -> Handled {
    if delivery.counted > 0
        && let Some(quotas) = member.hub.quotas()
        && let Some(meter) = &delivery.destination.route.meter
    {
        return Handled::Limit(Box::new(QuotaWait {
            pass: quotas.enter(&member.claimant, meter, delivery.counted),
            meter: meter.clone(),
            delivery,
        }));
    }
    put(member, delivery).map_or(Handled::Done, Handled::Wait)
}

fn done_or_rest(until: Option<Instant>) -> Handled {
    until.map_or(Handled::Done, Handled::Rest)
}

fn request(member: &Member, event: Event<'_>, ack: Option<u64>) -> Handled {
    let Member { hub, link, .. } = member;
    let may_join = matches!(event, Event::Join { .. } | Event::Leave { .. });
    let (check, joined, rest) = hub.with(|registry| {
        let check = registry.handle_event(*link, event, ack, now());
        (check, registry.has_joined(*link), registry.poll_rest(*link))
    });
    if let Some(check) = check {
        return match joining::begin(member, check) {
            Begun::Told(rest) => done_or_rest(rest),
            Begun::Waits(joining) => Handled::Join(joining),
        };
    }
    if may_join {
        member.set_joined(joined);
    }
    done_or_rest(rest)
}

fn malformed(member: &Member, ack: Option<u64>, error: ProtocolError) -> Handled {
    tracing::debug!(%error, "a malformed event");
    let Some(ack) = ack else {
        return Handled::Done;
    };
    let rest = member.hub.with(|registry| {
        registry.handle_malformed(member.link, ack, error, now());
        registry.poll_rest(member.link)
    });
    done_or_rest(rest)
}
