//! The client's side of the opening handshake (RFC 6455, section 4.1).

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Buf as _, BytesMut};
use sha1_smol::Sha1;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Role, WebSocket};
use crate::{protocol::excerpt, token::Token, words::Words};

/// The fixed value of RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The maximum length of an answer's head, in bytes. Common HTTP clients accept the same.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The maximum number of interim answers, such as 103, before the final one.
const MAX_INTERIM: usize = 8;
/// The first bytes of a TLS server's answer to data that is not TLS: a record with an alert.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// The maximum number of quoted bytes of a refusal.
const MAX_STORY: usize = 100;

/// Why the opening handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The server refused, with this HTTP status.
    #[error("HTTP status {status}{}{}", if .story.is_empty() { "" } else { ": " }, Words(.story))]
    Status {
        /// The HTTP status, such as 404.
        status: u16,
        /// The beginning of the server's explanation, as far as it had arrived, at most 100 bytes. Empty if it contains
        /// a part of our token, because some servers repeat the request.
        story: String,
    },
    /// The server speaks TLS on this port.
    #[error("the server speaks TLS on this port: use /wss instead of /ws")]
    Tls,
    /// The server does not speak HTTP.
    #[error("the answer is not HTTP: {}", Words(.0))]
    NotHttp(String),
    /// The head of the answer is too long.
    #[error("the answer has a head of more than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// There are too many interim answers (1xx) without a final one.
    #[error("more than {MAX_INTERIM} interim answers")]
    Interim,
    /// A header of the answer is missing, repeated, or does not match the request.
    #[error("the answer's {0} header is missing, repeated or wrong")]
    Header(&'static str),
    /// The server closed the connection without an answer.
    #[error("the server closed the connection without an answer")]
    HungUp,
    /// The socket failed.
    #[error("{}", Words(.0))]
    Io(#[from] io::Error),
}

impl UpgradeError {
    /// Returns the same error, without text that reveals a part of the token.
    fn without(mut self, token: Option<&Token>) -> Self {
        if let Self::Status { story, .. } = &mut self
            && token.is_some_and(|token| token.is_in(story))
        {
            story.clear();
        }
        self
    }
}

/// Returns the server's answer to a client's key.
pub(crate) fn accept_for(key: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    BASE64_STANDARD.encode(sha1.digest().bytes())
}

/// The request for an upgrade.
pub(crate) struct Request<'a> {
    /// The host and the port.
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    /// The token with which the client is admitted.
    pub(crate) token: Option<&'a Token>,
}

impl Request<'_> {
    /// Returns the complete text of the request. It is secret if it contains a token.
    fn encode(&self, key: &str) -> String {
        let Self {
            authority,
            path,
            token,
        } = self;
        let authorization = token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {}\r\n", token.reveal())
        });
        format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
             {authorization}\r\n"
        )
    }
}

/// Upgrades `io` to a WebSocket whose messages have at most `limit` bytes. Dropping the future leaves the stream in an
/// unknown state.
pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    request: &Request<'_>,
    limit: usize,
) -> Result<WebSocket<S>, UpgradeError> {
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    io.write_all(request.encode(&key).as_bytes()).await?;
    io.flush().await?;
    let mut read = BytesMut::new();
    let accept = accept_for(key.as_bytes());
    let (mut interim, mut skipped) = (0, 0);
    loop {
        // Every read parses the answer again. Therefore reads should not be too small, and there should not be too
        // many.
        read.reserve(1024);
        if io.read_buf(&mut read).await? == 0 {
            return Err(UpgradeError::HungUp);
        }
        loop {
            match check_answer(&read, &accept).map_err(|error| error.without(request.token))? {
                Answer::Partial => break,
                Answer::Interim(head) => {
                    read.advance(head);
                    skipped += head;
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(UpgradeError::Interim);
                    }
                }
                Answer::Agreed(head) => {
                    read.advance(head);
                    return Ok(WebSocket::new(io, Role::Client, limit, read));
                }
            }
        }
        if skipped + read.len() > MAX_HEAD {
            return Err(UpgradeError::HeadTooLong);
        }
    }
}

/// The state of the server's answer.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The answer is not complete.
    Partial,
    /// A head of this many bytes, after which another answer follows (RFC 9110, section 15.2).
    Interim(usize),
    /// The server agrees to the upgrade, in a head of this many bytes.
    Agreed(usize),
}

fn check_answer(answer: &[u8], accept: &str) -> Result<Answer, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(answer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(Answer::Partial),
        Err(_) if answer.starts_with(&TLS_ALERT) => return Err(UpgradeError::Tls),
        Err(error) => return Err(UpgradeError::NotHttp(error.to_string())),
    };
    match response.code.unwrap_or_default() {
        101 => {
            check_headers(response.headers, accept)?;
            Ok(Answer::Agreed(head))
        }
        100..=199 => Ok(Answer::Interim(head)),
        status => {
            let body = String::from_utf8_lossy(answer.get(head..).unwrap_or_default());
            let story = match body.lines().next().unwrap_or_default() {
                "" => response.reason.unwrap_or_default(),
                line => line,
            };
            let story = excerpt(story.trim(), MAX_STORY);
            Err(UpgradeError::Status { status, story })
        }
    }
}

