//! The events of websocket-star. Every argument is validated.
//!
//! The names and the order of the arguments are those of the deployed client and server, including misspellings
//! (`ss-incomming`).

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use super::{ProtocolError, credit::Grant, excerpt, nonce, socket_io::Packet};

/// The maximum number of arguments. No event has more, and longer arrays are refused.
const MAX_ARGUMENTS: usize = 8;
/// The longest dial id, in bytes. The deployed clients send UUIDs, which have 36 bytes.
const MAX_DIAL_ID: usize = 128;
/// The maximum length of a quoted reason from the other side, in bytes.
const MAX_REASON: usize = 256;

/// The longest placeholder of a binary item that is parsed, in bytes. The usual one has 29 bytes.
const MAX_PLACEHOLDER: usize = 64;
const BUFFER_HEADER: &str = "{\"type\":\"Buffer\",\"data\":";

const STREAM_PREFIX: &str = "socket.io-pull-stream.";
const QUEUE_HEADER: &str = "451-[\"socket.io-pull-stream.queue.";
const QUEUE_TRAILER: &str = "\",{\"_placeholder\":true,\"num\":0}]";

/// The id of a dial, chosen by the dialer. It is unique among the dials of both peers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(Arc<str>);

impl DialId {
    /// Returns a new random id, a version 4 UUID.
    pub fn random() -> Self {
        Self(uuid().into())
    }

    /// Reads an id from the wire.
    ///
    /// # Errors
    /// Returns `None` if the id is empty, longer than 128 bytes, or contains characters that JSON would escape.
    pub fn new(id: &str) -> Option<Self> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        (!id.is_empty() && id.len() <= MAX_DIAL_ID && id.bytes().all(plain))
            .then(|| Self(id.into()))
    }

    /// Returns the id as it is written on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::borrow::Borrow<str> for DialId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Returns a random version 4 UUID in lower case.
pub(crate) fn uuid() -> String {
    nonce::uuid(rand::random(), 4)
}

/// The peer that sends one of a dial's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The dialer, which sends the stream to the listener.
    Dialer,
    /// The listener, which sends the stream to the dialer.
    Listener,
}

impl Side {
    fn suffix(self) -> &'static str {
        match self {
            Self::Dialer => ".dialer",
            Self::Listener => ".listener",
        }
    }

    /// Returns the sender of the other stream.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// The name of one stream: `<dial id>.dialer` or `<dial id>.listener`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamName<'a> {
    /// The dial.
    pub dial_id: &'a str,
    /// The peer that sends the stream.
    pub sender: Side,
}

impl<'a> StreamName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        [Side::Dialer, Side::Listener]
            .into_iter()
            .find_map(|sender| {
                let dial_id = name.strip_suffix(sender.suffix())?;
                Some(Self { dial_id, sender })
            })
    }

    /// Reads the stream of a binary queue item from the text frame before the item, without parsing JSON. Returns
    /// `None` if the frame is not written as every deployed sender writes it.
    pub fn of_queue_header(text: &'a str) -> Option<Self> {
        let name = text
            .strip_prefix(QUEUE_HEADER)?
            .strip_suffix(QUEUE_TRAILER)?;
        let plain = !name.bytes().any(|byte| matches!(byte, b'"' | b'\\'));
        plain.then(|| Self::parse(name))?
    }

    /// Returns the text frame that is sent before each binary queue item of the stream.
    pub fn queue_header(&self) -> String {
        format!("{QUEUE_HEADER}{self}{QUEUE_TRAILER}")
    }
}

impl fmt::Display for StreamName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dial_id, self.sender.suffix())
    }
}

