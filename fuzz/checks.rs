//! The checks of the fuzz targets. An ordinary test replays the corpus through the same functions.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p_identity::Keypair;
use libp2p_websocket_star::{
    StarAddr,
    protocol::{
        engine_io,
        event::{DialAnswer, DialId, End, Event, JoinAnswer, StreamName},
        session::{Output, Received, Session, Settings},
        socket_io,
        stream::{Budgets, Pair, Read, StreamError, Transmit},
    },
    secio::{
        FrameDecoder,
        message::{Exchange, Propose},
    },
};

const STAR: &str = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
const PEER: &str = "QmUzRSwRPKR984hfoKgGJnUqcSkzak3sYYQUjQhATZWa1t";

/// Checks frames and addresses, one in each line. Each is decoded or refused, and decoded values survive being
/// encoded and decoded again.
pub fn frames(data: &[u8]) {
    let _ = engine_io::decode_binary(Bytes::copy_from_slice(data));
    for line in String::from_utf8_lossy(data).lines() {
        if let Ok(addr) = StarAddr::from_wire(line) {
            assert_eq!(StarAddr::from_wire(&addr.to_wire()).as_ref(), Ok(&addr));
            StarAddr::try_from(&addr.to_multiaddr()).expect("its own libp2p form");
        }
        if let Some(stream) = StreamName::of_queue_header(line) {
            assert_eq!(stream.queue_header(), line);
        }
        let Ok(packet) = engine_io::Packet::decode(line) else {
            continue;
        };
        assert_eq!(
            engine_io::Packet::decode(&packet.encode()).as_ref(),
            Ok(&packet)
        );
        let engine_io::Packet::Message(message) = packet else {
            continue;
        };
        let Ok(packet) = socket_io::Packet::decode(message) else {
            continue;
        };
        assert_eq!(socket_io::Packet::decode(&packet.encode()[1..]), Ok(packet));
        match packet {
            socket_io::Packet::Event { json, .. } => event(json, false),
            socket_io::Packet::BinaryEvent { json, .. } => event(json, true),
            socket_io::Packet::Ack { json, .. } => {
                let _ = JoinAnswer::decode(json);
                let _ = DialAnswer::decode(json);
            }
            _ => {}
        }
    }
}

fn event(json: &str, binary: bool) {
    let Ok(event) = Event::decode(json, binary) else {
        return;
    };
    let text = event.encode(None);
    let again = match socket_io::Packet::decode(&text[1..]) {
        Ok(socket_io::Packet::Event { json, .. }) => Event::decode(json, false),
        Ok(socket_io::Packet::BinaryEvent { json, .. }) => Event::decode(json, true),
        other => panic!("{other:?}"),
    };
    assert_eq!(again.as_ref(), Ok(&event));
}

/// Checks a session. Each line is an event of the session; all text frames that it sends must be well formed.
///
/// `L` listens, `l` leaves, `D` dials, `c` cancels the last dial, `a` accepts and `r` refuses the last incoming dial,
/// `T` lets five seconds pass, `B` is a binary frame. Anything else is a text frame, in which `$ID` stands for the id
/// of the last dial.
pub fn session(data: &[u8]) {
    let key = Keypair::ed25519_from_bytes([7; 32]).expect("a key");
    let mut now = Instant::now();
    let mut session = Session::new(Settings {
        keypair: key.clone(),
        join_timeout: Duration::from_secs(10),
        dial_timeout: Duration::from_secs(20),
        allow_join_with_disabled_challenge: data.first() == Some(&b'L'),
    });
    let star = StarAddr::from_wire(STAR).expect("valid");
    let own = star.with_peer(key.public().to_peer_id());
    let peer = StarAddr::from_wire(&format!("{STAR}/ipfs/{PEER}")).expect("valid");
    let (mut dialled, mut incoming) = (DialId::random(), None);
    for line in String::from_utf8_lossy(data).lines().take(1000) {
        match line.split_at_checked(1).unwrap_or_default() {
            ("L", _) => session.listen(now, &own),
            ("l", _) => session.leave(&own),
            ("D", _) => {
                dialled = DialId::random();
                let deadline = now + Duration::from_secs(20);
                session.dial(now, deadline, dialled.clone(), &peer, [peer.to_wire()]);
            }
            ("c", _) => session.cancel_dial(&dialled),
            ("a", _) => {
                if let Some((dial_id, ack)) = incoming.take() {
                    session.accept(&dial_id, ack);
                }
            }
            ("r", _) => {
                if let Some((_, ack)) = incoming.take() {
                    session.refuse(ack, "no");
                }
            }
            ("T", _) => {
                now += Duration::from_secs(5);
                session.handle_timeout(now);
                assert!(session.poll_timeout().is_none_or(|next| next > now));
            }
            ("B", frame) => {
                let _ = session.handle_binary(Bytes::copy_from_slice(frame.as_bytes()));
            }
            _ => {
                let text = line.replace("$ID", dialled.as_str());
                if let Ok(Received::Ping(pong)) = session.handle_text(now, &text) {
                    assert!(pong.starts_with('3'));
                }
            }
        }
        while let Some(output) = session.poll_output() {
            if let Output::Incoming { dial_id, ack, .. } = output {
                incoming = Some((dial_id, ack));
            }
        }
        while let Some(text) = session.poll_transmit() {
            assert!(socket_io::Packet::decode(&text[1..]).is_ok(), "{text}");
        }
    }
}

