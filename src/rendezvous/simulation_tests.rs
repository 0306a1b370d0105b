//! Sessions and pairs against the registry, on simulated time: no sockets, no tasks, no sleeps.
//!
//! Peers join, leave, dial, cancel, write, close, drop and lose their links in random order, and frames are delivered
//! in random interleavings. Whatever happens, every dial has exactly one outcome, bytes arrive in order and only where
//! they belong, a proper end means that all of them arrived, and nothing is left behind when everything is over.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use libp2p_identity::Keypair;
use proptest::prelude::*;

use super::{
    commons::Commons,
    config::Config,
    origin::Weights,
    registry::{Action, LinkId, Registry, Route},
};
use crate::{
    StarAddr,
    protocol::{
        event::{DialId, End, Event, Side, StreamEvent, StreamName},
        session::{Output, Received, Session, Settings},
        socket_io::Packet,
        stream::{Budgets, Pair, Read, StreamError, Transmit},
    },
};

const STAR: &str = "/ip4/127.0.0.1/tcp/9090/ws/p2p-websocket-star";
const PEERS: usize = 4;
const BUDGETS: Budgets = Budgets {
    receive: 4000,
    send: 1000,
    item: 100,
};

/// A message under way.
#[derive(Debug)]
enum Frame {
    Text(String),
    /// With its leading 0x04.
    Binary(Bytes),
}

/// The state of one direction of a dial.
#[derive(Debug, Default)]
struct Stream {
    written: usize,
    closed: bool,
    read: usize,
}

struct Client {
    settings: Settings,
    address: StarAddr,
    link: LinkId,
    session: Session,
    /// The pairs by dial. The side is that of this client.
    pairs: HashMap<DialId, (Side, Pair)>,
    /// Dials that have no outcome yet.
    dialling: HashSet<DialId>,
    /// Connections that the application has dropped and does not touch any more.
    dropped: HashSet<DialId>,
    up: VecDeque<Frame>,
    down: VecDeque<Frame>,
    /// The dial that the next binary frame belongs to, at the client; below, the route that it takes at the server.
    due: Option<DialId>,
    relay_due: Option<Option<(Route, Frame)>>,
    /// The last item, if it found no room.
    parked: Option<(DialId, Bytes)>,
}

struct World {
    now: Instant,
    registry: Registry,
    /// The links that get announcements.
    readers: HashSet<LinkId>,
    clients: Vec<Client>,
    next_link: u64,
    streams: HashMap<(DialId, Side), Stream>,
    /// The outcomes of dials; each dial has at most one.
    outcomes: HashMap<DialId, bool>,
}

