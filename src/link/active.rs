//! An open link: moves frames between the socket, the session and the channels.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use tokio::time::Sleep;

use super::{
    Command, LinkEvent,
    channel::Channel,
    driver::{Change, Driver},
    heartbeat::{Due, Heartbeat},
    lock,
    socket::{self, WebSocket, closed, read_error},
};
use crate::{
    address::StarAddr,
    connection::Connection,
    discovery::{self, Place},
    error::{DialError, JoinError, LinkError, ProtocolError},
    protocol::{
        engine_io,
        event::{DialId, End, Event, Side, StreamEvent, StreamName},
        session::{Output, Received, Session},
        stream::{StreamError, Transmit},
    },
    websocket::Message,
    words::Words,
};

/// Messages read before the socket is written again.
const READ_BATCH: usize = 64;
/// Answers that may wait to be sent while the rendezvous goes on asking.
const MAX_ANSWERS: usize = 4096;
/// Spellings that are tried for one dial: a rendezvous may tell of more as long as it likes.
const MAX_ASKED_FOR: usize = 8;
/// Incoming connections that may wait for the transport to be polled.
const MAX_EVENTS: usize = 256;
/// Bytes of frames that are gathered before the socket is written: two full items.
const FLUSH_THRESHOLD: usize = 256 * 1024;

/// Why a link is no longer served.
pub(super) enum Lost {
    /// Nobody uses it.
    Unused,
    /// Another link takes its place.
    GaveWay,
    /// The rendezvous waits for the answer to a challenge that we do not know, as long as the link lasts.
    Stale,
    Failed(LinkError),
}

pub(super) struct Active {
    ws: WebSocket,
    session: Session,
    heartbeat: Heartbeat,
    /// Bytes that had been received when the link last gave a sign of life.
    received: u64,
    /// Whether only a new link can be joined on, and nothing is lost with this one.
    stale: bool,
    channels: Channels,
    /// Channels with something to send, served in turn.
    ready: VecDeque<Arc<Channel>>,
    /// Heartbeats and answers to them.
    beats: VecDeque<String>,
    /// The channel that the next binary frame is for; `None` inside if it is gone.
    expected: Option<Option<Arc<Channel>>>,
    parked: Option<Parked>,
    sleep: Pin<Box<Sleep>>,
    next_scan: Instant,
}

