//! The protocol, shared by the client and the rendezvous. This module has no sockets, clocks or tasks.
//!
//! From the outermost layer to the innermost: [`engine_io`] frames the WebSocket messages. [`socket_io`] frames the
//! events and acknowledgements in them. [`event`] gives types to the events of websocket-star. [`session`] is the
//! client's state at one rendezvous, and [`nonce`] is what the client signs to join. [`stream`] is one pull-stream
//! pair, whose peers slow each other down with [`credit`]s.
//!
//! **Unstable:** this module is public as the specification of the extensions, and for fuzzing and benchmarks. A minor
//! release may change it. Only the errors that [`error`](crate::error) names are stable.
//!
//! The deployed protocol differs from the published specification. Where they differ, the code follows the deployed
//! software (`libp2p-websocket-star` 0.10.2, `libp2p-websocket-star-rendezvous` 0.4.1).

pub mod credit;
pub mod engine_io;
pub mod event;
pub mod nonce;
pub(crate) mod refusal;
pub mod session;
pub mod socket_io;
pub mod stream;

use crate::words::Words;

/// A violation of Engine.IO, Socket.IO or websocket-star by the other end of the link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An Engine.IO packet of unknown type, or an empty message.
    #[error("unknown Engine.IO packet {0:?}")]
    EngineIo(String),
    /// A heartbeat with too many bytes of data. The answer would have to repeat all of them.
    #[error("a heartbeat with {0} bytes of data")]
    Heartbeat(usize),
    /// The Engine.IO open packet cannot be used.
    #[error("malformed Engine.IO open packet: {}", Words(.0))]
    Open(String),
    /// Another packet came where the Engine.IO open packet or the namespace packet was expected.
    #[error("expected {expected} at the start of the link, received {received:?}")]
    Start {
        /// The packet that was expected.
        expected: &'static str,
        /// The beginning of the received packet.
        received: String,
    },
    /// A Socket.IO packet that cannot be parsed.
    #[error("malformed Socket.IO packet: {0}")]
    SocketIo(&'static str),
    /// A packet announced more than [`socket_io::MAX_ATTACHMENTS`]; websocket-star sends one.
    #[error("a packet with {0} attachments; at most {max} are allowed", max = socket_io::MAX_ATTACHMENTS)]
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
    /// A binary message that came as text which is not base64.
    #[error("a binary message that came as text but is not base64")]
    Base64,
    /// The arguments of an event or of an acknowledgement have the wrong form.
    #[error("malformed arguments of {event}: {reason}")]
    Arguments {
        /// The event's name.
        event: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Returns the beginning of `text`, at most `max` bytes, to quote it in an error.
pub(crate) fn excerpt(text: &str, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