/// Returns the byte at `offset` of a stream. No two streams are alike.
fn byte_at(dial_id: &DialId, sender: Side, offset: usize) -> u8 {
    let salt: usize = dial_id.as_str().bytes().map(usize::from).sum();
    (salt + (sender == Side::Dialer) as usize * 101 + offset * 7 + offset / 256) as u8
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: Instant::now(),
            registry: {
                let config = Config::default();
                Registry::new(&config, Commons::new(config.limits()))
            },
            readers: HashSet::new(),
            clients: Vec::new(),
            next_link: 0,
            streams: HashMap::new(),
            outcomes: HashMap::new(),
        };
        for seed in 0..PEERS {
            let keypair = Keypair::ed25519_from_bytes([seed as u8 + 1; 32]).expect("a key");
            let star = StarAddr::from_wire(STAR).expect("valid");
            let address = star.with_peer(keypair.public().to_peer_id());
            let settings = Settings {
                keypair,
                join_timeout: Duration::from_secs(10),
                dial_timeout: Duration::from_secs(20),
                allow_join_with_disabled_challenge: false,
            };
            let link = world.open();
            world.clients.push(Client {
                session: Session::new(settings.clone()),
                settings,
                address,
                link,
                pairs: HashMap::new(),
                dialling: HashSet::new(),
                dropped: HashSet::new(),
                up: VecDeque::new(),
                down: VecDeque::new(),
                due: None,
                relay_due: None,
                parked: None,
            });
        }
        world
    }

    fn open(&mut self) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let claimant = Weights::default().claimant([127, 0, 0, 1].into());
        self.registry.handle_open(link, claimant, self.now);
        link
    }

    fn step(&mut self, (op, peer, amount): (u8, u8, u8)) {
        let peer = usize::from(peer) % PEERS;
        let amount = usize::from(amount);
        match op % 16 {
            0 => self.listen(peer),
            1 if amount < 64 => {
                let client = &mut self.clients[peer];
                client.session.leave(&client.address);
            }
            2 | 3 => self.dial(peer, amount % PEERS),
            4 if amount < 64 => self.cancel(peer),
            5 | 6 => self.write(peer, amount),
            7 => self.close_or_drop(peer, amount),
            8 | 9 => self.read(peer, amount),
            10 if amount < 8 => self.cut(peer),
            11 => self.pass(Duration::from_secs(amount as u64 / 16)),
            _ => {
                for _ in 0..amount % 8 {
                    self.deliver_up(peer);
                    self.deliver_down(amount % PEERS);
                }
            }
        }
        self.settle();
    }

    fn listen(&mut self, peer: usize) {
        let client = &mut self.clients[peer];
        client.session.listen(self.now, &client.address);
    }

    fn dial(&mut self, peer: usize, to: usize) {
        if peer == to {
            return;
        }
        let to = self.clients[to].address.clone();
        let dial_id = DialId::random();
        let deadline = self.now + Duration::from_secs(20);
        let client = &mut self.clients[peer];
        client
            .session
            .dial(self.now, deadline, dial_id.clone(), &to, [to.to_wire()]);
        client
            .pairs
            .insert(dial_id.clone(), (Side::Dialer, Pair::new(BUDGETS)));
        client.dialling.insert(dial_id);
    }

    fn cancel(&mut self, peer: usize) {
        let client = &mut self.clients[peer];
        let Some(dial_id) = client.dialling.iter().next().cloned() else {
            return;
        };
        client.dialling.remove(&dial_id);
        client.session.cancel_dial(&dial_id);
        // A listener that was lost may have reset it already.
        if let Some((_, pair)) = client.pairs.get_mut(&dial_id) {
            pair.abort(StreamError::Stopped, "cancelled");
        }
        let outcome = self.outcomes.insert(dial_id, false);
        assert_eq!(outcome, None);
    }

    /// Returns the pair of an established connection.
    fn connection(&mut self, peer: usize, amount: usize) -> Option<(DialId, Side, &mut Pair)> {
        let client = &mut self.clients[peer];
        let mut open: Vec<_> = client
            .pairs
            .iter_mut()
            .filter(|(dial_id, _)| {
                !client.dialling.contains(*dial_id) && !client.dropped.contains(*dial_id)
            })
            .collect();
        open.sort_by(|a, b| a.0.cmp(b.0));
        let n = open.len();
        let (dial_id, (side, pair)) = open.into_iter().nth(amount.checked_rem(n)?)?;
        Some((dial_id.clone(), *side, pair))
    }

    fn write(&mut self, peer: usize, amount: usize) {
        let Some((dial_id, side, _)) = self.connection(peer, amount) else {
            return;
        };
        let stream = self.streams.entry((dial_id.clone(), side)).or_default();
        let start = stream.written;
        let data: Vec<u8> = (start..start + amount)
            .map(|at| byte_at(&dial_id, side, at))
            .collect();
        let (_, pair) = self.clients[peer]
            .pairs
            .get_mut(&dial_id)
            .expect("just found");
        if let Ok(taken) = pair.sink.write(&data) {
            stream.written += taken;
        }
        if amount.is_multiple_of(2) {
            pair.sink.flush();
        }
    }

    fn close_or_drop(&mut self, peer: usize, amount: usize) {
        let Some((dial_id, side, pair)) = self.connection(peer, amount) else {
            return;
        };
        if amount.is_multiple_of(3) {
            pair.dropped();
            self.clients[peer].dropped.insert(dial_id);
        } else {
            pair.sink.close();
            self.streams.entry((dial_id, side)).or_default().closed = true;
        }
    }

    fn read(&mut self, peer: usize, amount: usize) {
        let Some((dial_id, side, pair)) = self.connection(peer, amount) else {
            return;
        };
        let sender = side.other();
        let mut buffer = vec![0; amount * 8 + 1];
        let read = pair.source.read(&mut buffer);
        let stream = self.streams.entry((dial_id.clone(), sender)).or_default();
        match read {
            Read::Data(n) => {
                for byte in &buffer[..n] {
                    assert_eq!(
                        *byte,
                        byte_at(&dial_id, sender, stream.read),
                        "a wrong byte"
                    );
                    stream.read += 1;
                }
                assert!(stream.read <= stream.written, "more than was written");
            }
            Read::End => {
                assert!(stream.closed, "an end that nobody sent");
                assert_eq!(stream.read, stream.written, "cut short");
            }
            Read::Pending | Read::Reset(_) => {}
        }
    }

    /// Loses the link with everything that was under way on it, and opens a new one.
    fn cut(&mut self, peer: usize) {
        let link = self.clients[peer].link;
        self.registry.handle_close(link);
        let link = self.open();
        let client = &mut self.clients[peer];
        client.link = link;
        client.session = Session::new(client.settings.clone());
        (client.up, client.down) = (VecDeque::new(), VecDeque::new());
        (client.due, client.relay_due, client.parked) = (None, None, None);
        client.pairs.clear();
        for dial_id in client.dialling.drain() {
            assert_eq!(self.outcomes.insert(dial_id, false), None);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.registry.handle_timeout(self.now);
        for client in &mut self.clients {
            client.session.handle_timeout(self.now);
        }
    }

    /// Puts everything that the clients and the registry have to send on the wire, and records what happened.
    fn settle(&mut self) {
        for peer in 0..PEERS {
            self.outputs(peer);
            let client = &mut self.clients[peer];
            while let Some(text) = client.session.poll_transmit() {
                client.up.push_back(Frame::Text(text));
            }
            for (dial_id, (side, pair)) in &mut client.pairs {
                while let Some(transmit) = pair.poll_transmit() {
                    let stream = StreamName {
                        dial_id: dial_id.as_str(),
                        sender: *side,
                    };
                    let other = StreamName {
                        sender: side.other(),
                        ..stream
                    };
                    let end = |stream, end| {
                        let event = StreamEvent::End(end);
                        Frame::Text(Event::Stream { stream, event }.encode(None))
                    };
                    match transmit {
                        Transmit::Item(item) => {
                            client.up.push_back(Frame::Text(stream.queue_header()));
                            client.up.push_back(Frame::Binary(item.freeze()));
                        }
                        Transmit::End(reason) => client.up.push_back(end(stream, reason)),
                        Transmit::Stop => {
                            client
                                .up
                                .push_back(end(other, End::Error("stop".to_owned())));
                        }
                    }
                }
            }
            client
                .pairs
                .retain(|_, (_, pair)| !pair.is_over() || pair.source.cost() > 0);
        }
        while let Some(action) = self.registry.poll_action() {
            match action {
                Action::Welcome { to, welcome, .. } => {
                    self.send_down(to, Frame::Text(welcome.encode()));
                }
                Action::Send { to, text }
                | Action::Notify { to, text, .. }
                | Action::Offer { to, text, .. } => {
                    self.send_down(to, Frame::Text(text));
                }
                Action::Joined { link, .. } => {
                    self.readers.insert(link);
                }
                Action::Left(link) => {
                    self.readers.remove(&link);
                }
                Action::Announce(peers) => {
                    let links: Vec<_> = self.readers.iter().copied().collect();
                    for (to, peer) in links
                        .iter()
                        .flat_map(|to| peers.iter().map(move |p| (to, p)))
                    {
                        if *to != peer.link {
                            self.send_down(*to, Frame::Text(peer.text.clone()));
                        }
                    }
                }
                #[cfg(feature = "cluster")]
                Action::Open(_) | Action::CloseWay(_) | Action::Publish(_) => {}
                Action::Idle(link) => {
                    if let Some(peer) = self.clients.iter().position(|c| c.link == link) {
                        self.cut(peer);
                    }
                }
            }
        }
    }

    fn send_down(&mut self, link: LinkId, frame: Frame) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.link == link) {
            client.down.push_back(frame);
        }
    }

    fn outputs(&mut self, peer: usize) {
        let client = &mut self.clients[peer];
        while let Some(output) = client.session.poll_output() {
            match output {
                Output::Dialed { dial_id, result } => {
                    assert!(
                        client.dialling.remove(&dial_id),
                        "an outcome of an unknown dial"
                    );
                    assert_eq!(self.outcomes.insert(dial_id.clone(), result.is_ok()), None);
                    match (result, client.pairs.get_mut(&dial_id)) {
                        (Ok(()), Some(_)) => client.session.accept_stream(StreamName {
                            dial_id: dial_id.as_str(),
                            sender: Side::Listener,
                        }),
                        (Err(_), Some((_, pair))) => pair.abort(StreamError::Stopped, "failed"),
                        (_, None) => {}
                    }
                }
                Output::Incoming { dial_id, ack, .. } => {
                    client.session.accept(&dial_id, ack);
                    let pair = (Side::Listener, Pair::new(BUDGETS));
                    let before = client.pairs.insert(dial_id, pair);
                    assert!(before.is_none(), "the dial id is used twice");
                }
                Output::JoinFailed { error, .. } => assert!(!error.is_permanent(), "{error}"),
                Output::Joined { .. } | Output::Peer(_) => {}
            }
        }
    }

    /// Delivers a frame from a client to the server. Frames of a stream are relayed.
    fn deliver_up(&mut self, peer: usize) {
        let link = self.clients[peer].link;
        let Some(frame) = self.clients[peer].up.pop_front() else {
            return;
        };
        let text = match &frame {
            // Header and item are relayed together, so that nothing comes between them.
            Frame::Binary(_) => {
                let due = self.clients[peer].relay_due.take().expect("announced");
                if let Some((route, header)) = due.filter(|(route, _)| !route.is_over()) {
                    self.send_down(route.to, header);
                    self.send_down(route.to, frame);
                }
                return;
            }
            Frame::Text(text) => text.clone(),
        };
        if let Some(stream) = StreamName::of_queue_header(&text) {
            let route = self
                .registry
                .route(link, stream)
                .filter(|route| route.sends);
            self.clients[peer].relay_due = Some(route.map(|route| (route, frame)));
            return;
        }
        match Packet::decode(&text[1..]).expect("a packet") {
            Packet::Ack { id, json } => self.registry.handle_ack(link, id, json),
            Packet::Event { ack, json } => match Event::decode(json, false).expect("an event") {
                Event::Stream { stream, event } => {
                    let Some(route) = self.registry.route(link, stream) else {
                        return;
                    };
                    if route.is_over() {
                        return;
                    }
                    self.send_down(route.to, frame);
                    if matches!(event, StreamEvent::End(_)) {
                        self.registry.handle_end(link, stream);
                    }
                }
                event => {
                    if let Some(check) = self.registry.handle_event(link, event, ack, self.now) {
                        self.registry.handle_checked(link, check.run(), self.now);
                    }
                }
            },
            other => panic!("{other:?}"),
        }
    }

    /// Delivers a frame from the server to a client, unless an item waits for room.
    fn deliver_down(&mut self, peer: usize) {
        let client = &mut self.clients[peer];
        if let Some((dial_id, item)) = client.parked.take() {
            client.deliver(dial_id, item);
            return;
        }
        match client.down.pop_front() {
            None => {}
            Some(Frame::Binary(frame)) => {
                let item = client.session.handle_binary(frame).expect("announced");
                if let (Some(item), Some(dial_id)) = (item, client.due.take()) {
                    client.deliver(dial_id, item);
                }
            }
            Some(Frame::Text(text)) => {
                let received = client
                    .session
                    .handle_text(self.now, &text)
                    .expect("well formed");
                let Received::Stream(stream, event) = received else {
                    return;
                };
                let Some((side, pair)) = client.pairs.get_mut(stream.dial_id) else {
                    return;
                };
                let ours = stream.sender == *side;
                match event {
                    StreamEvent::BinaryItem => client.due = DialId::new(stream.dial_id),
                    StreamEvent::Accept(_) if ours => pair.accepted(),
                    StreamEvent::End(_) if ours => pair.stopped(),
                    StreamEvent::End(end) => pair.ended(end),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// Drops all connections, delivers everything on the wire, and checks that nothing is left.
    fn finish(&mut self) {
        for peer in 0..PEERS {
            while !self.clients[peer].dialling.is_empty() {
                self.cancel(peer);
            }
            for (_, pair) in self.clients[peer].pairs.values_mut() {
                pair.dropped();
            }
        }
        self.drain();
        // Connections that were dialled meanwhile are dropped as well, and unanswered dials time out.
        for _ in 0..3 {
            self.pass(Duration::from_secs(30));
            for client in &mut self.clients {
                for (_, pair) in client.pairs.values_mut() {
                    pair.dropped();
                }
            }
            self.drain();
        }
        assert_eq!(self.registry.dial_count(), 0, "a dial is left behind");
        for peer in 0..PEERS {
            let client = &mut self.clients[peer];
            client.session.leave(&client.address);
        }
        self.drain();
        assert_eq!(self.registry.peer_count(), 0, "an address is left behind");
        assert_eq!(self.registry.link_count(), PEERS);
    }

    fn drain(&mut self) {
        self.settle();
        while self
            .clients
            .iter()
            .any(|c| !c.up.is_empty() || !c.down.is_empty())
        {
            for peer in 0..PEERS {
                self.deliver_up(peer);
                self.deliver_down(peer);
            }
            self.settle();
        }
    }
}

impl Client {
    fn deliver(&mut self, dial_id: DialId, item: Bytes) {
        assert!(item.remaining() <= BUDGETS.item);
        if let Some((_, pair)) = self.pairs.get_mut(&dial_id)
            && let Err(item) = pair.source.push(item)
        {
            self.parked = Some((dial_id, item));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_bytes_arrive_in_order_and_nothing_is_left_behind(
        ops in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..600),
    ) {
        let mut world = World::new();
        for peer in 0..PEERS {
            world.listen(peer);
        }
        world.drain();
        prop_assert_eq!(world.registry.peer_count(), PEERS);
        for op in ops {
            world.step(op);
        }
        world.finish();
    }
}

/// The random test above would pass even if no dial ever succeeded.
#[test]
fn a_dial_between_two_sessions_carries_data_both_ways() {
    let mut world = World::new();
    for peer in 0..PEERS {
        world.listen(peer);
    }
    world.drain();
    world.dial(0, 1);
    world.drain();
    assert_eq!(world.outcomes.values().collect::<Vec<_>>(), [&true]);
    for peer in [0, 1] {
        world.write(peer, 200);
        world.close_or_drop(peer, 1);
    }
    world.drain();
    for peer in [0, 1] {
        world.read(peer, 255);
    }
    for stream in world.streams.values() {
        assert_eq!(
            (stream.written, stream.read, stream.closed),
            (200, 200, true)
        );
    }
    world.finish();
}
