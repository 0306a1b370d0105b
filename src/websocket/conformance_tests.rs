//! The cases of the Autobahn test suite for RFC 6455, by its numbers, against both roles.
//!
//! An endpoint echoes each message. The tests encode and parse frames with their own code, so that they share no
//! mistakes with the tested code.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};

use super::{CloseCode, Message, ReadError, Role, WebSocket};

/// The longest message that the endpoint accepts, in bytes.
const LIMIT: usize = 300_000;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// The first byte of the first frame of several, of one in the middle, and of the last one.
const TEXT_BEGINS: u8 = 0x01;
const BINARY_BEGINS: u8 = 0x02;
const GOES_ON: u8 = 0x00;
const ENDS: u8 = 0x80;

/// The first byte of a frame, and its payload.
type Frame = (u8, Vec<u8>);

fn frame(first: u8, payload: impl AsRef<[u8]>) -> Frame {
    (first, payload.as_ref().to_vec())
}

fn close(code: u16) -> Frame {
    frame(CLOSE, code.to_be_bytes())
}

fn close_for(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// Returns a message in frames of this length. The last frame has the rest.
fn fragments(begins: u8, payload: &[u8], len: usize) -> Vec<Frame> {
    let mut frames: Vec<_> = payload
        .chunks(len)
        .map(|chunk| frame(GOES_ON, chunk))
        .collect();
    let last = frames.len() - 1;
    frames[0].0 = begins;
    frames[last].0 |= 0x80;
    frames
}

fn encode(frames: &[Frame], is_masked: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, (first, payload)) in frames.iter().enumerate() {
        let mask = if is_masked { 0x80 } else { 0 };
        bytes.push(*first);
        match payload.len() {
            len @ 0..126 => bytes.push(mask | len as u8),
            len @ 126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(mask | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        let key = if is_masked {
            [n as u8, 1, 0xff, 0]
        } else {
            [0; 4]
        };
        if is_masked {
            bytes.extend(key);
        }
        let masked = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b);
        bytes.extend(masked);
    }
    bytes
}

fn decode(mut bytes: &[u8], is_masked: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let take = |bytes: &mut &[u8], n: usize| bytes.split_off(..n).expect("a whole frame").to_vec();
    while !bytes.is_empty() {
        let head = take(&mut bytes, 2);
        assert_eq!(
            head[1] & 0x80 != 0,
            is_masked,
            "a mask in the wrong direction"
        );
        let more = match head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long = take(&mut bytes, more);
        let len = match more {
            0 => usize::from(head[1] & 0x7f),
            _ => long
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte)),
        };
        let key = if is_masked {
            take(&mut bytes, 4)
        } else {
            vec![0]
        };
        let payload = take(&mut bytes, len);
        let plain = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b);
        frames.push((head[0], plain.collect()));
    }
    frames
}

/// A stream that reads at most this many bytes at once.
struct Chopped(DuplexStream, usize);

