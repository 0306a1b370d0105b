//! Tests of whole connections, over wires that split and delay data, and with misbehaving peers and attackers on the
//! path.

mod middle;
mod rogue;

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
    keys::Keys,
    seal::{Opener, Sealer},
    suite::Suite,
    *,
};

/// One end of a wire in memory. It transfers at most the next of `steps` bytes at a time.
struct Wire {
    io: DuplexStream,
    steps: Arc<[usize]>,
    step: usize,
}

/// Creates a wire that buffers `capacity` bytes and splits its data by `steps`, in a cycle.
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
    let (dialer, listener) = (key(), key());
    let both = try_join(
        dial(a, Config::new(&dialer)),
        listen(b, Config::new(&listener)),
    );
    let ((found_listener, a), (found_dialer, b)) = both.await.expect("a handshake");
    assert_eq!(found_listener, listener.public().to_peer_id());
    assert_eq!(found_dialer, dialer.public().to_peer_id());
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

/// Returns the RSA key that the JavaScript peers of the tests use.
pub(super) fn rsa_2048() -> Keypair {
    let mut der = include_bytes!("../../tests/support/rsa-2048.pk8").to_vec();
    Keypair::rsa_from_pkcs8(&mut der).expect("a PKCS#8 RSA key")
}

#[test]
fn every_kind_of_key_is_proved() {
    for key in [rsa_2048(), Keypair::generate_secp256k1(), key()] {
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
    let (dialer, listener) = block_on(join(dial(a, config), listen(b, Config::new(&found))));
    let Err(Error::UnexpectedPeer {
        expected: e,
        found: f,
    }) = dialer
    else {
        panic!("{dialer:?}")
    };
    assert_eq!((*e, *f), (expected, found.public().to_peer_id()));
    assert!(listener.is_err());
}

#[test]
fn a_peer_with_our_own_key_is_refused() {
    let (a, b) = long_wire();
    let config = Config::new(&key());
    let (dialer, listener) = block_on(join(dial(a, config.clone()), listen(b, config)));
    assert!(matches!(dialer, Err(Error::SelfDial)));
    assert!(matches!(listener, Err(Error::SelfDial)));
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
