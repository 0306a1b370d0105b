//! The streams that are measured.

use futures::{AsyncRead, AsyncWrite};

/// A stream of bytes of any subject.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub type Stream = Box<dyn Io>;