impl AsyncRead for Chopped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buf.remaining().min(self.1).min(64 * 1024);
        let mut bytes = vec![0; most];
        let mut few = ReadBuf::new(&mut bytes);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut few))?;
        buf.put_slice(few.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Chopped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Echoes each message, and leaves in the same way as a link.
async fn echo(io: Chopped, role: Role) -> io::Result<()> {
    let mut ws = WebSocket::new(io, role, LIMIT, BytesMut::new());
    while let Some(next) = ws.next().await {
        let code = match next {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                ws.send(message);
                None
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => None,
            Ok(Message::Close(_)) => Some(CloseCode::NORMAL),
            Err(ReadError::Violation(violation)) => Some(violation.close_code()),
            Err(ReadError::TooLong { .. }) => Some(CloseCode::MESSAGE_TOO_BIG),
            Err(ReadError::Io(error)) => return Err(error),
        };
        match code {
            Some(code) => return ws.finish(code, "").await,
            None => std::future::poll_fn(|cx| ws.poll_flush(cx)).await?,
        }
    }
    Ok(())
}

/// Returns the endpoint's answer to these bytes, if it reads at most `at_once` bytes at a time.
async fn answer(role: Role, bytes: &[u8], at_once: usize) -> Vec<Frame> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(theirs);
    let write = async {
        // The endpoint may have left before it has read everything.
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    let read = async {
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.expect("open");
        answer
    };
    let (_, answer, _) = tokio::join!(write, read, echo(Chopped(ours, at_once), role));
    decode(&answer, role == Role::Client)
}

/// Checks that both roles answer `frames` with `wanted`, in whatever pieces the bytes come.
async fn check(case: &str, frames: &[Frame], wanted: &[Frame]) {
    for role in [Role::Client, Role::Server] {
        let bytes = encode(frames, role == Role::Server);
        for at_once in [usize::MAX, 997, 1] {
            if at_once == 1 && bytes.len() > 10_000 {
                continue;
            }
            let answer = answer(role, &bytes, at_once).await;
            assert!(
                answer == wanted,
                "{case} to a {role:?} by {at_once}: {} frames, the last {:x?}",
                answer.len(),
                answer.last()
            );
        }
    }
}

/// Checks that each of `messages` is echoed, and that the connection is closed properly.
async fn comes_back(case: &str, frames: Vec<Frame>, messages: Vec<Frame>) {
    let frames = [frames, vec![close(1000)]].concat();
    let messages = [messages, vec![close(1000)]].concat();
    check(case, &frames, &messages).await;
}

/// Checks that the connection is closed with `code` after `messages`, and that everything after that is ignored.
async fn fails(case: &str, frames: Vec<Frame>, messages: Vec<Frame>, code: u16) {
    let behind = vec![frame(TEXT, "behind"), frame(PING, "behind"), close(1000)];
    let frames = [frames, behind].concat();
    let messages = [messages, vec![close(code)]].concat();
    check(case, &frames, &messages).await;
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| b'a' + (n % 26) as u8).collect()
}

#[tokio::test]
async fn group_1_messages_of_every_length_of_length_come_back() {
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        for kind in [TEXT, BINARY] {
            let message = frame(kind, pattern(len));
            comes_back("1", vec![message.clone()], vec![message]).await;
        }
    }
    let all = frame(BINARY, (0..=255).collect::<Vec<u8>>());
    comes_back("1.2", vec![all.clone()], vec![all]).await;
}

#[tokio::test]
async fn group_2_pings_are_answered_and_pongs_are_not() {
    let longest = [0xfe; 125];
    for payload in [&b""[..], b"Hello, world!", b"\x00\xff\xfe\xfd", &longest] {
        let answered = vec![frame(PONG, payload)];
        comes_back("2.1 to 2.4, 2.6", vec![frame(PING, payload)], answered).await;
        let unasked = vec![frame(PONG, payload)];
        comes_back("2.7, 2.8", unasked, vec![]).await;
    }
    fails("2.5", vec![frame(PING, [0xfe; 126])], vec![], 1002).await;
    let both = vec![frame(PONG, "unasked"), frame(PING, "ping")];
    comes_back("2.9", both, vec![frame(PONG, "ping")]).await;
    let ten = |first| {
        (0..10)
            .map(|n| frame(first, format!("payload {n}")))
            .collect()
    };
    comes_back("2.10, 2.11", ten(PING), ten(PONG)).await;
}

#[tokio::test]
async fn group_3_reserved_bits_are_a_violation() {
    for (n, rsv) in (1..=7).map(|bits| (bits, bits << 4)) {
        for kind in [TEXT, BINARY, PING, PONG, CLOSE, TEXT_BEGINS] {
            let case = format!("3.{n}");
            fails(&case, vec![frame(kind | rsv, "")], vec![], 1002).await;
            let before = frame(TEXT, "before");
            let frames = vec![before.clone(), frame(kind | rsv, "x"), before.clone()];
            fails(&case, frames, vec![before], 1002).await;
        }
        let later = vec![frame(TEXT_BEGINS, "a"), frame(ENDS | rsv, "b")];
        fails("3", later, vec![], 1002).await;
    }
}

#[tokio::test]
async fn group_4_opcodes_that_there_are_not_are_a_violation() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for first in [opcode | 0x80, opcode] {
            for payload in ["", "unknown"] {
                let case = format!("4: {opcode}");
                fails(&case, vec![frame(first, payload)], vec![], 1002).await;
                let before = frame(TEXT, "before");
                let frames = vec![before.clone(), frame(first, payload)];
                fails(&case, frames, vec![before], 1002).await;
            }
        }
    }
}

