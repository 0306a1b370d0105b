//! The protocol on the stream of a pipe.
//!
//! A frame is its kind (one byte), the length of its body (two bytes, big-endian), and the body. The end that dials
//! sends [`Frame::Hello`], and the other end answers with [`Frame::Accept`] or [`Frame::Failed`]. Then each end sends
//! its standard input as data, followed by an explicit end: the end of the stream itself has no meaning, because yamux
//! shows a stream that was reset like one that has ended. Each end reports how much it has written out, and the other
//! end starts no frame of data when it is [`WINDOW`] bytes beyond that. So the receiver never has to stop reading,
//! neither direction waits for the other, and memory is bounded.

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::PipeError;

/// The bytes that may be on their way or wait to be written out.
pub const WINDOW: u64 = 8 << 20;
/// The longest frame with its head, in bytes: yamux sends it in four pieces.
pub const FRAME: usize = 64 << 10;
const HEAD: usize = 3;
/// The most bytes of data in a frame.
pub const DATA: usize = FRAME - HEAD;
/// The most bytes of a reason that are sent.
const MAX_WORDS: usize = 512;

const HELLO: u8 = 1;
const ACCEPT: u8 = 2;
const DATA_KIND: u8 = 3;
const END: u8 = 4;
const WRITTEN: u8 = 5;
const DONE: u8 = 6;
const FAILED: u8 = 7;

/// A frame of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The code that the listening end has printed, or nothing.
    Hello(&'a [u8]),
    Accept,
    /// A piece of the input, at least one byte.
    Data(&'a [u8]),
    /// The input has ended after this number of bytes.
    End(u64),
    /// This number of bytes has been written out so far.
    Written(u64),
    /// Everything has been written out.
    Done,
    /// The sender gives up, for this reason.
    Failed(&'a str),
}

impl<'a> Frame<'a> {
    fn of(kind: u8, body: &'a [u8]) -> Option<Self> {
        let number = || body.try_into().map(u64::from_be_bytes).ok();
        Some(match kind {
            HELLO => Self::Hello(body),
            ACCEPT if body.is_empty() => Self::Accept,
            DATA_KIND if !body.is_empty() => Self::Data(body),
            END => Self::End(number()?),
            WRITTEN => Self::Written(number()?),
            DONE if body.is_empty() => Self::Done,
            FAILED => Self::Failed(std::str::from_utf8(body).ok()?),
            _ => return None,
        })
    }

    /// Appends the frame to `to`.
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Hello(code) => append(to, HELLO, code),
            Self::Accept => append(to, ACCEPT, &[]),
            Self::Data(data) => append(to, DATA_KIND, data),
            Self::End(count) => append(to, END, &count.to_be_bytes()),
            Self::Written(count) => append(to, WRITTEN, &count.to_be_bytes()),
            Self::Done => append(to, DONE, &[]),
            Self::Failed(words) => append(to, FAILED, cut(words).as_bytes()),
        }
    }
}

fn append(to: &mut Vec<u8>, kind: u8, body: &[u8]) {
    // No valid body is longer. A code on the command line may be, but then it is wrong anyway.
    let body = &body[..body.len().min(DATA)];
    let [.., high, low] = body.len().to_be_bytes();
    to.extend_from_slice(&[kind, high, low]);
    to.extend_from_slice(body);
}

/// Returns the part of a reason that is sent.
fn cut(words: &str) -> &str {
    let mut end = words.len().min(MAX_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

/// Reads frames.
pub struct Reader<R> {
    from: R,
    body: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            body: Vec::new(),
        }
    }

    /// Reads the next frame. Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if the stream ends, [`PipeError::Protocol`] if the frame is not valid.
    pub async fn next(&mut self) -> Result<Frame<'_>, PipeError> {
        let mut head = [0; HEAD];
        let broken = |_| PipeError::Broken;
        self.from.read_exact(&mut head).await.map_err(broken)?;
        let [kind, high, low] = head;
        self.body.resize(u16::from_be_bytes([high, low]).into(), 0);
        let body = self.from.read_exact(&mut self.body);
        body.await.map_err(broken)?;
        Frame::of(kind, &self.body).ok_or(PipeError::Protocol("it sent an invalid frame"))
    }

    /// Waits until the other end has closed the stream, or the stream has broken.
    pub async fn closed(&mut self) {
        self.body.resize(DATA, 0);
        while matches!(self.from.read(&mut self.body).await, Ok(1..)) {}
    }
}

/// Writes frames.
pub struct Writer<W> {
    to: W,
    encoded: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub fn new(to: W) -> Self {
        Self {
            to,
            encoded: Vec::with_capacity(FRAME),
        }
    }

    /// Writes a frame and flushes it. Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn send(&mut self, frame: &Frame<'_>) -> Result<(), PipeError> {
        self.write(frame).await?;
        self.flush().await
    }

    /// Writes a frame, which is sent at the latest by [`flush`](Self::flush). Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn write(&mut self, frame: &Frame<'_>) -> Result<(), PipeError> {
        self.encoded.clear();
        frame.encode(&mut self.encoded);
        let written = self.to.write_all(&self.encoded).await;
        written.map_err(|_| PipeError::Broken)
    }

    /// Sends everything that was written. Cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn flush(&mut self) -> Result<(), PipeError> {
        self.to.flush().await.map_err(|_| PipeError::Broken)
    }

    /// Closes the sending side of the stream.
    pub async fn close(&mut self) {
        // An error is ignored, because the other end may have closed the stream first.
        let _ = self.to.close().await;
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn there_and_back(frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        for end in 0..bytes.len() {
            let mut part = Reader::new(Cursor::new(&bytes[..end]));
            assert!(matches!(block_on(part.next()), Err(PipeError::Broken)));
        }
        let mut reader = Reader::new(Cursor::new(&bytes));
        assert_eq!(&block_on(reader.next()).expect("a frame"), frame);
    }

    #[test]
    fn each_frame_is_read_as_it_was_written_and_only_whole() {
        let largest = vec![7; DATA];
        for frame in [
            Frame::Hello(b""),
            Frame::Hello(b"code"),
            Frame::Accept,
            Frame::Data(b"x"),
            Frame::End(0),
            Frame::End(u64::MAX),
            Frame::Written(1 << 40),
            Frame::Done,
            Frame::Failed("no räum"),
        ] {
            there_and_back(&frame);
        }
        let mut bytes = Vec::new();
        Frame::Data(&largest).encode(&mut bytes);
        assert_eq!(bytes.len(), FRAME);
        let mut reader = Reader::new(Cursor::new(bytes));
        assert_eq!(
            block_on(reader.next()).expect("a frame"),
            Frame::Data(&largest)
        );
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (kind, body) in [
            (0, &b""[..]),
            (8, b""),
            (255, b"x"),
            (ACCEPT, b"x"),
            (DATA_KIND, b""),
            (END, b""),
            (END, b"1234567"),
            (WRITTEN, b"123456789"),
            (DONE, b"x"),
            (FAILED, b"\xff"),
        ] {
            assert_eq!(Frame::of(kind, body), None, "{kind} {body:?}");
        }
    }

    #[test]
    fn words_are_cut_between_characters() {
        let long = "ä".repeat(MAX_WORDS);
        let mut bytes = Vec::new();
        Frame::Failed(&long).encode(&mut bytes);
        let mut reader = Reader::new(Cursor::new(bytes));
        let expected = "ä".repeat(MAX_WORDS / 2);
        assert_eq!(
            block_on(reader.next()).expect("a frame"),
            Frame::Failed(&expected)
        );
    }
}
