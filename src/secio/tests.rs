//! Whole connections, over wires that split and delay, and with peers and people in the middle that
//! do not behave.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    executor::block_on,
    future::{join, try_join},
};
use libp2p_core::upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _};
use libp2p_identity::Keypair;
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use super::{
    frame::HEADER,
    keys::{Ephemeral, Keys},
    message::{Exchange, Propose},
    seal::{Opener, Sealer},
    suite::{CIPHERS, EXCHANGES, HASHES, Suite},
    *,
};

/// One end of a wire in memory. It carries at most so many bytes at a time.
struct Wire {
    io: DuplexStream,
    steps: Arc<[usize]>,
    step: usize,
}

/// A wire that holds `capacity` bytes and splits what it carries by `steps`, again and again.
fn wire(capacity: usize, steps: &[usize]) -> (Wire, Wire) {
    let (a, b) = tokio::io::duplex(capacity);
    let end = |io| Wire {
        io,
        steps: steps.into(),
        step: 0,
    };
    (end(a), end(b))
}

fn long_wire() -> (Wire, Wire) {
    wire(1 << 20, &[usize::MAX])
}

impl Wire {
    fn next(&mut self) -> usize {
        self.step += 1;
        self.steps[self.step % self.steps.len()]
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let len = self.next().min(buf.len());
        let mut buf = ReadBuf::new(&mut buf[..len]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = self.next().min(buf.len());
        Pin::new(&mut self.io).poll_write(cx, &buf[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn key() -> Keypair {
    Keypair::generate_ed25519()
}

fn dial(io: Wire, config: Config) -> Upgrade<Wire> {
    config.upgrade_outbound(io, "/secio/1.0.0")
}

fn listen(io: Wire, config: Config) -> Upgrade<Wire> {
    config.upgrade_inbound(io, "/secio/1.0.0")
}

async fn secured((a, b): (Wire, Wire)) -> (Output<Wire>, Output<Wire>) {
    let (dialler, listener) = (key(), key());
    let both = try_join(
        dial(a, Config::new(&dialler)),
        listen(b, Config::new(&listener)),
    );
    let ((found_listener, a), (found_dialler, b)) = both.await.expect("a handshake");
    assert_eq!(found_listener, listener.public().to_peer_id());
    assert_eq!(found_dialler, dialler.public().to_peer_id());
    (a, b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn what_is_written_is_read_whatever_its_lengths_and_splits(
        writes in vec((vec(any::<u8>(), 0..3000), any::<bool>()), 0..30),
        long in 0..200_000_usize,
        capacity in 1..5000_usize,
        steps in vec(1..3000_usize, 1..8),
        reads in 1..3000_usize,
    ) {
        let long = vec![7; long];
        let sent: Vec<u8> = writes.iter().flat_map(|(data, _)| data).chain(&long).copied().collect();
        let received = block_on(async {
            let (mut a, mut b) = secured(wire(capacity, &steps)).await;
            let send = async {
                for (data, flush) in &writes {
                    a.write_all(data).await.expect("written");
                    if *flush {
                        a.flush().await.expect("flushed");
                    }
                }
                a.write_all(&long).await.expect("written");
                a.close().await.expect("closed");
            };
            let receive = async {
                let (mut received, mut buffer) = (Vec::new(), vec![0; reads]);
                loop {
                    match b.read(&mut buffer).await.expect("read") {
                        0 => break received,
                        len => received.extend_from_slice(&buffer[..len]),
                    }
                }
            };
            join(send, receive).await.1
        });
        prop_assert!(received == sent);
    }
}

#[test]
fn both_directions_work_at_once_and_one_may_close_first() {
    block_on(async {
        let (mut a, mut b) = secured(wire(100, &[13, 7])).await;
        let data: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let side = |io: Output<Wire>| async {
            let (mut reader, mut writer) = io.split();
            let mut received = vec![0; data.len()];
            let send = async {
                writer.write_all(&data).await?;
                writer.flush().await
            };
            try_join(send, reader.read_exact(&mut received))
                .await
                .expect("both ways");
            assert!(received == data);
            reader.reunite(writer).expect("the same")
        };
        (a, b) = join(side(a), side(b)).await;
        a.close().await.expect("closed");
        assert_eq!(b.read(&mut [0]).await.expect("an end"), 0);
        b.write_all(b"late")
            .await
            .expect("the other direction is open");
        b.close().await.expect("closed");
        let mut late = Vec::new();
        a.read_to_end(&mut late).await.expect("read");
        assert_eq!(late, b"late");
    });
}

#[test]
fn every_kind_of_key_is_proved() {
    let mut rsa = include_bytes!("../../tests/it/support/rsa-2048.pk8").to_vec();
    let rsa = Keypair::rsa_from_pkcs8(&mut rsa).expect("a key");
    for key in [rsa, Keypair::generate_secp256k1(), key()] {
        let (a, b) = long_wire();
        let other = Config::new(&Keypair::generate_ed25519());
        let both = block_on(try_join(dial(a, Config::new(&key)), listen(b, other)));
        let (_, (peer, _)) = both.expect("a handshake");
        assert_eq!(peer, key.public().to_peer_id());
    }
}

#[test]
fn a_peer_other_than_the_expected_one_is_refused() {
    let (a, b) = long_wire();
    let (expected, found) = (key().public().to_peer_id(), key());
    let config = Config::new(&key()).with_expected_peer(expected);
    let (dialler, listener) = block_on(join(dial(a, config), listen(b, Config::new(&found))));
    let Err(Error::UnexpectedPeer {
        expected: e,
        found: f,
    }) = dialler
    else {
        panic!("{dialler:?}")
    };
    assert_eq!((*e, *f), (expected, found.public().to_peer_id()));
    assert!(listener.is_err());
}

#[test]
fn a_peer_with_our_own_key_is_refused() {
    let (a, b) = long_wire();
    let config = Config::new(&key());
    let (dialler, listener) = block_on(join(dial(a, config.clone()), listen(b, config)));
    assert!(matches!(dialler, Err(Error::SelfDial)));
    assert!(matches!(listener, Err(Error::SelfDial)));
}

/// A peer that knows the protocol, and keeps to it as far as it is told.
struct Rogue {
    key: Keypair,
    signer: Keypair,
    rand: Vec<u8>,
    lists: [&'static str; 3],
    epubkey: Option<Vec<u8>>,
    echo: Option<Vec<u8>>,
}

impl Rogue {
    fn new() -> Self {
        let key = key();
        Self {
            signer: key.clone(),
            key,
            rand: vec![9; NONCE_LEN],
            lists: [EXCHANGES, CIPHERS, HASHES],
            epubkey: None,
            echo: None,
        }
    }

    /// What an honest peer thinks of it.
    fn meet(self) -> Error {
        let (a, b) = long_wire();
        let honest = dial(a, Config::new(&key()));
        let (honest, _) = block_on(join(honest, self.run(b)));
        honest.expect_err("it is rogue")
    }

    async fn run(self, mut io: Wire) -> io::Result<()> {
        let key = self.key.public().encode_protobuf();
        let local = Propose {
            rand: &self.rand,
            pubkey: &key,
            exchanges: self.lists[0],
            ciphers: self.lists[1],
            hashes: self.lists[2],
        };
        let ours = local.encode();
        send(&mut io, &ours).await?;
        let theirs = receive(&mut io).await?;
        let remote = Propose::decode(&theirs).expect("honest");
        let Ok(suite) = Suite::agree(&local, &remote) else {
            return Ok(());
        };
        let ephemeral = Ephemeral::generate(suite.curve);
        let epubkey = self.epubkey.unwrap_or_else(|| ephemeral.public());
        let signed = [&ours, &theirs, &epubkey[..]].concat();
        let signature = self.signer.sign(&signed).expect("signed");
        let exchange = Exchange {
            epubkey: &epubkey,
            signature: &signature,
        };
        send(&mut io, &exchange.encode()).await?;
        let answer = receive(&mut io).await?;
        let answer = Exchange::decode(&answer).expect("honest");
        let secret = ephemeral.agree(answer.epubkey).expect("honest");
        let (own, their) = Keys::stretch(&suite, &secret);
        let opener = Opener::new(&suite, &their);
        let mut output = Output::new(io, FrameDecoder::new(0), opener, Sealer::new(&suite, &own));
        let echo = self.echo.unwrap_or_else(|| remote.rand.to_vec());
        output.write_all(&echo).await?;
        output.close().await
    }
}

async fn send<S: AsyncWrite + Unpin>(io: &mut S, frame: &[u8]) -> io::Result<()> {
    let len = u32::try_from(frame.len()).expect("short").to_be_bytes();
    io.write_all(&[&len, frame].concat()).await
}

async fn receive<S: AsyncRead + Unpin>(io: &mut S) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    io.read_exact(&mut len).await?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    io.read_exact(&mut frame).await?;
    Ok(frame)
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let rogue = Rogue {
        signer: key(),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::BadSignature));
}

#[test]
fn a_wrong_nonce_is_refused() {
    let rogue = Rogue {
        echo: Some(vec![0; NONCE_LEN]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::WrongNonce));
}

#[test]
fn half_a_nonce_and_then_the_end_is_refused() {
    let rogue = Rogue {
        echo: Some(vec![0; NONCE_LEN / 2]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::Frame(FrameError::Truncated)));
}

#[test]
fn a_nonce_of_another_length_is_refused() {
    let rogue = Rogue {
        rand: vec![1; 15],
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::NonceLength(15)));
}

#[test]
fn unknown_algorithms_are_refused() {
    for (at, name, unknown) in [
        (0, "exchange", "P-521"),
        (1, "cipher", "Blowfish"),
        (2, "hash", "MD5"),
    ] {
        let mut rogue = Rogue::new();
        rogue.lists[at] = unknown;
        let error = rogue.meet();
        let Error::NothingInCommon { kind, theirs } = &error else {
            panic!("{error}")
        };
        assert_eq!((*kind, theirs.as_str()), (name, unknown));
    }
}

#[test]
fn each_algorithm_works_if_it_is_the_only_one() {
    for lists in [
        ["P-256", "AES-128", "SHA256"],
        ["P-384", "AES-256", "SHA512"],
        ["P-384", "AES-128", "SHA512"],
    ] {
        let rogue = Rogue {
            lists,
            ..Rogue::new()
        };
        let (a, b) = long_wire();
        let (honest, rogue) = block_on(join(dial(a, Config::new(&key())), rogue.run(b)));
        assert!(honest.is_ok() && rogue.is_ok(), "{lists:?}: {honest:?}");
    }
}

#[test]
fn an_ephemeral_key_that_is_no_point_is_refused() {
    let rogue = Rogue {
        epubkey: Some(vec![4; 65]),
        ..Rogue::new()
    };
    assert!(matches!(rogue.meet(), Error::EphemeralKey(_)));
}

/// What an honest peer makes of these bytes, and of the end after them.
fn meets(bytes: &[u8]) -> Error {
    block_on(async {
        let (a, mut b) = long_wire();
        b.write_all(bytes).await.expect("room");
        b.close().await.expect("closed");
        let result = dial(a, Config::new(&key())).await;
        result.expect_err("this is no handshake")
    })
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let garbage = |data: &[u8]| [&(data.len() as u32).to_be_bytes(), data].concat();
    let no_key = Propose {
        rand: &[0; 16],
        pubkey: b"none",
        exchanges: "",
        ciphers: "",
        hashes: "",
    };
    assert!(matches!(meets(&[]), Error::Frame(FrameError::Truncated)));
    assert!(matches!(
        meets(&[0, 0, 0, 9, 1]),
        Error::Frame(FrameError::Truncated)
    ));
    assert!(matches!(
        meets(b"GET / HTTP/1.1"),
        Error::Frame(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        meets(&garbage(&[0xff; 40])),
        Error::Message {
            message: "Propose",
            ..
        }
    ));
    assert!(matches!(
        meets(&garbage(&no_key.encode())),
        Error::IdentityKey(_)
    ));
}

/// The frames of the handshake of one side: proposal, exchange, nonce.
const HANDSHAKE: usize = 3;
const FIRST: &[u8] = b"the first message";
const SECOND: &[u8] = b"the other message";

/// What the listener reads, and how it ends, if everything from the dialler passes through `middle`,
/// which is called with the number of a frame and the frame, header and all; one that it cuts short is
/// the last. The dialler writes two frames, and closes.
fn through(mut middle: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> (Vec<u8>, Result<(), Error>) {
    let (mut a, near) = long_wire();
    let (mut far, b) = long_wire();
    let dialler = async {
        let (_, mut output) = dial(near, Config::new(&key())).await?;
        for message in [FIRST, SECOND] {
            output.write_all(message).await?;
            output.flush().await?;
        }
        output.close().await.map_err(Error::from)
    };
    let (mut heard, mut read) = (Vec::new(), Ok(()));
    let listener = async {
        let (_, mut output) = listen(b, Config::new(&key())).await?;
        read = output.read_to_end(&mut heard).await.map(drop);
        if let Err(error) = &read {
            let again = output.read(&mut [0]).await.expect_err("it stays broken");
            assert_eq!(again.kind(), error.kind());
        }
        Ok(())
    };
    let relay = async {
        let (mut from_near, mut to_near) = (&mut a).split();
        let (mut from_far, mut to_far) = (&mut far).split();
        let there = async {
            for number in 0.. {
                let Ok(frame) = receive(&mut from_near).await else {
                    break;
                };
                let len = u32::try_from(frame.len()).expect("short").to_be_bytes();
                let whole = HEADER + frame.len();
                let frame = middle(number, [&len[..], &frame].concat());
                if to_far.write_all(&frame).await.is_err() || frame.len() < whole {
                    break;
                }
            }
            let _ = to_far.close().await;
        };
        let back = async {
            while let Ok(frame) = receive(&mut from_far).await {
                if send(&mut to_near, &frame).await.is_err() {
                    break;
                }
            }
            let _ = to_near.close().await;
        };
        join(there, back).await;
    };
    let (_, listened, ()) = block_on(async { futures::join!(dialler, listener, relay) });
    let result = listened.and(read.map_err(Error::from));
    (heard, result)
}

fn frame_error(result: Result<(), Error>) -> FrameError {
    match result {
        Err(Error::Frame(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn untouched_frames_arrive() {
    let (heard, result) = through(|_, frame| frame);
    result.expect("nobody did anything");
    assert_eq!(heard, [FIRST, SECOND].concat());
}

#[test]
fn a_changed_bit_anywhere_in_a_frame_is_noticed() {
    for at in [4, 10, 20, 21, 40] {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame[at] ^= 1;
            }
            frame
        });
        assert_eq!(frame_error(result), FrameError::BadMac);
        assert_eq!(heard, FIRST);
    }
}

#[test]
fn a_changed_bit_anywhere_in_the_handshake_is_noticed() {
    for number in 0..HANDSHAKE {
        for at in [0, 3, 4, 6, 9, 20, 23, 30, 51] {
            let (heard, result) = through(|this, mut frame| {
                if this == number {
                    frame[at] ^= 1;
                }
                frame
            });
            assert!(result.is_err(), "byte {at} of frame {number}");
            assert!(heard.is_empty());
        }
    }
}

#[test]
fn a_frame_that_comes_twice_is_noticed() {
    let mut first = Vec::new();
    let (heard, result) = through(|number, frame| {
        if number == HANDSHAKE {
            first = frame.clone();
        }
        if number == HANDSHAKE + 1 {
            first.clone()
        } else {
            frame
        }
    });
    assert_eq!(frame_error(result), FrameError::Replayed);
    assert_eq!(heard, FIRST);
}

#[test]
fn an_end_inside_of_a_frame_is_noticed() {
    for len in [1, 4, 5, 40] {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame.truncate(len);
            }
            frame
        });
        assert_eq!(frame_error(result), FrameError::Truncated);
        assert_eq!(heard, FIRST);
    }
    assert_eq!(
        io::Error::from(FrameError::Truncated).kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn an_end_inside_of_the_handshake_is_noticed() {
    for cut in 0..HANDSHAKE {
        for len in [0, 2, 4, 9] {
            let (_, result) = through(|number, mut frame| {
                if number == cut {
                    frame.truncate(len);
                }
                frame
            });
            assert_eq!(frame_error(result), FrameError::Truncated);
        }
    }
}

#[test]
fn a_frame_over_the_bound_or_without_room_for_a_mac_is_refused() {
    let replaced = |header: usize| {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame[..4].copy_from_slice(&(header as u32).to_be_bytes());
            }
            frame
        });
        assert_eq!(heard, FIRST);
        frame_error(result)
    };
    assert_eq!(replaced(0), FrameError::TooShort(0));
    assert_eq!(replaced(31), FrameError::TooShort(31));
    assert_eq!(
        replaced(MAX_FRAME + 1),
        FrameError::TooLong {
            len: MAX_FRAME + 1,
            max: MAX_FRAME
        }
    );
    assert_eq!(
        replaced(u32::MAX as usize),
        FrameError::TooLong {
            len: u32::MAX as usize,
            max: MAX_FRAME
        }
    );
    assert_eq!(replaced(MAX_FRAME), FrameError::Truncated);
}

#[test]
fn a_frame_of_another_connection_is_noticed() {
    let mut other = Vec::new();
    let _ = through(|_, frame| {
        other = frame.clone();
        frame
    });
    let (heard, result) = through(|number, frame| {
        if number == HANDSHAKE + 1 {
            other.clone()
        } else {
            frame
        }
    });
    assert_eq!(frame_error(result), FrameError::BadMac);
    assert_eq!(heard, FIRST);
}

#[test]
fn empty_frames_are_passed_over() {
    let suite = Suite {
        curve: suite::Curve::P256,
        cipher: suite::Cipher::Aes128,
        hash: suite::Hash::Sha256,
        first: true,
    };
    let (own, their) = Keys::stretch(&suite, &[5; 32]);
    let (a, mut b) = long_wire();
    let opener = Opener::new(&suite, &own);
    let decoder = FrameDecoder::new(0);
    let mut output = Output::new(a, decoder, opener, Sealer::new(&suite, &their));
    let mut sealer = Sealer::new(&suite, &own);
    block_on(async {
        for data in ["", "one", "", "", "two", ""] {
            let mut frame = [&[0; 4], data.as_bytes()].concat();
            sealer.seal(&mut frame);
            b.write_all(&frame).await.expect("room");
        }
        b.close().await.expect("closed");
        let mut text = String::new();
        output.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "onetwo");
    });
}
