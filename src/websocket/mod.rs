//! WebSocket (RFC 6455), for what goes over a link: whole messages, no extensions.
//!
//! A crate of its own would do, and one did. What it cost was measured: a read buffer of 8 KiB for
//! each idle link, memory fresh from the system for each item, two reads an item, and a header and a mask for
//! each copy of what goes to every link. [`reader`] and [`writer`] are built around those;
//! `benches/README.md` has the figures.
//!
//! [`upgrade`](mod@upgrade) is the client's side of the opening handshake; the server's is in `rendezvous::http`. In a
//! browser, which has frames and a handshake of its own, there are only the [messages](Message).

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

/// Why a connection is closed.
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
    /// Of the registry that RFC 6455 sets up, not of itself.
    pub(crate) const SERVICE_RESTART: Self = Self(1012);

    /// A code that may be sent: RFC 6455, section 7.4, and the registry that it sets up.
    pub(crate) fn received(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// What a connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    target_arch = "wasm32",
    allow(dead_code, reason = "a browser keeps pings and pongs to itself")
)]
pub(crate) enum Message {
    /// UTF-8.
    Text(Bytes),
    Binary(Bytes),
    /// It is answered without the reader's doing.
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<(CloseCode, String)>),
}

impl Message {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into())
    }

    /// The text of a text message.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// How many bytes of text or data it has.
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
    /// A frame has bits set that only extensions use, and none was agreed on.
    #[error("a frame with reserved bits")]
    ReservedBits,
    /// A frame has a type that there is not.
    #[error("a frame of unknown type {0}")]
    Opcode(u8),
    /// A control frame is too long, or one of several.
    #[error("a control frame that is too long, or not whole")]
    Control,
    /// A length takes more bytes than it needs, or cannot be one.
    #[error("a frame with a malformed length")]
    Length,
    /// A client must mask its frames, a server must not.
    #[error("a frame is masked that must not be, or the other way round")]
    Mask,
    /// A frame continues a message that was not begun.
    #[error("a continuation of nothing")]
    Continuation,
    /// A message begins before the last one has ended.
    #[error("a message within another")]
    Interrupted,
    /// A text, or the reason of a close, is not UTF-8.
    #[error("a text that is not UTF-8")]
    Utf8,
    /// A close frame has a code that must not be sent, or half of one.
    #[error("a malformed close code")]
    CloseCode,
}

impl WebSocketError {
    /// What the other end is told.
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
