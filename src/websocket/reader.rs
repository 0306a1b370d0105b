//! Parsing of bytes into messages.
//!
//! Small frames are parsed where they were read, and copied out, so that a waiting message holds only its own memory.
//! The payload of a large frame is read straight into a buffer of its own. A little more room in this buffer also takes
//! the bytes that follow, so that in a stream of items each item needs one read. A reader that waits between messages
//! holds no memory.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::{
    CloseCode, Message, ReadError, Role, WebSocketError,
    frame::{Header, Opcode},
    mask,
};
use crate::buffer::Buffer;

/// A payload of at least this many bytes has its own buffer from the start.
const LARGE: usize = 16 * 1024;
/// The buffer bytes for a payload before any of it has come. A peer cannot use up memory by announcing payloads that it
/// never sends.
const FIRST: usize = 160 * 1024;
/// The bytes read beyond the end of a large payload: the announcement of the next item, and its header.
const BEHIND: usize = 2 * 1024;
/// The bytes read at once when small frames are expected: at first, and at most.
const WINDOW: (usize, usize) = (4 * 1024, 64 * 1024);

#[derive(Debug)]
pub(super) struct Reader {
    role: Role,
    /// The maximum length of a message, in bytes.
    limit: usize,
    /// Bytes that were read but not yet parsed.
    pending: BytesMut,
    large: Option<Box<Large>>,
    fragments: Option<Box<Fragments>>,
    window: usize,
    read: u64,
    over: bool,
}

/// A large frame that is being read.
#[derive(Debug)]
struct Large {
    header: Header,
    payload: Buffer,
    /// The payload, if it came as one piece.
    whole: Option<Bytes>,
}

impl Large {
    fn is_complete(&self) -> bool {
        self.whole.is_some() || self.payload.len() == self.header.len
    }

    fn into_payload(self) -> Bytes {
        match self.whole {
            Some(whole) => whole,
            None => self.payload.freeze(),
        }
    }
}

/// The source of the bytes.
pub(crate) trait Input {
    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Returns the bytes of memory held for received data that is not read yet, or that may be held before the next
    /// call.
    #[cfg(feature = "rendezvous-server")]
    fn held(&mut self, _reads: bool) -> usize {
        0
    }

    /// Returns exactly this many bytes without a copy, if the next bytes are one piece of memory of this length.
    fn take_piece(&mut self, _: &mut Context<'_>, _: usize) -> Option<Bytes> {
        None
    }
}

impl<S: AsyncRead + Unpin> Input for S {
    fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_read(cx, to)
    }
}

/// An input as a stream of bytes.
pub(super) struct Stream<'a, I>(pub(super) &'a mut I);

impl<I: Input> AsyncRead for Stream<'_, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, to)
    }
}

/// The frames of a message so far.
#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    payload: Buffer,
    /// The offset up to which a text is known to be UTF-8.
    checked: usize,
}

impl Fragments {
    fn new(opcode: Opcode) -> Self {
        Self {
            opcode,
            payload: Buffer::default(),
            checked: 0,
        }
    }

    /// Appends a frame. For a text that is not UTF-8, fails at the first frame that shows it.
    fn push(&mut self, frame: &[u8], is_last: bool) -> Result<(), WebSocketError> {
        self.payload.extend_from_slice(frame);
        if self.opcode != Opcode::Text {
            return Ok(());
        }
        let unchecked = self.payload.get(self.checked..).unwrap_or_default();
        let good = match std::str::from_utf8(unchecked) {
            Ok(_) => unchecked.len(),
            // The rest of the character may come with the next frame.
            Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
            Err(_) => return Err(WebSocketError::Utf8),
        };
        self.checked += good;
        Ok(())
    }

    fn into_message(self) -> Message {
        let payload = self.payload.freeze();
        match self.opcode {
            Opcode::Text => Message::Text(payload),
            _ => Message::Binary(payload),
        }
    }
}

impl Reader {
    /// Creates a reader that begins with the bytes in `pending`, which were already read.
    pub(super) fn new(role: Role, limit: usize, pending: BytesMut) -> Self {
        Self {
            role,
            limit,
            pending,
            large: None,
            fragments: None,
            window: WINDOW.0,
            read: 0,
            over: false,
        }
    }

    /// Returns the number of bytes read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Returns the bytes of memory held for incomplete messages.
    #[cfg(feature = "rendezvous-server")]
    pub(super) fn held(&self) -> usize {
        let large = self.large.as_ref();
        let large = large.map_or(0, |large| large.payload.capacity());
        let fragments = self.fragments.as_ref();
        let fragments = fragments.map_or(0, |fragments| fragments.payload.capacity());
        self.pending.capacity() + large + fragments
    }

    /// Drops incomplete messages. Nothing can be read after that.
    pub(super) fn clear(&mut self) {
        self.pending = BytesMut::new();
        self.large = None;
        self.fragments = None;
        self.over = true;
    }