/// Checks a pair. Each byte is an event of the pair or of its peer. Bytes must arrive in order, and completely unless
/// a side gave up; budgets must hold, and nothing may be sent after the end.
pub fn pair(data: &[u8]) {
    const BUDGETS: Budgets = Budgets {
        receive: 2000,
        send: 500,
        item: 64,
    };
    let (mut near, mut far) = (Pair::new(BUDGETS), Pair::new(BUDGETS));
    let (mut sent, mut received) = (0_u8, 0_u8);
    let (mut wire, mut cut, mut ended) = (VecDeque::new(), false, false);
    for &byte in data {
        let amount = usize::from(byte >> 3) * 5;
        match byte & 7 {
            0 => near.accepted(),
            1 | 2 => {
                let bytes: Vec<u8> = (0..amount).map(|i| sent.wrapping_add(i as u8)).collect();
                if let Ok(taken) = near.sink.write(&bytes) {
                    sent = sent.wrapping_add(taken as u8);
                }
                if byte & 7 == 2 {
                    near.sink.flush();
                }
            }
            3 => {
                let Some(transmit) = near.poll_transmit() else {
                    continue;
                };
                assert!(!ended || transmit == Transmit::Stop, "sent after the end");
                ended |= matches!(transmit, Transmit::End(_));
                wire.push_back(transmit);
            }
            4 => match wire.pop_front() {
                Some(Transmit::Item(item)) => {
                    let data = item.clone().freeze().slice(1..);
                    if far.source.push(data).is_err() {
                        wire.push_front(Transmit::Item(item));
                    }
                }
                Some(Transmit::End(end)) => far.ended(end),
                Some(Transmit::Stop) => far.stopped(),
                None => {}
            },
            5 => {
                let mut buffer = vec![0; amount];
                if let Read::Data(n) = far.source.read(&mut buffer) {
                    for byte in &buffer[..n] {
                        assert_eq!(*byte, received, "out of order");
                        received = received.wrapping_add(1);
                    }
                }
            }
            6 if amount < 40 => near.sink.close(),
            6 => {
                near.dropped();
                cut = true;
            }
            _ if amount == 0 => {
                near.reset(StreamError::LinkLost);
                cut = true;
            }
            _ => {
                far.dropped();
                if let Some(Transmit::End(End::Error(reason))) = far.poll_transmit() {
                    near.ended(End::Error(reason));
                }
                cut = true;
            }
        }
        assert!(near.sink.held() <= BUDGETS.send);
        assert!(far.source.cost() <= BUDGETS.receive);
    }
    if far.source.is_over() && !cut {
        let mut buffer = vec![0; 4096];
        while let Read::Data(n) = far.source.read(&mut buffer) {
            received = received.wrapping_add(n as u8);
        }
        assert_eq!(sent, received, "a proper end, and not all is there");
    }
}

/// Checks a stream of secio frames. The first byte sets the size of the pieces in which it arrives. Each frame is a
/// message that is decoded or refused, and decoded messages survive being encoded and decoded again.
pub fn secio(data: &[u8]) {
    const MAX: usize = 4096;
    let Some((&piece, mut wire)) = data.split_first() else {
        return;
    };
    let mut decoder = FrameDecoder::new(MAX);
    while !wire.is_empty() {
        let space = decoder.space();
        let len = wire.len().min(space.len()).min(usize::from(piece) + 1);
        space[..len].copy_from_slice(&wire[..len]);
        decoder.filled(len);
        wire = &wire[len..];
        loop {
            match decoder.next_frame() {
                Ok(Some(place)) => message(decoder.get(place)),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn message(data: &[u8]) {
    assert!(data.len() <= 4096);
    if let Ok(propose) = Propose::decode(data) {
        assert_eq!(Propose::decode(&propose.encode()), Ok(propose));
    }
    if let Ok(exchange) = Exchange::decode(data) {
        assert_eq!(Exchange::decode(&exchange.encode()), Ok(exchange));
    }
}
