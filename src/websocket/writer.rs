//! Encoding of messages into bytes.
//!
//! Small frames are collected in one piece of memory. The payload of a large frame is not copied. All pieces are
//! written with as few calls as the system allows.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::{
    Message, Role,
    frame::{Header, MAX_HEADER, Opcode},
    mask,
};
use crate::buffer::Buffer;

/// The maximum bytes of a payload that is copied behind its header.
const SMALL: usize = 2 * 1024;
/// The maximum bytes collected in one piece.
const PIECE: usize = 32 * 1024;
/// The maximum number of pieces written at once.
const AT_ONCE: usize = 64;
/// A queue with a larger capacity than this returns its memory when it is empty.
const KEPT_SLOTS: usize = 8;

#[derive(Debug)]
pub(super) struct Writer {
    role: Role,
    pieces: VecDeque<Piece>,
    /// Headers and small frames, which follow the pieces.
    gathered: Vec<u8>,
    /// The number of bytes of the first piece that are written.
    offset: usize,
    /// The number of bytes that are not written yet.
    queued: usize,
    written: u64,
}

#[derive(Debug)]
enum Piece {
    /// Headers and small frames.
    Gathered(Vec<u8>),
    Shared(Bytes),
    Own(Buffer),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// The data that is not written yet. It is not empty.
#[derive(Debug)]
pub(crate) struct Unwritten<'a> {
    pieces: &'a mut VecDeque<Piece>,
    /// The number of bytes of the first piece that are written.
    offset: usize,
}

impl Unwritten<'_> {
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut offset = self.offset;
        self.pieces.iter().map(move |piece| {
            let bytes = piece.bytes();
            &bytes[std::mem::take(&mut offset).min(bytes.len())..]
        })
    }

    /// Returns the unwritten part of the first piece, which is shared without a copy.
    #[cfg(feature = "cluster")]
    pub(crate) fn first(&mut self) -> Bytes {
        let Some(first) = self.pieces.front_mut() else {
            return Bytes::new();
        };
        let bytes = match std::mem::replace(first, Piece::Shared(Bytes::new())) {
            Piece::Gathered(bytes) => bytes.into(),
            Piece::Shared(bytes) => bytes,
            Piece::Own(bytes) => bytes.freeze(),
        };
        *first = Piece::Shared(bytes.clone());
        bytes.slice(self.offset.min(bytes.len())..)
    }
}

/// The destination of the frames.
pub(crate) trait Output {
    /// Writes some of the unwritten data. Returns the number of bytes.
    fn poll_write(
        &mut self,
        unwritten: &mut Unwritten<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>;

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends our direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A byte stream, which takes as many pieces at once as the system allows.
impl<S: AsyncWrite + Unpin> Output for S {
    fn poll_write(
        &mut self,
        unwritten: &mut Unwritten<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut pieces = unwritten.slices();
        if !self.is_write_vectored() {
            let first = pieces.find(|piece| !piece.is_empty()).unwrap_or_default();
            return Pin::new(self).poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let mut n = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            n += 1;
        }
        Pin::new(self).poll_write_vectored(cx, &slices[..n])
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

impl Writer {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            pieces: VecDeque::new(),
            gathered: Vec::new(),
            offset: 0,
            queued: 0,
            written: 0,
        }
    }

    /// Returns the number of bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Returns the number of bytes written so far.
    #[cfg(feature = "rendezvous-server")]
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn push(&mut self, message: Message) {
        let (opcode, payload) = match message {
            Message::Text(text) => (Opcode::Text, text),
            Message::Binary(data) => (Opcode::Binary, data),
            Message::Ping(data) => (Opcode::Ping, data),
            Message::Pong(data) => (Opcode::Pong, data),
            Message::Close(close) => (Opcode::Close, close_payload(close)),
        };
        let key = self.push_header(opcode, payload.len());
        if payload.len() <= SMALL {
            let piece = self.gathered(payload.len());
            let start = piece.len();
            piece.extend_from_slice(&payload);
            if let Some(key) = key {
                mask::apply(key, 0, &mut piece[start..]);
            }
            self.queued += payload.len();
        } else if key.is_none() {
            self.push_piece(Piece::Shared(payload));
        } else {
            let mut copy = Buffer::with_capacity(payload.len());
            copy.extend_from_slice(&payload);
            self.push_masked(key, copy);
        }
    }

    /// Queues a binary message that has no other owner, so that it is masked in place.
    pub(super) fn push_buffer(&mut self, data: Buffer) {
        if data.len() <= SMALL {
            return self.push(Message::Binary(data.freeze()));
        }
        let key = self.push_header(Opcode::Binary, data.len());
        self.push_masked(key, data);
    }

    /// Queues frames that are already encoded. Not for a client, where each frame has its own mask.
    #[cfg(feature = "rendezvous-server")]
    pub(super) fn push_encoded(&mut self, frames: Bytes) {
        debug_assert_eq!(self.role, Role::Server);
        self.push_piece(Piece::Shared(frames));
    }

    fn push_header(&mut self, opcode: Opcode, len: usize) -> Option<[u8; 4]> {
        let mask = match self.role {
            Role::Client => Some(rand::random()),
            Role::Server => None,
        };
        let header = Header {
            fin: true,
            opcode,
            mask,
            len,
        };
        let piece = self.gathered(MAX_HEADER);
        let start = piece.len();
        header.encode(piece);
        self.queued += piece.len() - start;
        mask
    }

    fn push_masked(&mut self, key: Option<[u8; 4]>, mut data: Buffer) {
        if let Some(key) = key {
            mask::apply(key, 0, &mut data);
        }
        self.push_piece(Piece::Own(data));
    }

    fn push_piece(&mut self, piece: Piece) {
        if !piece.bytes().is_empty() {
            self.seal();
            self.queued += piece.bytes().len();
            self.pieces.push_back(piece);
        }
    }

    /// Returns the piece to which this many more bytes are appended.
    fn gathered(&mut self, more: usize) -> &mut Vec<u8> {
        if self.gathered.len() + more > PIECE {
            self.seal();
        }
        &mut self.gathered
    }

    /// Closes the piece that is being collected.
    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.pieces.push_back(Piece::Gathered(gathered));
        }
    }

    /// Writes everything that is queued.
    pub(super) fn poll_flush(
        &mut self,
        io: &mut impl Output,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.seal();
        while self.queued > 0 {
            let mut unwritten = Unwritten {
                pieces: &mut self.pieces,
                offset: self.offset,
            };
            let written = ready!(io.poll_write(&mut unwritten, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.pieces.clear();
        if self.pieces.capacity() > KEPT_SLOTS {
            self.pieces = VecDeque::new();
        }
        io.poll_flush(cx)
    }

    fn advance(&mut self, written: usize) {
        self.written += written as u64;
        self.queued = self.queued.saturating_sub(written);
        self.offset += written;
        while let Some(first) = self.pieces.front()
            && self.offset >= first.bytes().len()
        {
            self.offset -= first.bytes().len();
            self.pieces.pop_front();
        }
    }
}

fn close_payload(close: Option<(super::CloseCode, String)>) -> Bytes {
    let Some((code, reason)) = close else {
        return Bytes::new();
    };
    [&u16::from(code).to_be_bytes(), reason.as_bytes()]
        .concat()
        .into()
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