#[tokio::test]
async fn group_5_messages_may_come_in_fragments_and_control_frames_may_not() {
    for kind in [PING, PONG, CLOSE] {
        let halves = vec![frame(kind & 0x7f, "a"), frame(ENDS, "b")];
        fails("5.1, 5.2", halves, vec![], 1002).await;
    }
    let whole = frame(TEXT, "fragment1fragment2");
    let halves = [frame(TEXT_BEGINS, "fragment1"), frame(ENDS, "fragment2")];
    comes_back("5.3 to 5.5", halves.to_vec(), vec![whole.clone()]).await;
    let [begins, ends] = halves;
    let with_ping = vec![begins.clone(), frame(PING, "ping"), ends.clone()];
    let answered = vec![frame(PONG, "ping"), whole.clone()];
    comes_back("5.6 to 5.8", with_ping, answered).await;
    for first in [ENDS, GOES_ON] {
        let nothing = vec![frame(first, "to continue"), frame(TEXT, "after")];
        fails("5.9 to 5.14", nothing, vec![], 1002).await;
        let after = vec![begins.clone(), ends.clone(), frame(first, "more")];
        fails("5.15 to 5.17", after, vec![whole.clone()], 1002).await;
    }
    for second in [TEXT, BINARY, TEXT_BEGINS, BINARY_BEGINS] {
        let within = vec![begins.clone(), frame(second, "another")];
        fails("5.18", within, vec![], 1002).await;
    }
    let five = vec![
        frame(TEXT_BEGINS, "1"),
        frame(GOES_ON, "2"),
        frame(PING, "first"),
        frame(GOES_ON, "3"),
        frame(GOES_ON, "4"),
        frame(PING, "second"),
        frame(ENDS, "5"),
    ];
    let answered = vec![
        frame(PONG, "first"),
        frame(PONG, "second"),
        frame(TEXT, "12345"),
    ];
    comes_back("5.19, 5.20", five, answered).await;
}

/// Valid sequences of Markus Kuhn's UTF-8 stress test.
const UTF8: [&str; 14] = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\0",
    "\u{80}",
    "\u{800}",
    "\u{10000}",
    "\u{7f}",
    "\u{7ff}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{d7ff}\u{e000}",
    "\u{fffd}",
    "\u{fffe}\u{1fffe}\u{10fffe}",
    "\u{feff}a\u{202e}",
];

/// Invalid sequences.
const NOT_UTF8: [&[u8]; 26] = [
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80\xbf",
    b"\xc0 \xc1 ",
    b"\xe0 \xef ",
    b"\xf0 \xf7 ",
    b"\xf8 \xfb ",
    b"\xfc \xfd ",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
];

#[tokio::test]
async fn group_6_texts_that_are_utf_8_come_back_however_they_are_cut() {
    let empty = vec![frame(TEXT_BEGINS, ""), frame(GOES_ON, ""), frame(ENDS, "")];
    comes_back("6.1", empty, vec![frame(TEXT, "")]).await;
    let middle = vec![frame(TEXT_BEGINS, ""), frame(GOES_ON, "é"), frame(ENDS, "")];
    comes_back("6.1", middle, vec![frame(TEXT, "é")]).await;
    for text in UTF8 {
        let whole = frame(TEXT, text);
        for len in [text.len(), 2, 1] {
            let cut = fragments(TEXT_BEGINS, text.as_bytes(), len);
            comes_back("6.2, 6.5 to 6.23", cut, vec![whole.clone()]).await;
        }
    }
}

#[tokio::test]
async fn group_6_texts_that_are_not_utf_8_fail_as_soon_as_a_frame_shows_it() {
    for bytes in NOT_UTF8 {
        for len in [bytes.len(), 2, 1] {
            let cut = fragments(TEXT_BEGINS, bytes, len);
            fails("6.3, 6.6 to 6.21", cut, vec![], 1007).await;
        }
        // The end of the message never comes.
        let mut open = fragments(TEXT_BEGINS, &[bytes, b" "].concat(), 1);
        open.last_mut().expect("a frame").0 &= 0x7f;
        let silence = open.clone();
        check("6.4", &silence, &[close(1007)]).await;
    }
    for cut_off in ["é", "€", "\u{10000}"] {
        let bytes = &cut_off.as_bytes()[..cut_off.len() - 1];
        for len in [bytes.len(), 1] {
            let cut = fragments(TEXT_BEGINS, bytes, len);
            fails("6.8 to 6.13", cut, vec![], 1007).await;
        }
    }
    let binary = vec![frame(BINARY_BEGINS, b"\xff"), frame(ENDS, b"\xfe")];
    comes_back("6", binary, vec![frame(BINARY, b"\xff\xfe")]).await;
}

