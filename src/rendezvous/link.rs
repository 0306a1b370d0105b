//! One link: a WebSocket, what comes from it, and what goes to it, in one task.
//!
//! Reading and writing do not wait for each other: a link that waits for room at another one goes on
//! writing, so two peers that send to each other never lock each other up.

mod ended;
mod hold;
mod inbox;
mod joining;
mod limited;
mod ping;
mod pulse;
mod read;
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
    hold::{Holds, Patience},
    inbox::Inbox,
    joining::Joining,
    limited::{Limited, Spending},
    ping::Pings,
    pulse::{Beat, Drain, Pulse, Vitals},
    way::Waiting,
};
use super::{
    hub::{Member, now as hub_now},
    outbox::{CloseReason, Parcel, Take},
    quota::Pass,
};
use crate::protocol::{
    engine_io::{self, Version},
    event::uuid,
    socket_io,
};
use crate::websocket::{CloseCode, Input, Message, Output, Role, WebSocket};

/// How many bytes are taken from the queue at once and written with one flush. More gains nothing,
/// and they are held beside the queue's own limit.
const BATCH_BYTES: usize = 256 * 1024;
/// How often in a row a link reads and writes before others get their turn.
const ROUNDS: usize = 8;
/// Longer than any link lasts.
#[cfg(feature = "cluster")]
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How long a link that is closed may take to hear why.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where what it holds until then is scarce.
const SCARCE_CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A stream whose HTTP upgrade is done.
pub(super) struct Upgraded<S> {
    pub(super) io: S,
    /// What has come behind the request.
    pub(super) read: Bytes,
    pub(super) member: Member,
    /// Whether the peer takes binary messages as text only.
    pub(super) base64: bool,
    pub(super) end: Partner,
}

/// What is at the other end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partner {
    /// A client.
    Client,
    /// Another node of the cluster, for dials from here. It needs no greeting and no heartbeats, nor does the next.
    #[cfg(feature = "cluster")]
    Way,
    /// Another node of the cluster, for dials from there.
    #[cfg(feature = "cluster")]
    Guest,
}

#[cfg(feature = "cluster")]
impl Partner {
    /// What nodes speak with each other: the version of most clients, whose items then need no byte before them that they did not
    /// come with, for which they would have to be copied.
    pub(super) const VERSION: Version = Version::V3;
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
        // Another node takes its place.
        #[cfg(feature = "cluster")]
        Ended::Shutdown if member.hub.config().cluster().is_some() => CloseCode::SERVICE_RESTART,
        _ => ended.close_code(),
    };
    // The other peers are told before this one is waited for.
    drop(member);
    // In a box: no living link is to have room for it.
    let closing = Box::pin(close(socket, &ended, code));
    let timeout = match ended {
        Ended::Memory => SCARCE_CLOSE_TIMEOUT,
        _ => CLOSE_TIMEOUT,
    };
    let _ = tokio::time::timeout(timeout, closing).await;
}

/// Tells the peer why its link ends, if it may still listen.
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

/// How long a message from a peer may be. One of version 4 must fit the links of version 3, where an
/// item has one byte more.
fn longest_message(version: Version, limit: usize) -> usize {
    let added = match version {
        Version::V3 => 0,
        Version::V4 => 1,
    };
    limit.saturating_sub(1 + added)
}

/// Up to a tenth less than that, so that links which began at the same time do not all end at the same time.
fn spread(age: Duration) -> Duration {
    let tenth = age / 10;
    age - tenth.mul_f64(rand::random::<f64>())
}

/// How long to sleep until there is something to do for a link.
fn pause(
    pings: &Pings,
    pulse: &Pulse,
    too_old: Option<std::time::Instant>,
    now: std::time::Instant,
) -> Duration {
    let pause = pings.pause(pulse.period(), now);
    let left = too_old.map(|at| at.saturating_duration_since(now));
    left.map_or(pause, |left| left.min(pause))
}