/// Checks the headers as in RFC 6455, section 4.1, from "Once the client's opening handshake has been sent" on.
fn check_headers(headers: &[httparse::Header<'_>], accept: &str) -> Result<(), UpgradeError> {
    let values = |name: &'static str| {
        let named = headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii())
    };
    // A repeated header is a list, which is another value.
    let only = |name, is_good: &dyn Fn(&[u8]) -> bool| {
        let mut values = values(name);
        values.next().is_some_and(is_good) && values.next().is_none()
    };
    let lists = |name, token: &[u8]| {
        let mut tokens = values(name).flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|value| value.trim_ascii().eq_ignore_ascii_case(token))
    };
    let wrong = if !only("Sec-WebSocket-Accept", &|value| value == accept.as_bytes()) {
        "Sec-WebSocket-Accept"
    } else if !only("Upgrade", &|value| value.eq_ignore_ascii_case(b"websocket")) {
        "Upgrade"
    } else if !lists("Connection", b"upgrade") {
        "Connection"
    } else if values("Sec-WebSocket-Extensions").next().is_some() {
        // We offered none, and it would change the meaning of the frames.
        "Sec-WebSocket-Extensions"
    } else if values("Sec-WebSocket-Protocol").next().is_some() {
        // We offered none: the server uses another protocol, or confuses us with another client.
        "Sec-WebSocket-Protocol"
    } else {
        return Ok(());
    };
    Err(UpgradeError::Header(wrong))
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
    fn a_token_is_a_header_of_its_own() {
        let token: Token = "secret".parse().expect("a token");
        let encode = |token| {
            let asked = Request {
                authority: "star.example",
                path: "/x",
                token,
            };
            asked.encode("key")
        };
        let (with, without) = (encode(Some(&token)), encode(None));
        assert!(without.starts_with("GET /x HTTP/1.1\r\nHost: star.example\r\n"));
        assert!(without.ends_with("\r\nSec-WebSocket-Version: 13\r\n\r\n"));
        let header = "Authorization: Bearer secret\r\n";
        assert_eq!(with.replacen(header, "", 1), without);
    }

    #[test]
    fn an_answer_is_taken_when_it_is_complete() {
        let answer = answer(ACCEPT, "");
        let with_frames = [answer.as_bytes(), b"\x81\x00"].concat();
        for end in 0..answer.len() {
            let part = check_answer(&answer.as_bytes()[..end], ACCEPT);
            assert!(matches!(part, Ok(Answer::Partial)), "{end}");
        }
        let whole = check_answer(&with_frames, ACCEPT).expect("good");
        assert_eq!(whole, Answer::Agreed(answer.len()));
    }

    #[test]
    fn an_interim_answer_is_told_from_the_one_that_counts() {
        for head in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
        ] {
            let both = format!("{head}{}", answer(ACCEPT, ""));
            let first = check_answer(both.as_bytes(), ACCEPT).expect("good");
            assert_eq!(first, Answer::Interim(head.len()));
        }
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
            answer(ACCEPT, "Sec-WebSocket-Extensions: \u{e9}\r\n"),
            answer(ACCEPT, "Sec-WebSocket-Protocol: engine.io\r\n"),
            answer(ACCEPT, "sec-websocket-protocol:\r\n"),
            answer(ACCEPT, "Upgrade: websocket\r\n"),
            answer(ACCEPT, "Upgrade: h2c\r\n"),
            answer(ACCEPT, "").replace("WebSocket\r", "websocket, h2c\r"),
            answer(ACCEPT, "").replace("upgrade: WebSocket\r\n", ""),
            answer(ACCEPT, "").replace("Connection: x, upgrade\r\n", ""),
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
    fn the_tokens_of_connection_may_come_in_several_headers() {
        let several = answer(ACCEPT, "Connection: keep-alive\r\n");
        let agreed = check_answer(several.as_bytes(), ACCEPT).expect("good");
        assert_eq!(agreed, Answer::Agreed(several.len()));
    }

    #[tokio::test]
    async fn interim_answers_are_bounded_in_number_and_bytes() {
        let continues = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_INTERIM + 1);
        let hint = format!("HTTP/1.1 103 Early\r\nLink: {}\r\n\r\n", "a".repeat(5000));
        let hints = hint.repeat(4);
        for (answer, is_long) in [(continues, false), (hints, true)] {
            let (ours, mut theirs) = tokio::io::duplex(100_000);
            theirs.write_all(answer.as_bytes()).await.expect("open");
            let asked = Request {
                authority: "a",
                path: "/",
                token: None,
            };
            let refused = upgrade(ours, &asked, 1).await.expect_err("too much");
            assert_eq!(matches!(refused, UpgradeError::HeadTooLong), is_long);
            assert_eq!(matches!(refused, UpgradeError::Interim), !is_long);
        }
    }

    #[tokio::test]
    async fn a_refusal_that_repeats_our_token_is_not_quoted() {
        let token: Token = "a+very/secret==".parse().expect("a token");
        let cut = format!("{}secret==", "x".repeat(MAX_STORY - 4));
        for (story, expected) in [
            ("Too many links", "HTTP status 400: Too many links"),
            ("bad header: Bearer a+very/secret==", "HTTP status 400"),
            (
                "{\"authorization\":\"Bearer a+very\\/secret==\"}",
                "HTTP status 400",
            ),
            (cut.as_str(), "HTTP status 400"),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(100_000);
            let answer = format!("HTTP/1.1 400 Bad Request\r\n\r\n{story}\n");
            theirs.write_all(answer.as_bytes()).await.expect("open");
            let asked = Request {
                authority: "a",
                path: "/",
                token: Some(&token),
            };
            let refused = upgrade(ours, &asked, 1).await.expect_err("a refusal");
            assert_eq!(refused.to_string(), expected);
            assert!(!format!("{refused:?}").contains("secr"), "{refused:?}");
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
