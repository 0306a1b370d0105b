//! The head of the answer to the upgrade, looked at before the WebSocket crate parses it.
//!
//! tokio-websockets 0.13.3 gathers a head of any length, parses it anew with every piece that comes,
//! and panics if `Sec-WebSocket-Accept` decodes to more than 20 bytes.

use std::{
    io,
    task::{Poll, ready},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

/// The longest head, in bytes: what common HTTP clients take.
const MAX_LEN: usize = 16 * 1024;
/// The most headers, as in tokio-websockets.
const MAX_HEADERS: usize = 25;
/// The length of a SHA-1 digest.
const ACCEPT_LEN: usize = 20;

/// Holds the answer back until its head is complete and known to be harmless.
#[derive(Debug, Default)]
pub(super) struct Head {
    held: BytesMut,
    checked: bool,
}

impl Head {
    /// Reads into `buf` what `read` reads, as soon as it may be seen.
    pub(super) fn poll_read(
        &mut self,
        buf: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        while !self.checked {
            let mut space = [0; 1024];
            let mut piece = ReadBuf::new(&mut space);
            ready!(read(&mut piece))?;
            self.held.extend_from_slice(piece.filled());
            self.checked = piece.filled().is_empty() || check(&self.held)?;
        }
        let n = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..n]);
        self.held.advance(n);
        Poll::Ready(Ok(()))
    }

    /// Whether all of it was read.
    pub(super) fn is_over(&self) -> bool {
        self.checked && self.held.is_empty()
    }
}

/// Whether the head is complete. What is malformed is left for tokio-websockets to describe.
fn check(answer: &[u8]) -> io::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(answer) {
        Err(_) => Ok(true),
        Ok(httparse::Status::Partial) if answer.len() > MAX_LEN => {
            Err(invalid("the HTTP answer has an overlong head"))
        }
        Ok(httparse::Status::Partial) => Ok(false),
        Ok(httparse::Status::Complete(_)) => {
            let mut accepts = response
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept"));
            let is_digest = |header: &httparse::Header<'_>| {
                BASE64_STANDARD
                    .decode(header.value)
                    .is_ok_and(|digest| digest.len() == ACCEPT_LEN)
            };
            if response.code == Some(101) && !accepts.all(is_digest) {
                return Err(invalid("a malformed Sec-WebSocket-Accept"));
            }
            Ok(true)
        }
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of an answer that comes in pieces of `size` bytes.
    fn seen(answer: &[u8], size: usize) -> io::Result<Vec<u8>> {
        let (mut head, mut pieces, mut seen) = (Head::default(), answer.chunks(size), Vec::new());
        loop {
            let mut space = [0; 50];
            let mut buf = ReadBuf::new(&mut space);
            let read = head.poll_read(&mut buf, |buf| {
                buf.put_slice(pieces.next().unwrap_or_default());
                Poll::Ready(Ok(()))
            });
            let Poll::Ready(result) = read else {
                panic!("the source is always ready")
            };
            result?;
            seen.extend_from_slice(buf.filled());
            if head.is_over() {
                pieces.for_each(|piece| seen.extend_from_slice(piece));
                return Ok(seen);
            }
        }
    }

    fn switching(accept: &str) -> String {
        format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-ACCEPT: {accept}\r\n\r\n")
    }

    #[test]
    fn all_that_comes_is_seen_in_the_end() {
        let good = switching("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") + "\u{81}frames";
        for answer in [
            &good,
            "HTTP/1.1 404 Not Found\r\n\r\nbody",
            "garbage",
            "HTTP/1.1 10",
            "",
        ] {
            for size in [1, 7, 1000] {
                let seen = seen(answer.as_bytes(), size).expect("harmless");
                assert_eq!(seen, answer.as_bytes(), "{answer}");
            }
        }
    }

    #[test]
    fn an_accept_header_that_is_no_digest_is_refused() {
        for accept in ["", "a", "QUJD", &"QUJD".repeat(7), &"QUJD".repeat(1000)] {
            for size in [1, 7, 1000] {
                assert!(
                    seen(switching(accept).as_bytes(), size).is_err(),
                    "{accept}"
                );
            }
        }
    }

    #[test]
    fn a_head_is_bounded() {
        let endless = format!("HTTP/1.1 101 Switching\r\nX: {}", "x".repeat(2 * MAX_LEN));
        assert!(seen(endless.as_bytes(), 1000).is_err());
    }
}