    /// Returns the next message, or `None` at the end. Nothing comes after an error.
    pub(super) fn poll_next(
        &mut self,
        io: &mut impl Input,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, ReadError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_message(io, cx)).transpose();
        self.over = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    fn poll_message(
        &mut self,
        io: &mut impl Input,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Message>, ReadError>> {
        loop {
            if self.large.is_some() {
                ready!(self.poll_large(io, cx))?;
            }
            while let Some((header, payload)) = self.next_frame()? {
                if let Some(message) = self.assemble(header, payload)? {
                    return Poll::Ready(Ok(Some(message)));
                }
            }
            if self.large.is_none() && !ready!(self.poll_more(io, cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Reads more bytes into `pending`. Returns `false` at the end.
    fn poll_more(&mut self, io: &mut impl Input, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.pending.reserve(self.window);
        let read = match pin!(Stream(io).read_buf(&mut self.pending)).poll(cx) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                if self.pending.is_empty() {
                    self.pending = BytesMut::new();
                }
                return Poll::Pending;
            }
        };
        self.read += read as u64;
        if read >= self.window {
            self.window = (2 * self.window).min(WINDOW.1);
        }
        let cut = !self.pending.is_empty() || self.fragments.is_some();
        match read {
            0 if cut => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => Poll::Ready(Ok(read > 0)),
        }
    }

    /// Reads the rest of the payload of a large frame.
    fn poll_large(&mut self, io: &mut impl Input, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(large) = self.large.as_deref_mut() else {
            return Poll::Ready(Ok(()));
        };
        let header = large.header;
        if large.payload.is_empty() && header.mask.is_none() {
            large.whole = io.take_piece(cx, header.len);
            self.read += large.whole.as_ref().map_or(0, Bytes::len) as u64;
        }
        while !large.is_complete() {
            let payload = &mut large.payload;
            let (offset, missing) = (payload.len(), header.len - payload.len());
            if payload.room().is_empty() {
                payload.reserve(missing.min(offset.max(FIRST)));
            }
            let room = payload.room();
            let most = room.len().min(missing + BEHIND);
            let mut buf = ReadBuf::new(&mut room[..most]);
            ready!(io.poll_read(cx, &mut buf))?;
            let read = buf.filled_mut();
            if read.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.read += read.len() as u64;
            let (ours, behind) = read.split_at_mut(read.len().min(missing));
            self.pending.extend_from_slice(behind);
            if let Some(key) = header.mask {
                mask::apply(key, offset, ours);
            }
            let filled = ours.len();
            payload.advance(filled);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the next frame, if it is complete. A large frame begins as soon as its header is complete.
    fn next_frame(&mut self) -> Result<Option<(Header, Bytes)>, ReadError> {
        if self.large.is_none() {
            let Some((header, n)) = Header::decode(&self.pending, self.role)? else {
                return Ok(None);
            };
            self.check_length(&header)?;
            if header.len < LARGE {
                return Ok(self.small_frame(header, n));
            }
            self.pending.advance(n);
            self.begin_large(header);
        }
        let large = self.large.take_if(|large| large.is_complete());
        Ok(large.map(|large| (large.header, large.into_payload())))
    }

    fn small_frame(&mut self, header: Header, at: usize) -> Option<(Header, Bytes)> {
        let mut payload = self.pending.get(at..at + header.len)?.to_vec();
        self.pending.advance(at + header.len);
        if let Some(key) = header.mask {
            mask::apply(key, 0, &mut payload);
        }
        Some((header, payload.into()))
    }

    fn begin_large(&mut self, header: Header) {
        self.window = WINDOW.0;
        let there = self.pending.len().min(header.len);
        let mut payload = match there {
            // The payload may come in one piece.
            0 => Buffer::default(),
            there => Buffer::with_capacity((header.len + BEHIND).min(FIRST).max(there)),
        };
        payload.extend_from_slice(&self.pending[..there]);
        self.pending.advance(there);
        if let Some(key) = header.mask {
            mask::apply(key, 0, &mut payload);
        }
        self.large = Some(Box::new(Large {
            header,
            payload,
            whole: None,
        }));
    }

    fn check_length(&self, header: &Header) -> Result<(), ReadError> {
        let before = match (&self.fragments, header.opcode.is_control()) {
            (Some(fragments), false) => fragments.payload.len(),
            _ => 0,
        };
        let len = before.saturating_add(header.len);
        match len > self.limit && !header.opcode.is_control() {
            true => Err(ReadError::TooLong {
                len,
                max: self.limit,
            }),
            false => Ok(()),
        }
    }

    /// Assembles the frames of a message. Returns the message if this was its last frame.
    fn assemble(
        &mut self,
        header: Header,
        payload: Bytes,
    ) -> Result<Option<Message>, WebSocketError> {
        let message = match (header.opcode, &mut self.fragments) {
            (Opcode::Ping, _) => Message::Ping(payload),
            (Opcode::Pong, _) => Message::Pong(payload),
            (Opcode::Close, _) => Message::Close(close_code_and_reason(&payload)?),
            (Opcode::Continuation, None) => return Err(WebSocketError::Continuation),
            (Opcode::Continuation, Some(fragments)) => {
                fragments.push(&payload, header.fin)?;
                let whole = self.fragments.take_if(|_| header.fin);
                return Ok(whole.map(|whole| whole.into_message()));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WebSocketError::Interrupted),
            (opcode, None) if header.fin => data(opcode, payload)?,
            (opcode, fragments) => {
                let first = fragments.insert(Box::new(Fragments::new(opcode)));
                first.push(&payload, false)?;
                return Ok(None);
            }
        };
        Ok(Some(message))
    }
}

fn data(opcode: Opcode, payload: Bytes) -> Result<Message, WebSocketError> {
    if opcode != Opcode::Text {
        return Ok(Message::Binary(payload));
    }
    match std::str::from_utf8(&payload) {
        Ok(_) => Ok(Message::Text(payload)),
        Err(_) => Err(WebSocketError::Utf8),
    }
}

fn close_code_and_reason(payload: &[u8]) -> Result<Option<(CloseCode, String)>, WebSocketError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload
        .split_first_chunk()
        .ok_or(WebSocketError::CloseCode)?;
    let code = CloseCode::received(u16::from_be_bytes(*code)).ok_or(WebSocketError::CloseCode)?;
    let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::Utf8)?;
    Ok(Some((code, reason.to_owned())))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