#[tokio::test]
async fn group_7_a_close_is_answered_once_and_nothing_counts_after_it() {
    let hello = frame(TEXT, "Hello World!");
    let goodbye = close(1000);
    let long = frame(TEXT, pattern(256 * 1024));
    for (case, frames, wanted) in [
        (
            "7.1.1",
            vec![hello.clone(), goodbye.clone()],
            vec![hello.clone(), goodbye.clone()],
        ),
        ("7.1.2", vec![goodbye.clone(); 2], vec![goodbye.clone()]),
        (
            "7.1.3",
            vec![goodbye.clone(), frame(PING, "")],
            vec![goodbye.clone()],
        ),
        (
            "7.1.4",
            vec![goodbye.clone(), hello.clone()],
            vec![goodbye.clone()],
        ),
        (
            "7.1.5",
            vec![frame(TEXT_BEGINS, "a"), goodbye.clone(), frame(ENDS, "b")],
            vec![goodbye.clone()],
        ),
        (
            "7.1.6",
            vec![long.clone(), goodbye.clone(), frame(PING, "")],
            vec![long, goodbye.clone()],
        ),
        ("7.3.1", vec![frame(CLOSE, "")], vec![frame(CLOSE, "")]),
        ("7.3.2", vec![frame(CLOSE, "a")], vec![close(1002)]),
        ("7.3.3", vec![goodbye.clone()], vec![goodbye.clone()]),
        ("7.3.4", vec![close_for(1000, "Ok")], vec![goodbye.clone()]),
        ("7.3.5", vec![close_for(1000, [b'a'; 123])], vec![goodbye]),
        (
            "7.3.6",
            vec![close_for(1000, [b'a'; 124])],
            vec![close(1002)],
        ),
        (
            "7.5.1",
            vec![close_for(1000, b"\xce\xba\xed\xa0\x80")],
            vec![close(1007)],
        ),
    ] {
        check(case, &frames, &wanted).await;
    }
}

#[tokio::test]
async fn group_7_a_close_code_is_one_that_may_be_sent() {
    let good = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    ];
    for code in good.into_iter().chain([3000, 3999, 4000, 4999]) {
        check("7.7", &[close(code)], &[close(code)]).await;
        check("7.7", &[close_for(code, "why")], &[close(code)]).await;
    }
    let bad = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999];
    for code in bad.into_iter().chain([5000, 65_535]) {
        check("7.9, 7.13", &[close(code)], &[close(1002)]).await;
        check("7.9, 7.13", &[close_for(code, "why")], &[close(1002)]).await;
    }
}

#[tokio::test]
async fn groups_9_and_10_long_messages_come_back_whole_up_to_the_limit() {
    for (kind, begins) in [(TEXT, TEXT_BEGINS), (BINARY, BINARY_BEGINS)] {
        for len in [64 * 1024, 256 * 1024, LIMIT] {
            let message = frame(kind, pattern(len));
            comes_back("9.1, 9.2", vec![message.clone()], vec![message.clone()]).await;
            for cut in [1300, 64 * 1024] {
                let cut = fragments(begins, &message.1, cut);
                comes_back("9.3, 9.4, 10.1", cut, vec![message.clone()]).await;
            }
        }
        let over = pattern(LIMIT + 1);
        fails("9", vec![frame(kind, &over)], vec![], 1009).await;
        fails("9", fragments(begins, &over, 100_000), vec![], 1009).await;
    }
    for len in [0, 16, 64, 256, 1024] {
        let many = vec![frame(TEXT, pattern(len)); 200];
        comes_back("9.7, 9.8", many.clone(), many).await;
    }
}

#[tokio::test]
async fn a_length_is_written_in_the_fewest_bytes_and_a_mask_is_where_it_belongs() {
    for role in [Role::Client, Role::Server] {
        let mask = if role == Role::Server { 0x80 } else { 0 };
        for head in [
            &[BINARY, mask | 126, 0, 125][..],
            &[BINARY, mask | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[BINARY, mask | 127, 0x80, 0, 0, 0, 0, 1, 0, 0],
            &[BINARY, mask ^ 0x80, 0],
        ] {
            let bytes = [head, &[0; 200]].concat();
            for at_once in [usize::MAX, 1] {
                let answer = answer(role, &bytes, at_once).await;
                assert_eq!(answer, [close(1002)], "{head:x?} to a {role:?}");
            }
        }
    }
}
