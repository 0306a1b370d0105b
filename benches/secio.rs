//! secio compared with noise: 16 MiB through memory, in writes of 8 KiB and of 64 KiB, with both ends on one thread.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, executor::block_on, future::join,
    future::try_join,
};
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity::Keypair,
    noise,
};
use libp2p_websocket_star::secio;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

const BYTES: usize = 16 << 20;

type Wire = Compat<tokio::io::DuplexStream>;

fn connect<U, O, E>(config: impl Fn(&Keypair) -> U) -> (O, O)
where
    U: UpgradeInfo<Info = &'static str>,
    U: InboundConnectionUpgrade<Wire, Output = (PeerId, O), Error = E>,
    U: OutboundConnectionUpgrade<Wire, Output = (PeerId, O), Error = E>,
    E: std::fmt::Debug,
{
    let (a, b) = tokio::io::duplex(256 * 1024);
    let dialer = config(&Keypair::generate_ed25519()).upgrade_outbound(a.compat(), "");
    let listener = config(&Keypair::generate_ed25519()).upgrade_inbound(b.compat(), "");
    let ((_, a), (_, b)) = block_on(try_join(dialer, listener)).expect("a handshake");
    (a, b)
}

fn transfer<S: AsyncRead + AsyncWrite + Unpin>(a: &mut S, b: &mut S, data: &[u8]) {
    let send = async {
        for _ in 0..BYTES / data.len() {
            a.write_all(data).await.expect("written");
            a.flush().await.expect("flushed");
        }
    };
    let receive = async {
        let (mut left, mut buffer) = (BYTES, vec![0; 64 * 1024]);
        while left > 0 {
            left -= b.read(&mut buffer).await.expect("read");
        }
    };
    block_on(join(send, receive));
}

fn throughput(c: &mut Criterion) {
    let mut group = c.benchmark_group("throughput");
    group.throughput(Throughput::Bytes(BYTES as u64));
    group.sample_size(10);
    for len in [8 * 1024, 64 * 1024] {
        let data = vec![7; len];
        let (mut a, mut b) = connect(secio::Config::new);
        group.bench_function(BenchmarkId::new("secio", len), |bencher| {
            bencher.iter(|| transfer(&mut a, &mut b, &data));
        });
        let (mut a, mut b) = connect(|key| noise::Config::new(key).expect("the key signs"));
        group.bench_function(BenchmarkId::new("noise", len), |bencher| {
            bencher.iter(|| transfer(&mut a, &mut b, &data));
        });
    }
    group.finish();
}

fn handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    group.bench_function("secio", |bencher| {
        bencher.iter(|| connect(secio::Config::new))
    });
    group.bench_function("noise", |bencher| {
        bencher.iter(|| connect(|key| noise::Config::new(key).expect("the key signs")));
    });
    group.finish();
}

criterion_group!(benches, throughput, handshake);
criterion_main!(benches);
