//! WebSocket (RFC 6455) as far as links need it: whole messages, no extensions.
//!
//! A separate crate would work, and one was used. Its costs were measured: a read buffer of 8 KiB for each idle link,
//! fresh memory from the system for each item, two reads for each item, and a header and a mask for each copy of an
//! announcement to all links. [`reader`] and [`writer`] are designed to avoid these costs; `benches/README.md` has the
//! figures.
//!
//! [`upgrade`](mod@upgrade) is the client's side of the opening handshake; the server's side is in `rendezvous::http`.
//! A browser has its own frames and handshake, so there only the [messages](Message) exist.

#[cfg(test)]
mod conformance_tests;
#[cfg(not(target_arch = "wasm32"))]
mod connection;
#[cfg(not(target_arch = "wasm32"))]
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(not(target_arch = "wasm32"))]
mod mask;
#[cfg(not(target_arch = "wasm32"))]
mod reader;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod upgrade;
#[cfg(not(target_arch = "wasm32"))]
mod writer;

use std::io;

use bytes::Bytes;

#[cfg(feature = "rendezvous-server")]
pub(crate) use self::connection::encode_text;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::connection::{Role, WebSocket};
#[cfg(feature = "cluster")]
pub(crate) use self::writer::Unwritten;
#[cfg(feature = "rendezvous-server")]
pub(crate) use self::{reader::Input, writer::Output};

/// The reason for which a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseCode(u16);

impl CloseCode {
    pub(crate) const NORMAL: Self = Self(1000);
    #[cfg(feature = "rendezvous-server")]
    pub(crate) const GOING_AWAY: Self = Self(1001);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1002);
    pub(crate) const INVALID_DATA: Self = Self(1007);
    #[cfg(feature = "rendezvous-server")]
    pub(crate) const POLICY_VIOLATION: Self = Self(1008);
    pub(crate) const MESSAGE_TOO_BIG: Self = Self(1009);
    /// From the registry that RFC 6455 sets up, not from the RFC itself.
    pub(crate) const SERVICE_RESTART: Self = Self(1012);

    /// Returns a code if it may be sent (RFC 6455, section 7.4, and the registry that it sets up).
    pub(crate) fn received(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// A message of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    target_arch = "wasm32",
    allow(
        dead_code,
        reason = "a browser does not show pings and pongs to a page"
    )
)]
pub(crate) enum Message {
    /// UTF-8 text.
    Text(Bytes),
    Binary(Bytes),
    /// A ping. It is answered automatically.
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<(CloseCode, String)>),
}

impl Message {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into())
    }

    /// Returns the text of a text message.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// Returns the number of bytes of text or data.
    #[cfg(feature = "rendezvous-server")]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(data) | Self::Binary(data) | Self::Ping(data) | Self::Pong(data) => {
                data.len()
            }
            Self::Close(_) => 0,
        }
    }
}

/// A violation of RFC 6455 by the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// A frame has bits set that only extensions use, and no extension was agreed on.
    #[error("a frame with reserved bits")]
    ReservedBits,
    /// A frame has an unknown type.
    #[error("a frame of unknown type {0}")]
    Opcode(u8),
    /// A control frame is too long or fragmented.
    #[error("a control frame that is too long or fragmented")]
    Control,
    /// A length is encoded in more bytes than needed, or is out of range.
    #[error("a frame with a malformed length")]
    Length,
    /// A client did not mask a frame, or a server masked one.
    #[error("a masked frame from a server, or an unmasked frame from a client")]
    Mask,
    /// A frame continues a message, but no message has begun.
    #[error("a continuation frame without a message to continue")]
    Continuation,
    /// A message begins before the previous one has ended.
    #[error("a message that begins before the previous one has ended")]
    Interrupted,
    /// A text, or the reason of a close, is not UTF-8.
    #[error("a text that is not UTF-8")]
    Utf8,
    /// A close frame has a code that must not be sent, or an incomplete one.
    #[error("a malformed close code")]
    CloseCode,
}

impl WebSocketError {
    /// Returns the close code to send to the other end.
    pub(crate) fn close_code(self) -> CloseCode {
        match self {
            Self::Utf8 => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Violation(#[from] WebSocketError),
    #[error("a message of {len} bytes; at most {max} are accepted")]
    TooLong { len: usize, max: usize },
}
