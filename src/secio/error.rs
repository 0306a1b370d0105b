//! The errors of secio.

use std::io;

use libp2p_identity::{DecodingError, PeerId, SigningError};

use crate::words::Words;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Network: the connection failed during the handshake.
    #[error("the connection failed during the handshake: {}", Words(.0))]
    Io(#[source] io::Error),
    /// Peer or network: a frame is over its bound or was tampered with, or it is missing because the connection ended.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Peer: a message cannot be decoded.
    #[error("the peer's {message} message: {error}")]
    Message {
        /// The message.
        message: &'static str,
        /// The reason.
        #[source]
        error: MessageError,
    },
    /// Peer: the nonce does not have 16 bytes.
    #[error("the peer's nonce has {0} bytes instead of 16")]
    NonceLength(usize),
    /// Peer: the identity key is of an unknown type, or malformed.
    #[error("the peer's identity key: {0}")]
    IdentityKey(#[source] DecodingError),
    /// Peer: the RSA key is malformed, too short or too long.
    #[cfg(any(target_arch = "wasm32", test, docsrs))]
    #[error("the peer's RSA key: {}", Words(.0))]
    RsaKey(String),
    /// Peer or local: the other side has our own key.
    #[error("connected to ourselves")]
    SelfDial,
    /// Peer: it is not the peer that was dialled.
    #[error("expected peer {expected}, found {found}")]
    UnexpectedPeer {
        /// The peer that was dialled.
        expected: Box<PeerId>,
        /// The peer that answered. It has not proved that it holds the key.
        found: Box<PeerId>,
    },
    /// Peer: it supports none of our algorithms of this kind.
    #[error("no {kind} in common; the peer supports \"{}\"", Words(.theirs))]
    NothingInCommon {
        /// `exchange`, `cipher` or `hash`.
        kind: &'static str,
        /// The peer's list.
        theirs: String,
    },
    /// Local: our identity key cannot sign.
    #[error("cannot sign: {0}")]
    Sign(#[from] SigningError),
    /// Peer: the signature is not a signature of its identity key over this handshake.
    #[error("the peer's signature does not verify")]
    BadSignature,
    /// Peer: the ephemeral key is not a point of the curve.
    #[error("the peer's ephemeral key is not a point of {0}")]
    EphemeralKey(&'static str),
    /// Peer: the first encrypted bytes are not our nonce.
    #[error("the peer did not send our nonce back")]
    WrongNonce,
}

impl From<io::Error> for Error {
    /// Extracts a wrapped [`FrameError`]. An end before the expected data also becomes one.
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(&frame) => Self::Frame(frame),
            None if error.kind() == io::ErrorKind::UnexpectedEof => FrameError::Truncated.into(),
            None => Self::Io(error),
        }
    }
}

/// Why a frame is invalid: the inner error of the `io::Error` of a read. After it, nothing more is read from the
/// connection, and every further read returns the same error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is over the bound.
    #[error("a frame of {len} bytes; at most {max} are accepted")]
    TooLong {
        /// The announced length, in bytes.
        len: usize,
        /// The bound, in bytes.
        max: usize,
    },
    /// An encrypted frame has no room for its MAC.
    #[error("a frame of {0} bytes is shorter than its MAC")]
    TooShort(usize),
    /// The MAC does not match the frame.
    #[error("the MAC of a frame is wrong")]
    BadMac,
    /// A frame with the same MAC has already come.
    #[error("a frame was received twice")]
    Replayed,
    /// The connection ended inside a frame, or before the handshake was complete. Reported as
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    #[error("the connection ended too early")]
    Truncated,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match error {
            FrameError::Truncated => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Why a message of the handshake cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The message ends inside a field.
    #[error("ends inside a field")]
    Truncated,
    /// The message is not protobuf, or a field has the wrong type.
    #[error("is malformed")]
    Malformed,
    /// A field is missing.
    #[error("lacks `{0}`")]
    Missing(&'static str),
    /// A field is not UTF-8.
    #[error("has a `{0}` that is not text")]
    NotText(&'static str),
}
