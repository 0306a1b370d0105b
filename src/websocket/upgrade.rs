//! The client's side of the opening handshake: RFC 6455, section 4.1.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Buf as _, BytesMut};
use sha1_smol::Sha1;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Role, WebSocket};
use crate::protocol::excerpt;

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest head of an answer, in bytes: what common HTTP clients take.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How a TLS server begins its answer to what is no TLS: a record with an alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// How much of a refusal is quoted, in bytes.
const MAX_STORY: usize = 100;

/// Why the opening handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The server refused, with this HTTP status.
    #[error("HTTP status {status}{}{story}", if .story.is_empty() { "" } else { ": " })]
    Status {
        /// Such as 404.
        status: u16,
        /// The beginning of what it said beside that, at most 100 bytes; what had come by then.
        story: String,
    },
    /// What answers speaks TLS.
    #[error("the server speaks TLS on this port: use /wss instead of /ws")]
    Tls,
    /// What answers speaks no HTTP.
    #[error("the answer is no HTTP: {0}")]
    NotHttp(String),
    /// The head of the answer is too long.
    #[error("the answer has a head of more than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// A header of the answer is missing, or not what was asked for.
    #[error("the answer has no good {0}")]
    Header(&'static str),
    /// The server hung up before it had answered.
    #[error("hung up without an answer")]
    HungUp,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a server answers to a client's key.
pub(crate) fn accept_for(key: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    BASE64_STANDARD.encode(sha1.digest().bytes())
}

/// Has `io` upgraded to a WebSocket whose messages are at most `limit` bytes long. Dropping the
/// future leaves the stream somewhere in between.
pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    authority: &str,
    path: &str,
    limit: usize,
) -> Result<WebSocket<S>, UpgradeError> {
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut read = BytesMut::new();
    let accept = accept_for(key.as_bytes());
    loop {
        // Parsed anew with every piece, hence not too small ones and not too many.
        read.reserve(1024);
        if io.read_buf(&mut read).await? == 0 {
            return Err(UpgradeError::HungUp);
        }
        if let Some(head) = check_answer(&read, &accept)? {
            read.advance(head);
            return Ok(WebSocket::new(io, Role::Client, limit, read));
        }
        if read.len() > MAX_HEAD {
            return Err(UpgradeError::HeadTooLong);
        }
    }
}

/// The length of the head of an answer that agrees to the upgrade; `None` if it is not complete.
fn check_answer(answer: &[u8], accept: &str) -> Result<Option<usize>, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) if answer.starts_with(&TLS_ALERT) => return Err(UpgradeError::Tls),
        Err(error) => return Err(UpgradeError::NotHttp(error.to_string())),
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let body = String::from_utf8_lossy(answer.get(head..).unwrap_or_default());
        let story = match body.lines().next().unwrap_or_default() {
            "" => response.reason.unwrap_or_default(),
            line => line,
        };
        let story = excerpt(story.trim(), MAX_STORY);
        return Err(UpgradeError::Status { status, story });
    }
    let values = |name: &'static str| {
        let named = response
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let has_token = |name, token: &str| {
        let mut tokens = values(name).flat_map(|value| value.split(','));
        tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    let accepted: Vec<_> = values("Sec-WebSocket-Accept").collect();
    if accepted != [accept] {
        Err(UpgradeError::Header("Sec-WebSocket-Accept"))
    } else if !has_token("Upgrade", "websocket") {
        Err(UpgradeError::Header("Upgrade"))
    } else if !has_token("Connection", "upgrade") {
        Err(UpgradeError::Header("Connection"))
    } else if values("Sec-WebSocket-Extensions").next().is_some() {
        // None was offered, and it would change what the frames mean.
        Err(UpgradeError::Header("Sec-WebSocket-Extensions"))
    } else {
        Ok(Some(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn answer(accept: &str, more: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: x, upgrade\r\n\
             sec-websocket-ACCEPT: {accept}\r\n{more}\r\n"
        )
    }

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), ACCEPT);
    }

    #[test]
    fn an_answer_is_taken_when_it_is_complete() {
        let answer = answer(ACCEPT, "");
        let with_frames = [answer.as_bytes(), b"\x81\x00"].concat();
        for end in 0..answer.len() {
            let part = check_answer(&answer.as_bytes()[..end], ACCEPT);
            assert!(matches!(part, Ok(None)), "{end}");
        }
        let whole = check_answer(&with_frames, ACCEPT).expect("good");
        assert_eq!(whole, Some(answer.len()));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_refused() {
        let twice = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        for answer in [
            answer("", ""),
            answer("not base64", ""),
            answer("AAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""),
            answer(&"QUJD".repeat(7), ""),
            answer(ACCEPT, &twice),
            answer(ACCEPT, deflate),
            answer(ACCEPT, "").replace("WebSocket\r", "h2c\r"),
            answer(ACCEPT, "").replace("x, upgrade", "close"),
        ] {
            let refused = check_answer(answer.as_bytes(), ACCEPT);
            assert!(
                matches!(refused, Err(UpgradeError::Header(_))),
                "{answer}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_refusal_is_quoted() {
        let say = |answer: &str| {
            let refused = check_answer(answer.as_bytes(), ACCEPT);
            refused.expect_err("a refusal").to_string()
        };
        let head = "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        assert_eq!(say(head), "HTTP status 503: Service Unavailable");
        let full = format!("{head}Too many links\nreally");
        assert_eq!(say(&full), "HTTP status 503: Too many links");
        assert_eq!(say("HTTP/1.1 404\r\n\r\n"), "HTTP status 404");
        let long = format!("{head}{}", "é".repeat(100));
        assert_eq!(say(&long).len(), "HTTP status 503: ".len() + MAX_STORY);
    }
}
