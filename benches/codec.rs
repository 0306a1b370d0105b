//! The codec alone, without sockets: the cost of encoding and decoding an item, a join and a dial.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libp2p_websocket_star::protocol::{
    engine_io,
    event::{DialId, Event, JoinAnswer, Side, StreamName},
    socket_io,
    stream::{Budgets, Pair, Read, Transmit},
};

const DIAL_ID: &str = "6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star/ipfs/\
    12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
/// The data sizes of an item in bytes: a flushed ping, a flushed kibibyte, a write of a swarm, a full item.
const ITEMS: [usize; 4] = [64, 1024, 65_536, 131_072];

fn stream() -> StreamName<'static> {
    StreamName {
        dial_id: DIAL_ID,
        sender: Side::Dialer,
    }
}

/// Decodes the event of a text frame, in the same steps as the client and the server.
fn decode(text: &str) -> Option<(Event<'_>, Option<u64>)> {
    let engine_io::Packet::Message(data) = engine_io::Packet::decode(text).ok()? else {
        return None;
    };
    match socket_io::Packet::decode(data).ok()? {
        socket_io::Packet::Event { ack, json } => Some((Event::decode(json, false).ok()?, ack)),
        socket_io::Packet::BinaryEvent { ack, json } => {
            Some((Event::decode(json, true).ok()?, ack))
        }
        _ => None,
    }
}

/// Measures the text frame that precedes each item. MiB/s are of the header itself.
fn header(criterion: &mut Criterion) {
    let text = stream().queue_header();
    let mut group = criterion.benchmark_group("queue header");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(stream()).queue_header());
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| StreamName::of_queue_header(black_box(&text)));
    });
    group.bench_function("decode as JSON", |bencher| {
        bencher.iter(|| decode(black_box(&text)));
    });
    group.finish();
}

fn budgets() -> Budgets {
    Budgets {
        receive: 1024 * 1024,
        send: 512 * 1024,
        item: 128 * 1024,
    }
}

/// Measures one item from a `write` to the frame, and from the frame to a `read`, including the copies.
fn item(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("item");
    for len in ITEMS {
        group.throughput(Throughput::Bytes(len as u64));
        let data = vec![0x5a; len];
        group.bench_with_input(BenchmarkId::new("encode", len), &data, |bencher, data| {
            let mut pair = Pair::new(budgets());
            pair.accepted();
            bencher.iter(|| {
                let written = pair.sink.write(black_box(data));
                pair.sink.flush();
                let frame = pair.poll_transmit();
                assert!(written == Ok(len) && matches!(frame, Some(Transmit::Item(_))));
                frame
            });
        });
        let frame: Bytes = [vec![engine_io::BINARY_MESSAGE], data].concat().into();
        group.bench_with_input(BenchmarkId::new("decode", len), &frame, |bencher, frame| {
            let mut pair = Pair::new(budgets());
            let mut buffer = vec![0; len];
            bencher.iter(|| {
                let item = engine_io::decode_binary(black_box(frame.clone()));
                let taken = item.map(|item| pair.source.push(item));
                assert!(taken == Ok(Ok(())));
                assert!(pair.source.read(&mut buffer) == Read::Data(len));
            });
        });
    }
    group.finish();
}

fn event(criterion: &mut Criterion, name: &str, event: &Event<'_>, ack: u64) {
    let text = event.encode(Some(ack));
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(event).encode(Some(ack)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode(black_box(&text)));
    });
    group.finish();
}

fn join(criterion: &mut Criterion) {
    let join = Event::Join {
        address: ADDRESS.to_owned(),
        data: "08011220".to_owned() + &"ab".repeat(32),
    };
    event(criterion, "join", &join, 7);

    let peers = vec![ADDRESS.to_owned(); 100];
    let text = JoinAnswer::Joined(peers).encode(7);
    let json = text.trim_start_matches("437");
    let mut group = criterion.benchmark_group("join answer, 100 peers");
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| JoinAnswer::decode(black_box(json)));
    });
    group.finish();
}

fn dial(criterion: &mut Criterion) {
    let Some(dial_id) = DialId::new(DIAL_ID) else {
        unreachable!("a UUID is a dial id")
    };
    let dial = Event::Dial {
        from: ADDRESS.to_owned(),
        to: ADDRESS.to_owned(),
        dial_id,
    };
    event(criterion, "dial", &dial, 8);
}

criterion_group!(codec, header, item, join, dial);
criterion_main!(codec);
