//! What goes through the stream of a pipe.
//!
//! A frame is its kind (one byte), the length of what follows (two bytes, the high one first), and so many bytes. The end that
//! dials says [`Frame::Hello`], the other answers with [`Frame::Accept`] or [`Frame::Failed`]. Then each sends its standard input as
//! data, and an explicit end: the end of the stream says nothing, because yamux shows one that was reset as one that ended. Each
//! tells how much it has written out, and the other is never more than [`WINDOW`] ahead of that. So whoever receives need
//! not stop reading, the one direction never waits for the other, and memory is bounded.

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::PipeError;

/// How many bytes may be on their way, or wait to be written out.
pub const WINDOW: u64 = 8 << 20;
/// A frame with its head: as much as yamux sends at four times.
pub const FRAME: usize = 64 << 10;
const HEAD: usize = 3;
/// Bytes of data in a frame.
pub const DATA: usize = FRAME - HEAD;
/// How many bytes of words are said.
const MAX_WORDS: usize = 512;

const HELLO: u8 = 1;
const ACCEPT: u8 = 2;
const DATA_KIND: u8 = 3;
const END: u8 = 4;
const WRITTEN: u8 = 5;
const DONE: u8 = 6;
const FAILED: u8 = 7;

/// One of the frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The code of the other end, or nothing.
    Hello(&'a [u8]),
    Accept,
    /// A piece of the input, at least one byte.
    Data(&'a [u8]),
    /// The input has ended, after so many bytes.
    End(u64),
    /// So many bytes were written out so far.
    Written(u64),
    /// All was written out, to the end.
    Done,
    /// This end gives up, for this reason.
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
    // Nothing that is sent is longer: a code on the command line may be, and is wrong then.
    let body = &body[..body.len().min(DATA)];
    let [.., high, low] = body.len().to_be_bytes();
    to.extend_from_slice(&[kind, high, low]);
    to.extend_from_slice(body);
}

/// The beginning of a text, as much as is said.
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

    /// The next frame. Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if there is none, [`PipeError::Protocol`] if it is none.
    pub async fn next(&mut self) -> Result<Frame<'_>, PipeError> {
        let mut head = [0; HEAD];
        let broken = |_| PipeError::Broken;
        self.from.read_exact(&mut head).await.map_err(broken)?;
        let [kind, high, low] = head;
        self.body.resize(u16::from_be_bytes([high, low]).into(), 0);
        let body = self.from.read_exact(&mut self.body);
        body.await.map_err(broken)?;
        Frame::of(kind, &self.body).ok_or(PipeError::Protocol("it sent what is no frame"))
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

    /// Writes a frame, and has it sent. Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn send(&mut self, frame: &Frame<'_>) -> Result<(), PipeError> {
        self.write(frame).await?;
        self.flush().await
    }

    /// Writes a frame, which [`flush`](Self::flush) has sent. Not cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn write(&mut self, frame: &Frame<'_>) -> Result<(), PipeError> {
        self.encoded.clear();
        frame.encode(&mut self.encoded);
        let written = self.to.write_all(&self.encoded).await;
        written.map_err(|_| PipeError::Broken)
    }

    /// Has what was written sent. Cancel safe.
    ///
    /// # Errors
    /// [`PipeError::Broken`] if it cannot be sent.
    pub async fn flush(&mut self) -> Result<(), PipeError> {
        self.to.flush().await.map_err(|_| PipeError::Broken)
    }

    /// Says that nothing follows.
    pub async fn close(&mut self) {
        // The other end may have gone first.
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
