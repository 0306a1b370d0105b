use std::task::Waker;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::websocket::{WebSocket, writer::Writer};

const LIMIT: usize = 200_000;

/// A stream that returns its bytes in pieces of these lengths, in a cycle, and is pending after each piece.
struct Pieces {
    bytes: BytesMut,
    lengths: Vec<usize>,
    next: usize,
    waits: bool,
}

impl Pieces {
    fn new(bytes: &[u8], lengths: &[usize]) -> Self {
        Self {
            bytes: bytes.into(),
            lengths: lengths.to_vec(),
            next: 0,
            waits: false,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waits = !self.waits;
        if self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wanted = self.lengths[self.next % self.lengths.len()];
        self.next += 1;
        let n = wanted.min(self.bytes.len()).min(buf.remaining());
        buf.put_slice(&self.bytes.split_to(n));
        Poll::Ready(Ok(()))
    }
}

/// Returns all messages in `bytes`, and the error at the end, if any.
fn read_all(role: Role, bytes: &[u8], lengths: &[usize]) -> (Vec<Message>, Option<ReadError>) {
    let mut io = Pieces::new(bytes, lengths);
    let mut reader = Reader::new(role, LIMIT, BytesMut::new());
    let mut cx = Context::from_waker(Waker::noop());
    let mut messages = Vec::new();
    loop {
        match reader.poll_next(&mut io, &mut cx) {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(message))) => messages.push(message),
            Poll::Ready(Some(Err(error))) => {
                let after = reader.poll_next(&mut io, &mut cx);
                assert!(matches!(after, Poll::Ready(None)), "nothing after an error");
                return (messages, Some(error));
            }
            Poll::Ready(None) => {
                assert_eq!(reader.read(), bytes.len() as u64);
                return (messages, None);
            }
        }
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Returns the bytes that a writer at the other end would send.
fn written(role: Role, messages: &[Message]) -> Vec<u8> {
    let mut writer = Writer::new(other(role));
    for message in messages {
        writer.push(message.clone());
    }
    let mut bytes = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(writer.poll_flush(&mut bytes, &mut cx).is_ready());
    assert_eq!(writer.queued(), 0);
    bytes
}

/// Returns one frame, masked if a client sends it.
fn frame(role: Role, fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mask = (role == Role::Server).then_some([1, 2, 3, 4]);
    let len = payload.len();
    let header = Header {
        fin,
        opcode,
        mask,
        len,
    };
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(key, 0, &mut bytes[start..]);
    }
    bytes
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// Generates lengths around all thresholds.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..300_usize,
        2 => 2000..5000_usize,
        2 => 15_000..20_000_usize,
        1 => 60_000..70_000_usize,
        1 => 120_000..LIMIT,
    ]
}

fn data(length: impl Strategy<Value = usize>) -> impl Strategy<Value = Bytes> {
    (length, any::<u8>()).prop_map(|(len, byte)| {
        let bytes = (0..len).map(|n| (n as u8).wrapping_mul(31) ^ byte);
        Bytes::from_iter(bytes)
    })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => "[a-zé]{0,80}".prop_map(Message::text),
        3 => data(length()).prop_map(Message::Binary),
        1 => data(0..126_usize).prop_map(Message::Ping),
        1 => data(0..126_usize).prop_map(Message::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        role in role(),
        messages in proptest::collection::vec(message(), 0..12),
        lengths in proptest::collection::vec(1..100_000_usize, 1..5),
        small in proptest::collection::vec(1..40_usize, 0..2),
    ) {
        let bytes = written(role, &messages);
        let lengths = [lengths, small].concat();
        let (read, error) = read_all(role, &bytes, &lengths);
        prop_assert!(error.is_none(), "{error:?}");
        prop_assert!(read == messages);
    }

    #[test]
    fn a_message_in_fragments_is_the_same_as_one_in_one_piece(
        role in role(),
        len in length(),
        cuts in proptest::collection::vec(0..LIMIT, 0..4),
        lengths in proptest::collection::vec(1..100_000_usize, 1..5),
    ) {
        let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (len + 1)).collect();
        cuts.sort_unstable();
        let ends: Vec<usize> = cuts.iter().copied().chain([len]).collect();
        let mut bytes = Vec::new();
        let mut start = 0;
        for (n, end) in ends.iter().enumerate() {
            let opcode = if n == 0 { Opcode::Binary } else { Opcode::Continuation };
            bytes.extend(frame(role, n + 1 == ends.len(), opcode, &payload[start..*end]));
            // Control frames may come in between.
            bytes.extend(frame(role, true, Opcode::Ping, b"?"));
            start = *end;
        }
        let (read, error) = read_all(role, &bytes, &lengths);
        prop_assert!(error.is_none(), "{error:?}");
        let data: Vec<_> = read.into_iter().filter(|m| !matches!(m, Message::Ping(_))).collect();
        prop_assert!(data == [Message::Binary(payload.into())]);
    }

    #[test]
    fn whatever_comes_is_bounded_and_no_panic(
        role in role(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        lengths in proptest::collection::vec(1..50_usize, 1..5),
    ) {
        let (messages, _) = read_all(role, &bytes, &lengths);
        let held: usize = messages.iter().map(Message::len).sum();
        prop_assert!(held <= bytes.len());
    }
}

