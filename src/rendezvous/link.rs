//! One link: the task that reads from a WebSocket and writes to it.
//!
//! Reading and writing do not wait for each other. A link that waits for room at another link continues to write, so
//! two peers that send to each other never block each other.

mod ended;
mod heartbeat;
mod hold;
mod inbox;
mod joining;
mod liveness;
mod quota_wait;
mod read;
mod registered;
mod way;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::ready;
use tokio::time::{Instant, Sleep};

use self::{
    ended::Ended,
    heartbeat::Heartbeat,
    hold::{Holds, Patience},
    inbox::Inbox,
    joining::Joining,
    liveness::{Drain, Due, LinkState, Liveness},
    quota_wait::{QuotaWait, Spending},
    registered::{Registered, Step},
    way::Waiting,
};
use super::{
    hub::Member,
    outbox::{CloseReason, Parcel, Take},
    quota::Pass,
};
use crate::{
    protocol::{
        engine_io::{self, Version},
        event::uuid,
        socket_io,
    },
    runtime::now,
    websocket::{CloseCode, Input, Message, Output, Role, WebSocket},
};

/// The number of bytes that are taken from the queue at once and written with one flush. More gains nothing, and these
/// bytes are held in addition to the queue's limit.
const BATCH_BYTES: usize = 256 * 1024;
/// How many times in a row a link reads and writes before other tasks get their turn.
const ROUNDS: usize = 8;
/// A time longer than any link lasts.
#[cfg(feature = "cluster")]
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
/// The time limit for telling a peer why its link is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for the same if the memory that the link still holds is scarce.
const SCARCE_CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A stream whose HTTP upgrade is complete.
pub(super) struct Upgraded<S> {
    pub(super) io: S,
    /// The bytes that came after the request.
    pub(super) read: Bytes,
    pub(super) member: Member,
    /// Whether the peer accepts binary messages only as text.
    pub(super) base64: bool,
    pub(super) end: Partner,
}

/// What is at the other end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partner {
    /// A client.
    Client,
    /// Another node of the cluster, for dials from this node. Like [`Guest`](Self::Guest), it needs no greeting and no
    /// heartbeats.
    #[cfg(feature = "cluster")]
    Way,
    /// Another node of the cluster, for dials from that node.
    #[cfg(feature = "cluster")]
    Guest,
}

/// Serves a link until it ends.
pub(super) async fn serve<S: Input + Output>(upgraded: Upgraded<S>) {
    let mut link = Link::new(upgraded);
    let ended = link.run().await;
    tracing::debug!(reason = %ended, "link ended");
    let (socket, member) = link.into_parts();
    if let Some(reason) = ended.reason() {
        member.hub.count_refused(reason);
    }
    let code = match ended {
        // In a cluster, the client can come back at once, to another node.
        #[cfg(feature = "cluster")]
        Ended::Shutdown if member.hub.config().cluster().is_some() => CloseCode::SERVICE_RESTART,
        _ => ended.close_code(),
    };
    // The other peers are told before this peer is waited for.
    drop(member);
    // Boxed, so that the memory of an open link does not include it.
    let closing = Box::pin(close(socket, &ended, code));
    let timeout = match ended {
        Ended::Memory => SCARCE_CLOSE_TIMEOUT,
        _ => CLOSE_TIMEOUT,
    };
    let _ = tokio::time::timeout(timeout, closing).await;
}

/// Tells the peer why its link ends, if the peer may still listen.
async fn close<S: Input + Output>(
    mut socket: WebSocket<S>,
    ended: &Ended,
    code: CloseCode,
) -> io::Result<()> {
    let reason = match ended {
        Ended::Lost(_) => return Ok(()),
        Ended::ByPeer => String::new(),
        ended => ended.to_string(),
    };
    socket.finish(code, &reason).await
}

/// Returns the maximum length of a message from a peer. A message of version 4 must fit the links of version 3, where
/// an item has one byte more.
fn longest_message(version: Version, limit: usize) -> usize {
    let added = match version {
        Version::V3 => 0,
        Version::V4 => 1,
    };
    limit.saturating_sub(1 + added)
}

/// Returns this age less up to a tenth, so that links which began at the same time do not all end at the same time.
fn spread(age: Duration) -> Duration {
    let tenth = age / 10;
    age - tenth.mul_f64(rand::random::<f64>())
}

/// Returns how long to sleep until there is something to do for a link.
fn pause(
    heartbeat: &Heartbeat,
    liveness: &Liveness,
    too_old: Option<std::time::Instant>,
    now: std::time::Instant,
) -> Duration {
    let pause = heartbeat.pause(liveness.period(), now);
    let left = too_old.map(|at| at.saturating_duration_since(now));
    left.map_or(pause, |left| left.min(pause))
}

