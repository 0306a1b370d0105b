//! The request of the page to the native peer: the first nine bytes of a stream. The peer answers with one byte, so
//! that the measured time does not include the setup.

#[cfg(not(target_arch = "wasm32"))]
use std::io;

/// The length of an encoded request, in bytes.
pub const LEN: usize = 9;
/// The answer of the peer: the clock may start now.
pub const READY: u8 = b'r';
/// The byte that starts a [`Request::Source`].
pub const GO: u8 = b'g';
/// The number of bytes per read and per write, on both sides.
pub const CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// Read to the end, then end.
    Sink,
    /// Wait for [`GO`], send this number of bytes, then end.
    Source(u64),
    /// Send everything back.
    Echo,
}

impl Request {
    #[cfg(target_arch = "wasm32")]
    pub fn encode(self) -> [u8; LEN] {
        let (kind, bytes) = match self {
            Self::Sink => (b's', 0),
            Self::Source(bytes) => (b'd', bytes),
            Self::Echo => (b'e', 0),
        };
        let mut encoded = [kind; LEN];
        encoded[1..].copy_from_slice(&bytes.to_be_bytes());
        encoded
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn decode(encoded: [u8; LEN]) -> io::Result<Self> {
        let [kind, bytes @ ..] = encoded;
        match kind {
            b's' => Ok(Self::Sink),
            b'd' => Ok(Self::Source(u64::from_be_bytes(bytes))),
            b'e' => Ok(Self::Echo),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