/// An item whose connection has no room for it. The link is not read meanwhile.
struct Parked {
    channel: Arc<Channel>,
    item: Bytes,
    deadline: Instant,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Active {
    pub(super) fn new(driver: &mut Driver, ws: WebSocket, open: &engine_io::Open) -> Self {
        let now = now();
        let mut active = Self {
            ws,
            session: Session::new(driver.context.settings.clone()),
            heartbeat: Heartbeat::new(open, now),
            received: 0,
            stale: false,
            channels: Channels::default(),
            ready: VecDeque::new(),
            beats: VecDeque::new(),
            expected: None,
            parked: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            next_scan: now,
        };
        lock(&driver.mailbox.spellings).clear();
        for listener in driver.users.listeners.values() {
            active.session.listen(now, &listener.address);
        }
        let dials: Vec<_> = driver.users.dials.keys().cloned().collect();
        for dial_id in dials {
            active.dial(driver, now, dial_id);
        }
        active
    }

    /// Serves the link until it is lost, or unused and closed.
    pub(super) async fn run(mut self, driver: &mut Driver) -> Lost {
        let lost = poll_fn(|cx| self.poll(driver, cx)).await;
        match &lost {
            Lost::Unused | Lost::Stale | Lost::GaveWay => {
                socket::leave(self.ws, &LinkError::Closed(None));
            }
            Lost::Failed(error) => socket::leave(self.ws, error),
        }
        lost
    }

    fn poll(&mut self, driver: &mut Driver, cx: &mut Context<'_>) -> Poll<Lost> {
        driver.mailbox.register(cx.waker());
        let now = now();
        while let Some(command) = driver.mailbox.pop() {
            self.command(driver, now, command);
        }
        if driver.mailbox.gives_way() {
            return Poll::Ready(Lost::GaveWay);
        }
        match self.serve(driver, now, cx) {
            Ok(_) if self.stale => Poll::Ready(Lost::Stale),
            Ok(flushed) => {
                driver.poll_events(cx);
                let connected = self.channels.len() > driver.users.dials.len();
                lock(&driver.mailbox.standing).connected(connected, now);
                let idle = flushed && self.is_unused(driver);
                if idle && driver.mailbox.close(|| driver.closed()) {
                    return Poll::Ready(Lost::Unused);
                }
                Poll::Pending
            }
            Err(error) => Poll::Ready(Lost::Failed(error)),
        }
    }

    /// Reads, writes and keeps the time, until all of them wait. Tells whether all is written.
    fn serve(
        &mut self,
        driver: &mut Driver,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, LinkError> {
        self.unpark(now);
        let more = self.read(driver, now, cx)?;
        self.time(driver, now)?;
        self.outputs(driver, now);
        let flushed = self.write(driver, cx)?;
        if !flushed && (self.session.transmits() > MAX_ANSWERS) {
            return Err(LinkError::Flooded);
        }
        self.set_timer(driver, cx);
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(flushed)
    }

    fn is_unused(&self, driver: &Driver) -> bool {
        driver.users.is_empty()
            && driver.events.is_empty()
            && self.channels.is_empty()
            && self.session.transmits() == 0
    }

    fn command(&mut self, driver: &mut Driver, now: Instant, command: Command) {
        match driver.apply(command) {
            Change::Listen(address) => self.session.listen(now, &address),
            Change::Leave(address) => self.session.leave(&address),
            Change::Dial(dial_id) => self.dial(driver, now, dial_id),
            Change::CancelDial(dial_id) => {
                self.session.cancel_dial(&dial_id);
                self.abandon(&dial_id, "the dial was cancelled");
            }
            Change::None => {}
        }
    }

    fn dial(&mut self, driver: &mut Driver, now: Instant, dial_id: DialId) {
        if self.channels.len() >= driver.context.connections {
            return finish_dial(driver, &dial_id, Err(DialError::TooMany));
        }
        if self.ask_for(driver, now, &dial_id) {
            self.open_channel(driver, dial_id, Side::Dialer);
        }
    }

    /// Asks the rendezvous for a peer under the spellings that were not tried yet; `false` if there are none.
    fn ask_for(&mut self, driver: &mut Driver, now: Instant, dial_id: &DialId) -> bool {
        let Some(dial) = driver.users.dials.get_mut(dial_id) else {
            return false;
        };
        let here = &driver.rendezvous;
        let mut spellings = lock(&driver.mailbox.spellings).of(&dial.to, here);
        spellings.retain(|spelling| !dial.asked_for.contains(spelling));
        spellings.truncate(MAX_ASKED_FOR.saturating_sub(dial.asked_for.len()));
        if spellings.is_empty() {
            return false;
        }
        dial.asked_for.extend(spellings.iter().cloned());
        let to = dial.to.with_rendezvous(here);
        let timeout = driver.context.settings.dial_timeout;
        let deadline = *dial.deadline.get_or_insert(now + timeout);
        let id = dial_id.clone();
        self.session.dial(now, deadline, id, &to, spellings);
        true
    }

    fn open_channel(&mut self, driver: &Driver, dial_id: DialId, side: Side) -> Arc<Channel> {
        let (budgets, mailbox) = (driver.context.budgets, driver.mailbox.clone());
        let channel = Channel::new(dial_id.clone(), side, budgets, mailbox);
        self.channels.insert(dial_id, channel.clone());
        channel
    }

    /// Ends the streams of a dial that came to nothing: the rendezvous may have opened them.
    fn abandon(&mut self, dial_id: &DialId, reason: &str) {
        if let Some(channel) = self.channels.get(dial_id) {
            channel.abort(StreamError::Stopped, reason);
        }
    }

    fn outputs(&mut self, driver: &mut Driver, now: Instant) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Joined { address } => {
                    if let Some((listener, state)) = driver.users.listener_at(&address) {
                        state.joined(now);
                        driver.events.push(LinkEvent::Joined(listener));
                    }
                }
                Output::JoinFailed { error, .. }
                    if error == JoinError::StaleChallenge && self.channels.is_empty() =>
                {
                    self.stale = true;
                }
                Output::JoinFailed { address, error } => {
                    join_failed(driver, now, &address, error);
                }
                // The answer to the join may have told how the peer spells itself.
                Output::Dialed {
                    dial_id,
                    result: Err(DialError::PeerNotFound),
                } if self.ask_for(driver, now, &dial_id) => {}
                Output::Dialed { dial_id, result } => self.dialed(driver, &dial_id, result),
                Output::Incoming { dial_id, from, ack } => {
                    self.incoming(driver, dial_id, &from, ack);
                }
                Output::Peer(address) => self.peer(driver, &address),
            }
        }
    }

    fn dialed(&mut self, driver: &mut Driver, dial_id: &DialId, result: Result<(), DialError>) {
        if result == Err(DialError::PeerNotFound) {
            self.peer_not_found(driver, dial_id);
        }
        match result {
            Ok(()) => {
                let Some(channel) = self.channels.get(dial_id) else {
                    return finish_dial(driver, dial_id, Err(DialError::Reset));
                };
                self.session.accept_stream(channel.stream(Side::Listener));
                finish_dial(driver, dial_id, Ok(channel.clone()));
            }
            Err(error) => {
                self.abandon(dial_id, "the dial failed");
                finish_dial(driver, dial_id, Err(error));
            }
        }
    }

    /// The rendezvous does not know the peer under any spelling: it has left.
    fn peer_not_found(&mut self, driver: &Driver, dial_id: &DialId) {
        let dial = driver.users.dials.get(dial_id);
        if let Some(peer) = dial.and_then(|dial| dial.to.peer()) {
            lock(&driver.mailbox.spellings).forget(&peer);
            let announcer = &driver.context.announcer;
            announcer.retract(&driver.rendezvous, &peer);
        }
    }

    fn incoming(&mut self, driver: &mut Driver, dial_id: DialId, from: &StarAddr, ack: u64) {
        let joined = driver
            .users
            .listeners
            .iter()
            .find(|(_, state)| state.is_joined());
        let reason = if self.channels.contains_key(&dial_id) {
            "the dial id is in use"
        } else if self.channels.len() >= driver.context.connections {
            "too many connections"
        } else if driver.events.len() >= MAX_EVENTS {
            "too many incoming connections"
        } else if let (Some((listener, _)), Some(peer)) = (joined, from.peer()) {
            let listener = *listener;
            self.session.accept(&dial_id, ack);
            let channel = self.open_channel(driver, dial_id, Side::Listener);
            driver.events.push(LinkEvent::Incoming {
                listener,
                from: peer,
                connection: Connection::new(channel),
            });
            return;
        } else {
            "not listening"
        };
        tracing::debug!(%dial_id, reason, "an incoming dial is refused");
        self.session.refuse(ack, reason);
    }

    fn peer(&mut self, driver: &Driver, address: &StarAddr) {
        let Some(peer) = address.peer() else { return };
        let (here, announcer) = (&driver.rendezvous, &driver.context.announcer);
        let listening = driver.context.listening.at(here);
        let place = Place {
            rendezvous: here,
            listening,
        };
        announcer.announce(place, peer, address.with_rendezvous(here).to_multiaddr());
        let room = discovery::room(driver.context.known_peers, listening);
        let is_listed = |peer: &PeerId| announcer.lists(here, peer);
        lock(&driver.mailbox.spellings).note(address, here, room, is_listed);
    }

    /// Reads a batch of messages, unless an item is parked. Tells whether there may be more.
    fn read(
        &mut self,
        driver: &mut Driver,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, LinkError> {
        for _ in 0..READ_BATCH {
            if self.parked.is_some() {
                return Ok(false);
            }
            let Poll::Ready(message) = self.ws.poll_next(cx) else {
                return Ok(false);
            };
            let message = message
                .ok_or(LinkError::Closed(None))?
                .map_err(read_error)?;
            if let Some(text) = message.as_text() {
                self.text(driver, now, text)?;
            } else if let Message::Binary(data) = message {
                self.binary(driver, now, data)?;
            } else if let Message::Close(close) = message {
                return Err(closed(close.as_ref()));
            }
        }
        Ok(true)
    }

    fn text(&mut self, driver: &mut Driver, now: Instant, text: &str) -> Result<(), LinkError> {
        match self.session.handle_text(now, text)? {
            // Before the next message: that may be the end of a dial that this one has begun.
            Received::Handled => self.outputs(driver, now),
            Received::Stream(stream, event) => self.stream_event(driver, now, stream, event),
            Received::Item(item) => self.item(driver, now, item),
            Received::Ping(pong) => self.answer_ping(pong)?,
            Received::Close => return Err(LinkError::Closed(None)),
        }
        Ok(())
    }

    fn answer_ping(&mut self, pong: String) -> Result<(), LinkError> {
        if self.beats.len() >= MAX_ANSWERS {
            return Err(LinkError::Flooded);
        }
        self.beats.push_back(pong);
        Ok(())
    }

    fn binary(&mut self, driver: &Driver, now: Instant, frame: Bytes) -> Result<(), ProtocolError> {
        if let Some(item) = self.session.handle_binary(frame)? {
            self.item(driver, now, item);
        }
        Ok(())
    }

    fn item(&mut self, driver: &Driver, now: Instant, item: Bytes) {
        if let Some(channel) = self.expected.take().flatten() {
            self.deliver(driver, now, channel, item);
        }
    }

    fn deliver(&mut self, driver: &Driver, now: Instant, channel: Arc<Channel>, item: Bytes) {
        if let Err(item) = channel.deliver(item) {
            let deadline = now + driver.context.stall_timeout;
            self.parked = Some(Parked {
                channel,
                item,
                deadline,
            });
        }
    }

    fn stream_event(
        &mut self,
        driver: &Driver,
        now: Instant,
        stream: StreamName<'_>,
        event: StreamEvent,
    ) {
        let channel = self.channels.get(stream.dial_id).cloned();
        let Some(channel) = channel else {
            // It may have been on its way when we forgot the dial.
            tracing::trace!(stream = %Words(stream), "an event of an unknown stream");
            if event == StreamEvent::BinaryItem {
                self.expected = Some(None);
            }
            return;
        };
        let ours = stream.sender == channel.side();
        match event {
            StreamEvent::BinaryItem => self.expected = Some((!ours).then_some(channel)),
            StreamEvent::Item(item) if !ours => self.deliver(driver, now, channel, item),
            StreamEvent::Accept if ours => channel.accepted(),
            StreamEvent::End(_) if ours => {
                channel.stopped();
                self.forget_if_over(&channel);
            }
            StreamEvent::End(end) => {
                channel.ended(end);
                self.forget_if_over(&channel);
            }
            StreamEvent::Malformed if !ours => {
                channel.abort(StreamError::MalformedItem, "malformed item");
            }
            StreamEvent::Item(_) | StreamEvent::Accept | StreamEvent::Malformed => {}
        }
    }

    fn forget_if_over(&mut self, channel: &Channel) {
        if channel.is_over() {
            self.channels.remove(channel.dial_id());
        }
    }

    /// Tries to get rid of the parked item; gives up its connection after the stall timeout.
    fn unpark(&mut self, now: Instant) {
        let Some(parked) = self.parked.take() else {
            return;
        };
        match parked.channel.deliver(parked.item) {
            Ok(()) => {}
            Err(_) if parked.deadline <= now => {
                tracing::debug!(dial_id = %parked.channel.dial_id(), "a reader stalls the link");
                parked
                    .channel
                    .abort(StreamError::ReaderStalled, "the reader stalled");
            }
            Err(item) => self.parked = Some(Parked { item, ..parked }),
        }
    }

    /// Writes what there is: heartbeats, then events, then one item of each channel in turn.
    fn write(&mut self, driver: &Driver, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        driver.mailbox.take_ready(&mut self.ready);
        // Before there is more: under load there always is, and whoever closes would wait for all of it.
        if !self.channels.ending.is_empty() && !self.flush(cx)? {
            return Ok(false);
        }
        loop {
            if self.ws.queued() >= FLUSH_THRESHOLD && !self.flush(cx)? {
                return Ok(false);
            }
            if let Some(text) = self
                .beats
                .pop_front()
                .or_else(|| self.session.poll_transmit())
            {
                self.ws.send(Message::text(text));
            } else if let Some(channel) = self.ready.pop_front() {
                self.write_channel(channel);
            } else {
                break;
            }
        }
        self.flush(cx)
    }

    /// Whether all is written.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        match self.ws.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.channels
                    .ending
                    .drain(..)
                    .for_each(|channel| channel.flushed());
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(LinkError::Io(Arc::new(error))),
            Poll::Pending => Ok(false),
        }
    }

    fn write_channel(&mut self, channel: Arc<Channel>) {
        let end = |sender, end| {
            let stream = channel.stream(sender);
            let event = Event::Stream {
                stream,
                event: StreamEvent::End(end),
            };
            Message::text(event.encode(None))
        };
        match channel.transmit() {
            None => {
                self.forget_if_over(&channel);
                return;
            }
            Some(Transmit::Item(item)) => {
                self.ws.send(Message::Text(channel.queue_header()));
                self.ws.send_buffer(item);
            }
            Some(Transmit::End(reason)) => {
                self.ws.send(end(channel.side(), reason));
                self.channels.ending.push(channel.clone());
            }
            Some(Transmit::Stop) => {
                let reason = End::Error("not read any more".to_owned());
                self.ws.send(end(channel.side().other(), reason));
            }
        }
        self.ready.push_back(channel);
    }

    /// Deals with all deadlines.
    fn time(&mut self, driver: &mut Driver, now: Instant) -> Result<(), LinkError> {
        self.session.handle_timeout(now);
        let received = self.ws.received();
        // A link that we do not read cannot give a sign of life.
        if received != self.received || self.parked.is_some() {
            self.received = received;
            self.heartbeat.alive();
        }
        match self.heartbeat.poll(now) {
            Due::Nothing => {}
            // With so many unwritten, one more would not be read either.
            Due::Ping if self.beats.len() >= MAX_ANSWERS => {}
            Due::Ping => self.beats.push_back(engine_io::Packet::Ping("").encode()),
            Due::Dead => return Err(LinkError::Heartbeat(self.heartbeat.timeout())),
        }
        for listener in driver.users.listeners.values_mut() {
            if listener.retry.is_some_and(|retry| retry <= now) {
                listener.retry = None;
                self.session.listen(now, &listener.address);
            }
        }
        if self.next_scan <= now {
            let timeout = driver.context.stall_timeout;
            self.next_scan = now + timeout / 4;
            for channel in self.channels.values() {
                if channel.is_unaccepted_for(timeout, now) {
                    channel.abort(StreamError::NotAccepted, "the stream was not accepted");
                }
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, driver: &Driver, cx: &mut Context<'_>) {
        let retries = driver
            .users
            .listeners
            .values()
            .filter_map(|listener| listener.retry);
        let scan = (!self.channels.is_empty()).then_some(self.next_scan);
        let parked = self.parked.as_ref().map(|parked| parked.deadline);
        let next = [self.session.poll_timeout(), scan, parked]
            .into_iter()
            .flatten()
            .chain(retries)
            .fold(self.heartbeat.next(), Instant::min)
            .into();
        if self.sleep.deadline() != next {
            self.sleep.as_mut().reset(next);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

/// The channels of a link, which end with it.
#[derive(Default)]
struct Channels {
    open: HashMap<DialId, Arc<Channel>>,
    /// Those whose end is with the socket, but not flushed.
    ending: Vec<Arc<Channel>>,
}

impl Deref for Channels {
    type Target = HashMap<DialId, Arc<Channel>>;

    fn deref(&self) -> &Self::Target {
        &self.open
    }
}

impl DerefMut for Channels {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.open
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for channel in self.open.values().chain(&self.ending) {
            channel.reset(StreamError::LinkLost);
        }
    }
}

fn join_failed(driver: &mut Driver, now: Instant, address: &StarAddr, error: JoinError) {
    let Some((listener, state)) = driver.users.listener_at(address) else {
        return;
    };
    state.failed(now, &error);
    let permanent = error.is_permanent();
    let error = driver.join_error(error);
    if permanent {
        driver.users.listeners.remove(&listener);
        driver.events.push(LinkEvent::Closed(listener, error));
    } else {
        driver.events.push(LinkEvent::Failed(listener, error));
    }
}

fn finish_dial(driver: &mut Driver, dial_id: &DialId, result: Result<Arc<Channel>, DialError>) {
    let Some(dial) = driver.users.dials.remove(dial_id) else {
        // It was cancelled: dropping the connection resets the streams.
        drop(result.map(Connection::new));
        return;
    };
    let result = result
        .map(Connection::new)
        .map_err(|error| driver.dial_error(error));
    // The dialler may have gone; then the connection is dropped, which resets the streams.
    let _ = dial.reply.send(result);
}
