use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::FutureExt as _;
use proptest::prelude::*;
use proxy_header::{ProxiedAddress, Tlv};
use tokio::io::ReadBuf;

use super::*;

/// A stream that returns its bytes in pieces of at most `piece` bytes, and then ends.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.piece.min(buf.remaining()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(len);
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Reads the header of a connection. Returns the result and the bytes that are left.
fn read_in(piece: usize, bytes: &[u8]) -> (Result<Source, HeaderError>, &[u8]) {
    let mut stream = Pieces { bytes, piece };
    let read = read(&mut stream).now_or_never();
    (read.expect("it never has to wait"), stream.bytes)
}

fn client(ip: &str) -> Source {
    Source::Client(ip.parse().expect("an address"))
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).expect("short");
    let start = [BINARY, &[0x20 | command, family], &len.to_be_bytes()].concat();
    [&start, rest].concat()
}

/// 192.0.2.1 to 198.51.100.1.
const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0xc8, 0x22, 1, 0xbb];

#[track_caller]
fn is_read_as(header: &[u8], expected: Source) {
    let shown = header.escape_ascii();
    let behind = b"\r\n\x16\x03PROXY";
    let bytes = [header, behind].concat();
    for piece in [1, 2, 3, 7, 1000] {
        let (read, rest) = read_in(piece, &bytes);
        assert_eq!(read.ok(), Some(expected), "{shown} in pieces of {piece}");
        assert_eq!(rest, behind, "{shown} in pieces of {piece}");
    }
}

#[track_caller]
fn refusal(header: &[u8]) -> String {
    let refusals = [1, 2, 1000].map(|piece| {
        let (read, _) = read_in(piece, header);
        read.expect_err("it is no header").to_string()
    });
    let [one, rest @ ..] = refusals;
    assert_eq!(
        rest,
        [one.clone(), one.clone()],
        "{}",
        header.escape_ascii()
    );
    one
}

#[test]
fn a_line_of_version_1_names_the_client() {
    for (line, expected) in [
        ("TCP4 192.0.2.1 198.51.100.1 51234 443", client("192.0.2.1")),
        ("TCP4 0.0.0.0 0.0.0.0 0 0", client("0.0.0.0")),
        (
            "TCP6 2001:db8::1 2001:db8::2 1 65535",
            client("2001:db8::1"),
        ),
        ("TCP6 ::ffff:192.0.2.1 ::1 1 2", client("192.0.2.1")),
        ("UNKNOWN", Source::Proxy),
        (
            "UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            Source::Proxy,
        ),
        ("UNKNOWN whatever it says", Source::Proxy),
    ] {
        is_read_as(format!("PROXY {line}\r\n").as_bytes(), expected);
    }
}

#[test]
fn a_header_of_version_2_names_the_client() {
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 31], &[1, 0, 0]].concat();
    let v6 = &v6[..36];
    let tlvs = [V4, &[0x02, 0, 4], b"star", &[0xe0, 0, 0]].concat();
    for (header, expected) in [
        (binary(1, 0x11, V4), client("192.0.2.1")),
        (binary(1, 0x12, V4), client("192.0.2.1")),
        (binary(1, 0x21, v6), client("2001:db8::")),
        // The bytes after the addresses are ignored, whether they are well formed or not.
        (binary(1, 0x11, &tlvs), client("192.0.2.1")),
        (
            binary(1, 0x11, &[V4, &[0xff; 508]].concat()),
            client("192.0.2.1"),
        ),
        (binary(1, 0x31, &[b'/'; 216]), Source::Proxy),
        (binary(1, 0x00, &[]), Source::Proxy),
        (binary(1, 0x00, V4), Source::Proxy),
        // The proxy's own connections, whatever else the headers say.
        (binary(0, 0x00, &[]), Source::Proxy),
        (binary(0, 0x11, V4), Source::Proxy),
        (binary(0, 0x21, v6), Source::Proxy),
        (binary(0, 0x11, &[]), Source::Proxy),
        (binary(0, 0x41, b"?"), Source::Proxy),
    ] {
        is_read_as(&header, expected);
    }
}

#[test]
fn what_begins_otherwise_is_refused_at_its_first_byte() {
    for start in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01",
        b"G",
        b"proxy TCP4",
        b"PROXY\tTCP4",
        b"PROXYTCP4",
        b"\r\n\r\n\0\r\nquit\n",
        b"\n",
    ] {
        let missing = HeaderError::Missing.to_string();
        assert_eq!(refusal(start), missing, "{}", start.escape_ascii());
    }
}