struct Link<S> {
    socket: WebSocket<S>,
    member: Member,
    inbox: Inbox,
    /// An item that waits for a quota. Messages that may overtake it are read meanwhile.
    limited: Option<Box<QuotaWait>>,
    /// The quota turn of the last item that passed. Kept until the link has nothing more to do for now.
    turn: Option<Pass>,
    /// The end of the link's dials, because the quota for the day is spent.
    spending: Option<Box<Spending>>,
    /// The last item or other parcel read, which has no room at its destination yet.
    waiting: Option<Waiting>,
    /// The sleep during which nothing is read, because too many requests were refused.
    rest: Option<Pin<Box<Sleep>>>,
    /// A join that is not decided yet. Nothing more is handled meanwhile.
    joining: Option<Box<Joining>>,
    /// One message that came while reading is suspended. It is read so that a peer that hangs up is noticed.
    ahead: Option<Box<Message>>,
    holds: Holds,
    /// The timer for `waiting`. It is kept from one wait to the next, so it may fire before the current parcel has
    /// waited for too long.
    patience: Option<Pin<Box<Sleep>>>,
    /// The next heartbeat to send: an answer to pings, or a ping if the server sends them. One answer to any number of
    /// pings is enough to show that the server is alive.
    next_beat: Option<&'static str>,
    /// Whether the socket holds data that is not flushed.
    unflushed: bool,
    liveness: Liveness,
    heartbeat: Heartbeat,
    timer: Pin<Box<Sleep>>,
    /// The time at which the link is too old.
    too_old: Option<std::time::Instant>,
    is_too_old: bool,
    message_limit: usize,
    base64: bool,
    end: Partner,
}

impl<S: Input + Output> Link<S> {
    fn new(upgraded: Upgraded<S>) -> Self {
        let Upgraded {
            io,
            read,
            member,
            base64,
            end,
        } = upgraded;
        let config = member.hub.config();
        let message_limit = config.limits().message;
        let version = member.outbox.version();
        let longest = longest_message(version, message_limit);
        let now = now();
        let (socket, heartbeat, silence, age) = match end {
            Partner::Client => (
                WebSocket::new(io, Role::Server, longest, read.into()),
                Heartbeat::new(version, config.ping_interval(), now),
                config.ping_interval(),
                config.limits().link_age,
            ),
            // Here the trunk has the heartbeat.
            #[cfg(feature = "cluster")]
            Partner::Way | Partner::Guest => (
                WebSocket::unmasked(io, longest),
                Heartbeat::none(),
                NEVER,
                None,
            ),
        };
        let too_old = age.map(|age| now + spread(age));
        let liveness = Liveness::new(
            silence,
            config.ping_timeout(),
            Drain {
                stall: config.limits().stall_timeout,
                rate: config.limits().drain_rate,
            },
            now,
        );
        Self {
            socket,
            inbox: match end {
                Partner::Client => Inbox::new(version),
                #[cfg(feature = "cluster")]
                Partner::Way | Partner::Guest => Inbox::connected(version, end),
            },
            end,
            limited: None,
            turn: None,
            spending: None,
            waiting: None,
            rest: None,
            joining: None,
            ahead: None,
            holds: Holds::new(Patience {
                timeout: config.limits().hold_timeout,
                rate: config.limits().hold_rate,
            }),
            patience: None,
            next_beat: None,
            unflushed: false,
            timer: Box::pin(tokio::time::sleep(pause(
                &heartbeat, &liveness, too_old, now,
            ))),
            too_old,
            is_too_old: false,
            liveness,
            heartbeat,
            message_limit,
            base64,
            member,
        }
    }

    /// Returns what is needed to close the link properly. Everything else is dropped here: a join that is being judged,
    /// with its place in the line, and what waits for room at another link.
    fn into_parts(self) -> (WebSocket<S>, Member) {
        let Self { socket, member, .. } = self;
        (socket, member)
    }

