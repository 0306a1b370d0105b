//! What the page asks of the native peer, in the first nine bytes of a stream. It is answered with one byte, so that no
//! setting up is in what is measured.

#[cfg(not(target_arch = "wasm32"))]
use std::io;

/// The length of an encoded request.
pub const LEN: usize = 9;
/// The answer: from now on the clock may run.
pub const READY: u8 = b'r';
/// Has a [`Request::Source`] begin.
pub const GO: u8 = b'g';
/// How much is read and written at a time, on both sides.
pub const CHUNK: usize = 64 * 1024;

#[derive(Debug, Clone, Copy)]
pub enum Request {
    /// Read to the end, then end.
    Sink,
    /// Wait for [`GO`], send so many bytes, then end.
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