#[test]
fn a_header_that_says_nothing_good_is_refused() {
    let unknown = [
        binary(1, 0x41, V4),
        binary(1, 0x10, V4),
        binary(2, 0x11, V4),
    ];
    let short = [
        binary(1, 0x11, &V4[..11]),
        binary(1, 0x21, V4),
        binary(1, 0x31, &[0; 215]),
    ];
    let mut older = binary(1, 0x11, V4);
    older[12] = 0x11;
    let lines = [
        "",
        "TCP4",
        "TCP5 192.0.2.1 192.0.2.2 1 2",
        "TCP4 192.0.2.1 192.0.2.2 1",
        "TCP4 192.0.2.1 192.0.2.2 1 65536",
        "TCP4 192.0.2.1 192.0.2.2 -1 2",
        "TCP4 192.0.2.1 192.0.2.2 1 2 3",
        "TCP4 192.0.2 192.0.2.2 1 2",
        "TCP4 star.example 192.0.2.2 1 2",
        "TCP4  192.0.2.1 192.0.2.2 1 2",
        "TCP4 2001:db8::1 2001:db8::2 1 2",
        "TCP6 192.0.2.1 192.0.2.2 1 2",
        "TCP6 [2001:db8::1] 2001:db8::2 1 2",
        "TCP6 fe80::1%eth0 fe80::2 1 2",
        "TCP4 \u{661}92.0.2.1 192.0.2.2 1 2",
        "unknown",
    ];
    let lines = lines.map(|line| format!("PROXY {line}\r\n").into_bytes());
    for header in unknown.into_iter().chain(short).chain([older]).chain(lines) {
        let malformed = HeaderError::Malformed.to_string();
        assert_eq!(refusal(&header), malformed, "{}", header.escape_ascii());
    }
}

#[test]
fn a_header_that_is_too_long_is_not_read_to_its_end() {
    let line = format!("PROXY UNKNOWN {}", "x".repeat(10_000));
    let (read, rest) = read_in(1000, line.as_bytes());
    assert!(matches!(read, Err(HeaderError::TooLong(LONGEST_TEXT))));
    assert!(line.len() - rest.len() <= LONGEST_TEXT);
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_TEXT - 16));
    is_read_as(longest.as_bytes(), Source::Proxy);

    for rest in [LONGEST_REST + 1, usize::from(u16::MAX)] {
        let header = binary(1, 0x11, &vec![7; rest]);
        let (read, rest) = read_in(1000, &header);
        assert!(matches!(read, Err(HeaderError::TooLong(_))));
        assert_eq!(header.len() - rest.len(), BINARY_START);
    }
    is_read_as(&binary(0, 0, &[7; LONGEST_REST]), Source::Proxy);
}

#[test]
fn a_connection_that_ends_too_early_has_failed() {
    let whole = [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..],
        &binary(1, 0x11, V4),
    ];
    for header in whole {
        for len in 0..header.len() {
            let (read, _) = read_in(1000, &header[..len]);
            assert!(matches!(read, Err(HeaderError::Ended(_))), "{len}");
        }
    }
}

fn address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(|(from, port, to, other)| ((from, port).into(), (to, other).into()));
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>()
        .prop_map(|(from, port, to, other)| ((from, port).into(), (to, other).into()));
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn what_a_proxy_writes_is_read_back_and_no_byte_more(
        (from, to) in address(),
        is_binary: bool,
        name in "[a-z.]{0,200}",
        piece in 1_usize..200,
        behind in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut header = ProxyHeader::with_address(ProxiedAddress::stream(from, to));
        let mut bytes = Vec::new();
        if is_binary {
            header.append_tlv(Tlv::Authority(name.into()));
            header.encode_v2(&mut bytes).expect("a header");
        } else {
            header.encode_v1(&mut bytes).expect("a header");
        }
        bytes.extend(&behind);
        let (read, rest) = read_in(piece, &bytes);
        prop_assert_eq!(read.ok(), Some(Source::Client(from.ip().to_canonical())));
        prop_assert_eq!(rest, &behind[..]);
    }

    #[test]
    fn any_bytes_are_read_or_refused_within_bounds(
        start in prop_oneof![Just(TEXT), Just(BINARY), Just(&b"PROXY TCP4 "[..]), Just(&b""[..])],
        bytes in proptest::collection::vec(any::<u8>(), 0..700),
        piece in 1_usize..700,
    ) {
        let bytes = [start, &bytes].concat();
        let (_, rest) = read_in(piece, &bytes);
        prop_assert!(bytes.len() - rest.len() <= BINARY_START + LONGEST_REST);
    }

    #[test]
    fn a_spoilt_header_is_read_or_refused(at in 0_usize..28, byte: u8, piece in 1_usize..30) {
        let mut header = binary(1, 0x11, V4);
        header[at] = byte;
        let (_, rest) = read_in(piece, &header);
        prop_assert!(rest.len() <= header.len());
    }
}
