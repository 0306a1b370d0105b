//! The protocol, without sockets, clocks or tasks: shared by the client and the rendezvous.
//!
//! From the outside in: [`engine_io`] frames the WebSocket messages, [`socket_io`] the events and
//! acknowledgements in them, [`event`] gives the events of websocket-star their types, [`session`]
//! is the client's state at one rendezvous, [`nonce`] what it signs to join, and [`stream`] one
//! pull-stream pair, whose peers slow each other down with [`credit`]s.
//!
//! What is really spoken differs from the published specification; where it does, the code follows
//! the deployed software (`libp2p-websocket-star` 0.10.2, `libp2p-websocket-star-rendezvous` 0.4.1).

pub mod credit;
pub mod engine_io;
pub mod event;
pub mod nonce;
pub(crate) mod refusal;
pub mod session;
pub mod socket_io;
pub mod stream;

use bytes::Bytes;

use crate::words::Words;

/// One WebSocket message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message, its leading 0x04 included.
    Binary(Bytes),
}

/// A violation of Engine.IO, Socket.IO or websocket-star by the other end of the link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An Engine.IO packet of unknown type, or an empty message.
    #[error("unknown Engine.IO packet {0:?}")]
    EngineIo(String),
    /// A heartbeat with so many bytes of data, all of which the answer would have to repeat.
    #[error("a heartbeat with {0} bytes of data")]
    Heartbeat(usize),
    /// The Engine.IO open packet cannot be used.
    #[error("malformed Engine.IO open packet: {}", Words(.0))]
    Open(String),
    /// Something else came where the Engine.IO open packet or the namespace was due.
    #[error("expected {expected} at the start of the link, received {received:?}")]
    Start {
        /// What was due.
        expected: &'static str,
        /// The beginning of what came.
        received: String,
    },
    /// A Socket.IO packet that cannot be parsed.
    #[error("malformed Socket.IO packet: {0}")]
    SocketIo(&'static str),
    /// A packet announced more than [`socket_io::MAX_ATTACHMENTS`]; websocket-star sends one.
    #[error("a packet with {0} attachments; at most {max} are passed over", max = socket_io::MAX_ATTACHMENTS)]
    Attachments(u64),
    /// A binary message that no binary event announced.
    #[error("a binary message without the event it belongs to")]
    UnannouncedBinary,
    /// A binary event whose binary message did not follow.
    #[error("a binary event without its binary message")]
    MissingBinary,
    /// A binary message that does not begin with the Engine.IO message type 0x04.
    #[error("a binary message that does not begin with 0x04")]
    BinaryPrefix,
    /// A binary message as text that is no base64.
    #[error("a binary message as text that is not base64")]
    Base64,
    /// An event, or an acknowledgement, whose arguments have the wrong form.
    #[error("malformed arguments of {event}: {reason}")]
    Arguments {
        /// The event's name.
        event: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The beginning of `text`, to be quoted in an error; at most `max` bytes.
pub(crate) fn excerpt(text: &str, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