fn violation(role: Role, bytes: &[u8]) -> WebSocketError {
    match read_all(role, bytes, &[7]) {
        (_, Some(ReadError::Violation(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_in_the_wrong_order_are_an_error() {
    for role in [Role::Client, Role::Server] {
        let continuation = frame(role, true, Opcode::Continuation, b"a");
        assert_eq!(violation(role, &continuation), WebSocketError::Continuation);
        let begun = frame(role, false, Opcode::Text, b"a");
        let twice = [begun.clone(), begun].concat();
        assert_eq!(violation(role, &twice), WebSocketError::Interrupted);
    }
}

#[test]
fn a_text_must_be_utf8_also_across_fragments() {
    let role = Role::Server;
    let half = frame(role, true, Opcode::Text, &"é".as_bytes()[..1]);
    assert_eq!(violation(role, &half), WebSocketError::Utf8);
    let (first, second) = "é".as_bytes().split_at(1);
    let whole = [
        frame(role, false, Opcode::Text, first),
        frame(role, true, Opcode::Continuation, second),
    ];
    let (messages, error) = read_all(role, &whole.concat(), &[1]);
    assert_eq!(messages, [Message::text("é")]);
    assert!(error.is_none());
}

#[test]
fn a_close_frame_tells_why() {
    let role = Role::Client;
    let close = |payload: &[u8]| frame(role, true, Opcode::Close, payload);
    for (payload, wanted) in [
        (vec![], None),
        (vec![3, 0xe8], Some((CloseCode::NORMAL, String::new()))),
        (
            [&[3, 0xf0], "zu laut".as_bytes()].concat(),
            Some((CloseCode::POLICY_VIOLATION, "zu laut".to_owned())),
        ),
    ] {
        let (messages, _) = read_all(role, &close(&payload), &[3]);
        assert_eq!(messages, [Message::Close(wanted)]);
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
        let bytes = close(&code.to_be_bytes());
        assert_eq!(violation(role, &bytes), WebSocketError::CloseCode, "{code}");
    }
    assert_eq!(violation(role, &close(&[3])), WebSocketError::CloseCode);
    let reason = close(&[3, 0xe8, 0xff]);
    assert_eq!(violation(role, &reason), WebSocketError::Utf8);
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    for role in [Role::Client, Role::Server] {
        let payload = vec![7; LIMIT + 1];
        let whole = |len| frame(role, true, Opcode::Binary, &payload[..len]);
        let (messages, error) = read_all(role, &whole(LIMIT), &[50_000]);
        assert_eq!((messages.len(), error.is_none()), (1, true));
        let fragments = [
            frame(role, false, Opcode::Binary, &payload[..LIMIT]),
            frame(role, true, Opcode::Continuation, &payload[LIMIT..]),
        ];
        for bytes in [whole(LIMIT + 1), fragments.concat()] {
            let (messages, error) = read_all(role, &bytes, &[50_000]);
            assert_eq!(messages, []);
            match error {
                Some(ReadError::TooLong { len, max }) => assert_eq!((len, max), (LIMIT + 1, LIMIT)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// An announced length only takes effect when the bytes arrive.
#[test]
fn a_frame_that_is_announced_and_never_sent_takes_little_memory() {
    let role = Role::Client;
    let mut reader = Reader::new(role, 1 << 30, BytesMut::new());
    let header = Header {
        fin: true,
        opcode: Opcode::Binary,
        mask: None,
        len: 1 << 30,
    };
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let mut io = Pieces::new(&bytes, &[100]);
    let mut cx = Context::from_waker(Waker::noop());
    while reader.large.is_none() {
        let _ = reader.poll_next(&mut io, &mut cx);
    }
    let mut large = reader.large.take().expect("begun");
    assert!(large.payload.room().len() <= 2 * FIRST);
}

#[test]
fn a_reader_that_waits_holds_nothing() {
    let bytes = written(Role::Server, &[Message::text("a"), Message::text("b")]);
    let mut io = Pieces::new(&bytes, &[100]);
    let mut reader = Reader::new(Role::Server, LIMIT, BytesMut::new());
    let mut cx = Context::from_waker(Waker::noop());
    let mut messages = 0;
    while messages < 2 {
        messages += usize::from(reader.poll_next(&mut io, &mut cx).is_ready());
    }
    io.waits = false;
    assert!(reader.poll_next(&mut io, &mut cx).is_pending());
    assert_eq!(reader.pending.capacity(), 0);
}

#[test]
fn what_is_cut_off_is_an_error_and_what_ends_between_messages_is_not() {
    let bytes = written(Role::Server, &[Message::Binary(vec![7; 50_000].into())]);
    for end in 1..bytes.len() {
        if end % 997 != 0 && end > 20 {
            continue;
        }
        let (messages, error) = read_all(Role::Server, &bytes[..end], &[10_000]);
        assert_eq!(messages, []);
        assert!(matches!(error, Some(ReadError::Io(_))), "{end}: {error:?}");
    }
    assert!(read_all(Role::Server, &bytes, &[10_000]).1.is_none());
}

#[tokio::test]
async fn a_ping_is_answered_and_a_close_echoed() {
    let (ours, mut theirs) = tokio::io::duplex(100_000);
    let mut ws = WebSocket::new(ours, Role::Server, LIMIT, BytesMut::new());
    let role = Role::Server;
    for payload in [b"1", b"2"] {
        let ping = frame(role, true, Opcode::Ping, payload);
        theirs.write_all(&ping).await.expect("open");
        assert!(matches!(ws.next().await, Some(Ok(Message::Ping(_)))));
    }
    let close = frame(role, true, Opcode::Close, &[0x0f, 0xa1, b'x']);
    theirs.write_all(&close).await.expect("open");
    assert!(matches!(ws.next().await, Some(Ok(Message::Close(Some(_))))));
    assert!(ws.next().await.is_none());
    std::future::poll_fn(|cx| ws.poll_flush(cx))
        .await
        .expect("open");
    ws.close(CloseCode::NORMAL, "not said").await.expect("open");
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).await.expect("open");
    // One pong answers both pings.
    assert_eq!(sent, b"\x8a\x012\x88\x02\x0f\xa1");
}
