//! Why a link ends, and how the end is reported to the peer and counted.

use std::{io, sync::Arc};

use crate::{
    protocol::ProtocolError,
    rendezvous::{outbox::CloseReason, refusals::Refused},
    websocket::{CloseCode, WebSocketError},
    words::Words,
};

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("closed by the peer")]
    ByPeer,
    #[error("connection lost: {}", Words(.0))]
    Lost(#[source] io::Error),
    #[error("{0}")]
    Violation(#[from] ProtocolError),
    #[error("WebSocket protocol violation: {0}")]
    WebSocket(#[source] WebSocketError),
    #[error("a message is too long: {0} bytes or more")]
    TooLong(usize),
    #[error("no sign of life")]
    Silent,
    #[error("the peer does not read what is sent to it")]
    Stalled,
    #[error("the peer reads too slowly")]
    Slow,
    #[error("the peer does not read the answers to its requests")]
    Overflow,
    #[error("too many links, and your address has more of them than others")]
    GaveWay,
    #[error("no memory is left, and the links of your address hold the most")]
    Memory,
    #[error("you are no longer allowed here")]
    NoLongerAllowed,
    #[error("disconnected: {}", Words(.0))]
    Disconnected(Arc<str>),
    #[error("did not join in time")]
    Idle,
    #[error("the link has reached its maximum age; connect again")]
    Age,
    #[error("rendezvous is shutting down")]
    Shutdown,
    #[cfg(feature = "cluster")]
    #[error("no longer used")]
    Unused,
}

impl Ended {
    /// Returns the close code that is sent to the peer, if the peer may still be listening.
    pub(super) fn close_code(&self) -> CloseCode {
        match self {
            Self::ByPeer | Self::Lost(_) => CloseCode::NORMAL,
            Self::WebSocket(error) => error.close_code(),
            Self::Violation(_) => CloseCode::PROTOCOL_ERROR,
            Self::TooLong(_) => CloseCode::MESSAGE_TOO_BIG,
            Self::Silent
            | Self::Stalled
            | Self::Slow
            | Self::Overflow
            | Self::GaveWay
            | Self::Memory
            | Self::NoLongerAllowed
            | Self::Disconnected(_)
            | Self::Idle => CloseCode::POLICY_VIOLATION,
            Self::Age | Self::Shutdown => CloseCode::GOING_AWAY,
            #[cfg(feature = "cluster")]
            Self::Unused => CloseCode::NORMAL,
        }
    }

    /// Returns the reason under which the end is counted as a refusal; `None` if it is not counted.
    pub(super) fn reason(&self) -> Option<Refused> {
        Some(match self {
            Self::TooLong(_) => Refused::MessageTooLong,
            Self::Silent => Refused::Silent,
            Self::Stalled => Refused::Stalled,
            Self::Slow => Refused::Slow,
            Self::Overflow => Refused::UnreadAnswers,
            Self::GaveWay => Refused::LinkGaveWay,
            Self::Memory => Refused::Memory,
            Self::NoLongerAllowed => Refused::NoLongerAllowed,
            Self::Disconnected(_) => Refused::Disconnected,
            Self::Idle => Refused::JoinTimedOut,
            Self::Age => Refused::LinkAge,
            Self::Violation(_) | Self::WebSocket(_) => Refused::ProtocolViolation,
            Self::ByPeer | Self::Lost(_) | Self::Shutdown => return None,
            #[cfg(feature = "cluster")]
            Self::Unused => return None,
        })
    }
}

impl From<CloseReason> for Ended {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Idle => Self::Idle,
            CloseReason::Overflow => Self::Overflow,
            CloseReason::GaveWay => Self::GaveWay,
            CloseReason::Memory => Self::Memory,
            CloseReason::NoLongerAllowed => Self::NoLongerAllowed,
            CloseReason::Disconnected(words) => Self::Disconnected(words),
            CloseReason::Age => Self::Age,
            CloseReason::Shutdown => Self::Shutdown,
            #[cfg(feature = "cluster")]
            CloseReason::Unused => Self::Unused,
        }
    }
}