    async fn run(&mut self) -> Ended {
        self.greet();
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn greet(&self) {
        if self.end != Partner::Client {
            return;
        }
        let config = self.member.hub.config();
        let version = self.member.outbox.version();
        let longest = longest_message(version, self.message_limit);
        let open = engine_io::Packet::Open(engine_io::Open {
            sid: uuid(),
            ping_interval: config.ping_interval(),
            ping_timeout: config.ping_timeout(),
            max_payload: (version == Version::V4).then_some(longest as u64),
        });
        let outbox = &self.member.outbox;
        outbox.push_own(Message::text(open.encode()));
        // A client of version 4 asks for this itself.
        if version == Version::V3 {
            outbox.push_own(Message::text(socket_io::Packet::Connect(None).encode()));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.poll_all(cx) {
            Ok(()) => {
                self.turn = None;
                if let Some(account) = self.member.outbox.account() {
                    let waiting = self.waiting.as_ref();
                    let waiting = waiting.map_or(0, |waiting| waiting.push.cost());
                    let limited = self.limited.as_ref().map_or(0, |limited| limited.cost());
                    let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len());
                    let held = self.socket.held(self.goes_on());
                    account.set_reading(held + waiting + limited + ahead);
                }
                Poll::Pending
            }
            Err(ended) => Poll::Ready(ended),
        }
    }

    /// Does everything that can be done now, or a part of it if there is very much.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..ROUNDS {
            self.poll_timer(cx)?;
            let writer = match Registered::unless_ready(self.poll_write(cx)) {
                Ok(result) => return result,
                Err(registered) => registered,
            };
            // What was read may have caused something to write.
            if let Step::Sleep(_) = self.poll_read(cx, writer)? {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes until there is nothing to write or the socket takes no more. Ready only with an error.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        loop {
            if self.unflushed {
                match self.socket.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Ended::Lost(error))),
                    Poll::Pending => {
                        let reason = ready!(self.member.outbox.poll_urgent(cx));
                        return Poll::Ready(Err(reason.into()));
                    }
                }
            }
            // Sent before the queue: after a megabyte it could come too late.
            if let Some(beat) = self.next_beat.take() {
                self.send(Message::text(beat));
            }
            let mut batch = Vec::new();
            let outbox = &self.member.outbox;
            let feed = self.member.hub.feed();
            let take = outbox.poll_take(cx, feed, self.member.link, &mut batch, BATCH_BYTES);
            for parcel in batch {
                match parcel {
                    Parcel::One(message) | Parcel::Accept(message) | Parcel::Notice(message) => {
                        self.send(message);
                    }
                    Parcel::Welcome(welcome, _) => self.send(Message::text(welcome.encode())),
                    Parcel::Item(header, data) => {
                        self.send(header);
                        self.send_binary(data);
                    }
                    Parcel::News(frames) => {
                        self.unflushed = true;
                        self.socket.send_encoded(frames);
                    }
                }
            }
            match take {
                Poll::Ready(Take::Close(reason)) if !self.unflushed => {
                    return Poll::Ready(Err(reason.into()));
                }
                Poll::Pending if !self.unflushed => return Poll::Pending,
                _ => {}
            }
        }
    }

    fn send_binary(&mut self, message: Message) {
        match message {
            Message::Binary(frame) if self.base64 => {
                let version = self.member.outbox.version();
                self.send(Message::text(version.encode_base64(&frame)));
            }
            message => self.send(message),
        }
    }

    fn send(&mut self, message: Message) {
        self.unflushed = true;
        self.socket.send(message);
    }

    /// Closes the link if it is too old: once its queued data is written, or once that takes too long.
    fn check_age(&mut self, now: std::time::Instant) -> Result<(), Ended> {
        if self.too_old.is_none_or(|too_old| too_old > now) {
            return Ok(());
        }
        if self.is_too_old {
            return Err(Ended::Age);
        }
        self.is_too_old = true;
        self.too_old = Some(now + self.member.hub.config().limits().shutdown_timeout);
        self.member.outbox.close(CloseReason::Age);
        Ok(())
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.heartbeat.poll(now.into_std()) {
                self.next_beat = Some("2");
            }
            if let Some(account) = self.member.outbox.account() {
                account.give_back();
            }
            if self.waiting.is_none() {
                self.patience = None;
            }
            self.check_age(now.into_std())?;
            let pause = pause(
                &self.heartbeat,
                &self.liveness,
                self.too_old,
                now.into_std(),
            );
            self.timer.as_mut().reset(now + pause);
            let state = LinkState {
                read: self.socket.received(),
                written: self.socket.sent(),
                reading: self.goes_on() && self.limited.is_none(),
                writing: self.unflushed,
                holds_up: self.member.outbox.holds_up(),
            };
            match self.liveness.check(state, now.into_std()) {
                Due::Nothing => {}
                // A client of version 4 waits for our pings, which are sent in any case.
                Due::Pong if self.member.outbox.version() == Version::V4 => {}
                Due::Pong => self.next_beat = Some("3"),
                Due::Silent => return Err(Ended::Silent),
                Due::Stalled => return Err(Ended::Stalled),
                Due::Slow => return Err(Ended::Slow),
            }
        }
        Ok(())
    }
}