struct Link<S> {
    socket: WebSocket<S>,
    member: Member,
    inbox: Inbox,
    /// An item that waits for a quota. What may overtake it is read meanwhile.
    limited: Option<Box<Limited>>,
    /// What the last item leaves behind that has passed, until the link does not go on.
    turn: Option<Pass>,
    /// The end of its dials, because a quota for the day is spent.
    spending: Option<Box<Spending>>,
    /// What was read last and has no room where it goes.
    waiting: Option<Waiting>,
    /// Until nothing is read, because too much was refused.
    rest: Option<Pin<Box<Sleep>>>,
    /// A join about which nobody has decided yet. Nothing is read meanwhile.
    joining: Option<Box<Joining>>,
    /// What has come meanwhile: one message, so that it is noticed if the peer hangs up.
    ahead: Option<Box<Message>>,
    holds: Holds,
    /// At the earliest when that has waited for too long, or another one would have.
    patience: Option<Pin<Box<Sleep>>>,
    /// An answer to pings, or a ping where those are ours to send; however many there were, one tells
    /// that we live.
    beat: Option<&'static str>,
    /// Whether the socket holds what is not flushed.
    unflushed: bool,
    pulse: Pulse,
    pings: Pings,
    timer: Pin<Box<Sleep>>,
    /// When it has become too old.
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
        let now = hub_now();
        let (socket, pings, silence, age) = match end {
            Partner::Client => (
                WebSocket::new(io, Role::Server, longest, read.into()),
                Pings::new(version, config.ping_interval(), now),
                config.ping_interval(),
                config.limits().link_age,
            ),
            // It is the trunk that has a heartbeat.
            #[cfg(feature = "cluster")]
            Partner::Way | Partner::Guest => {
                (WebSocket::unmasked(io, longest), Pings::none(), NEVER, None)
            }
        };
        let too_old = age.map(|age| now + spread(age));
        let pulse = Pulse::new(
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
            beat: None,
            unflushed: false,
            timer: Box::pin(tokio::time::sleep(pause(&pings, &pulse, too_old, now))),
            too_old,
            is_too_old: false,
            pulse,
            pings,
            message_limit,
            base64,
            member,
        }
    }

    /// What is needed to end in order. All else is dropped here and now: a join that is being judged, and its place among
    /// those, and what waits for room at another link.
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
        // A client of version 4 asks for it.
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

    /// Does what can be done now; if that is very much, some of it.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        for _ in 0..ROUNDS {
            self.poll_timer(cx)?;
            if let Poll::Ready(result) = self.poll_write(cx) {
                return result;
            }
            // What was read may have given something to write.
            if !self.poll_read(cx)? {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes until there is nothing to write, or the socket takes no more; ready only with an error.
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
            // Ahead of the queue: behind a megabyte it could come too late.
            if let Some(beat) = self.beat.take() {
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

    /// Has the link closed if it is too old: when what is queued is written, or when that takes too long.
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
            if self.pings.poll(now.into_std()) {
                self.beat = Some("2");
            }
            if let Some(account) = self.member.outbox.account() {
                account.give_back();
            }
            if self.waiting.is_none() {
                self.patience = None;
            }
            self.check_age(now.into_std())?;
            let pause = pause(&self.pings, &self.pulse, self.too_old, now.into_std());
            self.timer.as_mut().reset(now + pause);
            let vitals = Vitals {
                read: self.socket.received(),
                written: self.socket.sent(),
                reading: self.goes_on() && self.limited.is_none(),
                writing: self.unflushed,
                holds_up: self.member.outbox.holds_up(),
            };
            match self.pulse.check(vitals, now.into_std()) {
                Beat::Fine => {}
                // A client of version 4 waits for our pings, which are sent whatever happens.
                Beat::Pong if self.member.outbox.version() == Version::V4 => {}
                Beat::Pong => self.beat = Some("3"),
                Beat::Silent => return Err(Ended::Silent),
                Beat::Stalled => return Err(Ended::Stalled),
                Beat::Slow => return Err(Ended::Slow),
            }
        }
        Ok(())
    }
}