/// One event, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// `ss-join` (client to server): the address to join, and the public key or the signature.
    Join {
        /// The address in its wire form.
        address: String,
        /// The public key or the signature, in hexadecimal or base64.
        data: String,
    },
    /// `ss-leave` (client to server).
    Leave {
        /// The address in its wire form.
        address: String,
    },
    /// `ss-dial` (client to server).
    Dial {
        /// An address of the dialer that is joined on this link.
        from: String,
        /// The peer's address.
        to: String,
        /// The dial.
        dial_id: DialId,
    },
    /// `ss-incomming` (server to client).
    Incoming {
        /// The dial.
        dial_id: DialId,
        /// The dialer's address.
        from: String,
    },
    /// `ws-peer` (server to client): a peer has joined.
    Peer {
        /// The peer's address in its own spelling.
        address: String,
    },
    /// `ss-displaced` (server to client): another link has joined under the address, and gets its dials from now on.
    /// This is an extension of this crate's rendezvous. Other clients ignore it.
    Displaced {
        /// The address, as it was joined.
        address: String,
    },
    /// An event of one stream, as in socket.io-pull-stream.
    Stream {
        /// The stream.
        stream: StreamName<'a>,
        /// The event on that stream.
        event: StreamEvent,
    },
    /// An event with another name. socket.io drops events without a handler.
    Unknown,
}

/// An event on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The receiver is ready: the sender may send, within the credit if there is one.
    Accept(Option<Grant>),
    /// One item that came as JSON: a string or an array of bytes.
    Item(Bytes),
    /// One item whose bytes are in the binary frame that follows.
    BinaryItem,
    /// The sender sends no more.
    End(End),
    /// The sender sent something that is neither bytes nor a string.
    Malformed,
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything was sent.
    Finished,
    /// The sender gave up, with a reason of at most 256 bytes.
    Error(String),
}

impl<'a> Event<'a> {
    /// Decodes the JSON of an event. `binary` tells whether a binary frame follows.
    ///
    /// # Errors
    /// Returns [`ProtocolError::Arguments`] if the event is known and its arguments have the wrong form.
    pub fn decode(json: &'a str, binary: bool) -> Result<Self, ProtocolError> {
        let Arguments(arguments) = Arguments::parse("event", json)?;
        let mut arguments = arguments.into_iter();
        let name: &str = arguments
            .next()
            .and_then(|name| serde_json::from_str(name.get()).ok())
            .ok_or_else(|| wrong("event", "the name is not a plain string"))?;
        if let Some(name) = name.strip_prefix(STREAM_PREFIX) {
            return Ok(Self::decode_stream(name, arguments.next(), binary));
        }
        let mut string = |event| {
            let argument = arguments.next();
            argument
                .and_then(|text| serde_json::from_str::<String>(text.get()).ok())
                .ok_or_else(|| wrong(event, "an argument is not a string"))
        };
        let dial_id =
            |event, id: String| DialId::new(&id).ok_or_else(|| wrong(event, "unusable dial id"));
        Ok(match name {
            "ss-join" => Self::Join {
                address: string("ss-join")?,
                data: string("ss-join")?,
            },
            "ss-leave" => Self::Leave {
                address: string("ss-leave")?,
            },
            "ss-dial" => Self::Dial {
                from: string("ss-dial")?,
                to: string("ss-dial")?,
                dial_id: dial_id("ss-dial", string("ss-dial")?)?,
            },
            "ss-incomming" => Self::Incoming {
                dial_id: dial_id("ss-incomming", string("ss-incomming")?)?,
                from: string("ss-incomming")?,
            },
            "ws-peer" => Self::Peer {
                address: string("ws-peer")?,
            },
            "ss-displaced" => Self::Displaced {
                address: string("ss-displaced")?,
            },
            _ => Self::Unknown,
        })
    }

    fn decode_stream(name: &'a str, argument: Option<&'a RawValue>, binary: bool) -> Self {
        let Some((kind, name)) = name.split_once('.') else {
            return Self::Unknown;
        };
        let Some(stream) = StreamName::parse(name) else {
            return Self::Unknown;
        };
        let argument = argument.map(RawValue::get);
        let event = match kind {
            "accept" => StreamEvent::Accept(argument.and_then(Grant::decode)),
            "queue" if binary => match argument {
                Some(text) if is_placeholder(text) => StreamEvent::BinaryItem,
                _ => StreamEvent::Malformed,
            },
            "queue" => json_item(argument.unwrap_or("null"))
                .map_or(StreamEvent::Malformed, StreamEvent::Item),
            "error" => StreamEvent::End(match argument {
                Some("true") => End::Finished,
                other => End::Error(reason(other.unwrap_or("null"))),
            }),
            _ => return Self::Unknown,
        };
        Self::Stream { stream, event }
    }

    /// Encodes the event as a text frame.
    ///
    /// For a [`StreamEvent::BinaryItem`] this is only the header. The caller sends the binary frame.
    pub fn encode(&self, ack: Option<u64>) -> String {
        let json = match self {
            Self::Join { address, data } => json!(["ss-join", address, data]),
            Self::Leave { address } => json!(["ss-leave", address]),
            Self::Dial { from, to, dial_id } => json!(["ss-dial", from, to, dial_id.as_str()]),
            Self::Incoming { dial_id, from } => json!(["ss-incomming", dial_id.as_str(), from]),
            Self::Peer { address } => json!(["ws-peer", address]),
            Self::Displaced { address } => json!(["ss-displaced", address]),
            Self::Stream { stream, event } => {
                let name = |kind| format!("{STREAM_PREFIX}{kind}.{stream}");
                match event {
                    StreamEvent::BinaryItem => return stream.queue_header(),
                    StreamEvent::Accept(None) => json!([name("accept")]),
                    StreamEvent::Accept(Some(grant)) => json!([name("accept"), grant.encode()]),
                    StreamEvent::Item(item) => json!([name("queue"), item.as_ref()]),
                    StreamEvent::End(End::Finished) => json!([name("error"), true]),
                    StreamEvent::End(End::Error(reason)) => json!([name("error"), reason]),
                    StreamEvent::Malformed => json!([name("queue"), null]),
                }
            }
            Self::Unknown => json!(["unknown"]),
        };
        Packet::Event {
            ack,
            json: &json.to_string(),
        }
        .encode()
    }
}

/// Encodes [`JoinAnswer::Joined`] as a text frame that answers acknowledgement `id`.
pub fn encode_joined(id: u64, peers: &str) -> String {
    let json = format!("[null,null,{peers}]");
    Packet::Ack { id, json: &json }.encode()
}

/// Returns the JSON of a list of addresses.
pub fn encode_addresses(addresses: &[impl AsRef<str>]) -> String {
    let addresses: Vec<&str> = addresses.iter().map(AsRef::as_ref).collect();
    // Serialising strings cannot fail.
    serde_json::to_string(&addresses).unwrap_or_default()
}

/// The answer to `ss-join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// The nonce to sign.
    Nonce(String),
    /// The client has joined; the other peers' addresses. Servers up to 0.2.4 send no addresses.
    Joined(Vec<String>),
    /// The join is refused with a reason. `{}` is a JavaScript error that lost its text.
    Refused(String),
}

impl JoinAnswer {
    /// Decodes the acknowledgement `[error, nonce, peers]`.
    ///
    /// # Errors
    /// Returns [`ProtocolError::Arguments`] if the acknowledgement has another form.
    pub fn decode(json: &str) -> Result<Self, ProtocolError> {
        let arguments = Arguments::parse("ss-join", json)?;
        if let Some(error) = arguments.error() {
            return Ok(Self::Refused(error));
        }
        match arguments.0.get(1).map_or("null", |nonce| nonce.get()) {
            "null" => {}
            nonce => {
                return serde_json::from_str(nonce)
                    .map(Self::Nonce)
                    .map_err(|_| wrong("ss-join", "the nonce is not a string"));
            }
        }
        let peers = match arguments.0.get(2).map_or("null", |peers| peers.get()) {
            "null" => Vec::new(),
            peers => serde_json::from_str(peers)
                .map_err(|_| wrong("ss-join", "the peers are not a list of strings"))?,
        };
        Ok(Self::Joined(peers))
    }

    /// Encodes the answer as a text frame that answers acknowledgement `id`.
    pub fn encode(&self, id: u64) -> String {
        let json = match self {
            Self::Nonce(nonce) => json!([null, nonce]),
            Self::Joined(peers) => return encode_joined(id, &encode_addresses(peers)),
            Self::Refused(reason) => json!([reason]),
        };
        Packet::Ack {
            id,
            json: &json.to_string(),
        }
        .encode()
    }
}

/// The answer to `ss-dial` and to `ss-incomming`: accepted, or refused with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialAnswer(pub Result<(), String>);

impl DialAnswer {
    /// Decodes the acknowledgement `[]` or `[error]`.
    ///
    /// # Errors
    /// Returns [`ProtocolError::Arguments`] if the acknowledgement is not a JSON array.
    pub fn decode(json: &str) -> Result<Self, ProtocolError> {
        let arguments = Arguments::parse("ss-dial", json)?;
        Ok(Self(arguments.error().map_or(Ok(()), Err)))
    }

    /// Encodes the answer as a text frame that answers acknowledgement `id`.
    pub fn encode(&self, id: u64) -> String {
        let json = match &self.0 {
            Ok(()) => json!([]),
            Err(reason) => json!([reason]),
        };
        Packet::Ack {
            id,
            json: &json.to_string(),
        }
        .encode()
    }
}

/// The elements of a JSON array, at most [`MAX_ARGUMENTS`]. The elements are not parsed further.
struct Arguments<'a>(Vec<&'a RawValue>);

impl<'a> Arguments<'a> {
    fn parse(event: &'static str, json: &'a str) -> Result<Self, ProtocolError> {
        serde_json::from_str(json)
            .map_err(|_| wrong(event, "not a JSON array, or too many arguments"))
    }

    /// Returns the first argument as an error, if JavaScript treats it as one.
    fn error(&self) -> Option<String> {
        let error = self.0.first()?.get();
        (!matches!(error, "null" | "false" | "0" | "\"\"")).then(|| reason(error))
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX_ARGUMENTS} arguments")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Self::Value, A::Error> {
                let mut arguments = Vec::new();
                while let Some(argument) = seq.next_element()? {
                    if arguments.len() == MAX_ARGUMENTS {
                        return Err(serde::de::Error::invalid_length(MAX_ARGUMENTS + 1, &self));
                    }
                    arguments.push(argument);
                }
                Ok(arguments)
            }
        }

        deserializer.deserialize_seq(Visitor).map(Self)
    }
}

fn wrong(event: &'static str, reason: &'static str) -> ProtocolError {
    ProtocolError::Arguments { event, reason }
}

/// Returns the reason that the other side gave: a string, or any other JSON verbatim.
fn reason(json: &str) -> String {
    match serde_json::from_str::<String>(json) {
        Ok(text) => excerpt(&text, MAX_REASON),
        Err(_) => excerpt(json, MAX_REASON),
    }
}

fn is_placeholder(json: &str) -> bool {
    // A parsed JSON tree takes many times the memory of its text.
    json.len() <= MAX_PLACEHOLDER
        && serde_json::from_str::<Value>(json)
            .is_ok_and(|value| value == json!({"_placeholder": true, "num": 0}))
}

/// Returns the bytes of an item that came as JSON, as the JavaScript `buffer` codec reads it.
fn json_item(json: &str) -> Option<Bytes> {
    if let Ok(text) = serde_json::from_str::<String>(json) {
        return Some(text.into());
    }
    if let Ok(bytes) = serde_json::from_str::<Vec<u8>>(json) {
        return Some(bytes.into());
    }
    // A Node.js Buffer that went through JSON.stringify, which writes it only in this form.
    let bytes = json.strip_prefix(BUFFER_HEADER)?.strip_suffix('}')?;
    Some(serde_json::from_str::<Vec<u8>>(bytes).ok()?.into())
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
