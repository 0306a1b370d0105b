//! An open link: moves frames between the socket, the session and the channels.
//!
//! [`dials`] handles commands and the events of the session. [`receive`] handles what comes over the socket, and
//! [`send`] what goes.

mod dials;
mod receive;
mod send;

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use web_time::Instant;

use self::receive::Intake;
use super::{
    driver::Driver,
    heartbeat::{Due, Heartbeat},
    socket::{self, WebSocket},
};
use crate::{
    channel::Channels,
    error::LinkError,
    metrics::OpenLink,
    protocol::{engine_io, session::Session, stream::StreamError},
    runtime::{Changed, Timer, now},
    sync::lock,
};

/// The maximum number of answers that may wait to be sent while the rendezvous goes on asking.
const MAX_ANSWERS: usize = 4096;

/// The longest interval between two scans for idle channels.
const SCAN: Duration = Duration::from_secs(5);
/// The longest time for which a link with nothing to do is kept open. A link that rests for longer is closed.
const SHORT_REST: Duration = Duration::from_secs(20);
/// The number of scans during which a peer may keep unused credit: two minutes, which is longer than a stalled link may
/// live.
const KEPT_SCANS: u32 = 24;

/// The lateness of a timer from which on the program is assumed to have been unable to run. In a hidden page, timers
/// are up to a second late by themselves.
const LATE: Duration = Duration::from_secs(2);
/// The time after such a pause in which readers may read what has come, before deadlines count again.
const LENIENT: Duration = Duration::from_secs(1);

/// The reason why a link is no longer served.
pub(super) enum Lost {
    /// The link has no users any more.
    Unused,
    /// Another link takes its place.
    GaveWay,
    /// The rendezvous has told all users of the link to come again later.
    Resting,
    /// The rendezvous waits for the answer to a challenge that we do not know, for as long as the link lasts.
    Stale,
    Failed(LinkError),
}

pub(super) struct Active<'d> {
    /// The state that outlives this link.
    driver: &'d mut Driver,
    /// The current time, taken at the start of each poll.
    now: Instant,
    ws: WebSocket,
    session: Session,
    heartbeat: Heartbeat,
    counts: OpenLink,
    /// The time at which the unanswered heartbeat was queued.
    pinged: Option<Instant>,
    /// The number of bytes that had been received at the last sign of life.
    received: u64,
    /// Whether joining needs a new link, and closing this one loses nothing.
    stale: bool,
    channels: Channels,
    intake: Intake,
    /// Heartbeats, and answers to heartbeats, that wait to be sent.
    beats: VecDeque<String>,
    timer: Timer,
    /// The time for which the timer is set.
    due: Option<Instant>,
    /// The time until which no deadline counts.
    lenient_until: Instant,
    next_scan: Instant,
    next_give_back: Instant,
}

impl<'d> Active<'d> {
    pub(super) fn new(driver: &'d mut Driver, ws: WebSocket, open: &engine_io::Open) -> Self {
        let now = now();
        let mut active = Self {
            ws,
            now,
            session: Session::new(driver.context.settings.clone()),
            heartbeat: Heartbeat::new(open, now),
            counts: driver.context.counts.open_link(driver.url.clone()),
            pinged: None,
            received: 0,
            stale: false,
            channels: Channels::default(),
            intake: Intake::default(),
            beats: VecDeque::new(),
            timer: Timer::default(),
            due: None,
            lenient_until: now,
            next_scan: now,
            next_give_back: now,
            driver,
        };
        lock(&active.driver.mailbox.spellings).clear();
        for (_, listener) in &mut active.driver.users.listeners {
            if listener.may_join(now) {
                active.session.listen(now, &listener.address);
            }
        }
        let dials: Vec<_> = active.driver.users.dials.keys().cloned().collect();
        for dial_id in dials {
            active.start_dial(dial_id);
        }
        active
    }

    /// Serves the link until it is lost, or unused and closed.
    pub(super) async fn run(mut self) -> Lost {
        let lost = poll_fn(|cx| self.poll(cx)).await;
        match &lost {
            Lost::Unused | Lost::Stale | Lost::GaveWay | Lost::Resting => {
                socket::leave(self.ws, &LinkError::Closed(None));
            }
            Lost::Failed(error) => socket::leave(self.ws, error),
        }
        lost
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        self.driver.mailbox.register(cx.waker());
        self.now = now();
        while let Some(command) = self.driver.mailbox.pop() {
            self.handle_command(command);
        }
        if self.driver.mailbox.gives_way() {
            return Poll::Ready(Lost::GaveWay);
        }
        self.forgive_lateness();
        self.heed_changes(cx);
        match self.poll_serve(cx) {
            Ok(_) if self.stale => Poll::Ready(Lost::Stale),
            Ok(flushed) => {
                self.driver.poll_events(cx);
                let connected = self.channels.len() > self.driver.users.dials.len();
                lock(&self.driver.mailbox.standing).connected(connected, self.now);
                let idle = flushed && self.is_unused();
                if idle && self.driver.mailbox.close_if_idle(|| self.driver.closed()) {
                    return Poll::Ready(Lost::Unused);
                }
                if flushed && self.is_resting() {
                    return Poll::Ready(Lost::Resting);
                }
                Poll::Pending
            }
            Err(error) => Poll::Ready(Lost::Failed(error)),
        }
    }

    /// Extends the deadlines if the timer was very late. A program that could not run in time, as in a frozen page, has
    /// not read what came meanwhile; nor have the readers.
    fn forgive_lateness(&mut self) {
        let due = self.due.take();
        let late = due.map_or(Duration::ZERO, |due| {
            self.now.saturating_duration_since(due)
        });
        if late >= LATE {
            self.intake.forgive(late);
            self.lenient_until = self.now + LENIENT;
            // The rendezvous may have given up on us.
            self.doubt();
        }
    }

    fn heed_changes(&mut self, cx: &mut Context<'_>) {
        match self.driver.changes.poll(cx) {
            Some(Changed::Network) => self.doubt(),
            Some(Changed::Shown) if self.heartbeat.is_quiet(self.now) => self.doubt(),
            Some(Changed::Shown) | None => {}
        }
    }

    fn doubt(&mut self) {
        self.heartbeat.doubt(self.ws.queued() > 0, self.now);
    }

    /// Reads, writes and handles deadlines until all of them wait. Returns whether everything is written.
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        self.retry_parked();
        let more = self.poll_receive(cx)?;
        self.handle_deadlines()?;
        self.handle_outputs();
        let flushed = self.poll_send(cx)?;
        if !flushed && (self.session.transmits() > MAX_ANSWERS) {
            return Err(LinkError::Flooded);
        }
        self.poll_timer(cx);
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(flushed)
    }

    fn is_unused(&self) -> bool {
        self.driver.users.is_empty()
            && self.driver.events.is_empty()
            && self.channels.is_empty()
            && self.session.transmits() == 0
    }

    /// Returns whether there is nothing to do for so long that the rendezvous need not keep the link.
    fn is_resting(&self) -> bool {
        let until = self.driver.users.rest_until(self.now);
        until.is_some_and(|until| until > self.now + SHORT_REST)
            && self.channels.is_empty()
            && self.session.transmits() == 0
    }

    fn handle_deadlines(&mut self) -> Result<(), LinkError> {
        self.note_signs_of_life();
        if self.now < self.lenient_until {
            return Ok(());
        }
        self.session.handle_timeout(self.now);
        self.keep_heartbeat()?;
        for (_, listener) in &mut self.driver.users.listeners {
            if listener.retry.is_some_and(|retry| retry <= self.now) {
                listener.retry = None;
                self.session.listen(self.now, &listener.address);
            }
        }
        if self.next_scan <= self.now {
            self.scan_channels();
        }
        Ok(())
    }

    fn note_signs_of_life(&mut self) {
        let received = self.ws.received();
        // A link that we do not read cannot give a sign of life.
        if received != self.received || self.intake.is_parked() {
            self.received = received;
            self.heartbeat.alive(self.now);
        }
    }

    fn keep_heartbeat(&mut self) -> Result<(), LinkError> {
        match self.heartbeat.poll(self.now) {
            Due::Nothing => {}
            // With so many unwritten heartbeats, another one would not be read either.
            Due::Ping if self.beats.len() >= MAX_ANSWERS => {}
            Due::Ping => {
                self.beats.push_back(engine_io::Packet::Ping("").encode());
                self.pinged.get_or_insert(self.now);
            }
            Due::Dead(time) => return Err(LinkError::Heartbeat(time)),
        }
        Ok(())
    }

    /// Gives up the channels whose stream the other peer does not accept, and gives back credit of idle ones.
    fn scan_channels(&mut self) {
        let timeout = self.driver.context.stall_timeout;
        if self.next_give_back <= self.now {
            self.next_give_back = self.now + SCAN;
            // While the link is not read, we cannot learn what the peers give back.
            let limit = (!self.intake.is_parked()).then_some(KEPT_SCANS);
            self.channels.give_back(self.now, limit);
        }
        self.next_scan = (self.now + timeout / 4).min(self.next_give_back);
        for channel in self.channels.iter() {
            if channel.is_unaccepted_for(timeout, self.now) {
                channel.abort(StreamError::NotAccepted, "the stream was not accepted");
            }
        }
    }

    /// Wakes the task at the next deadline.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let listeners = self.driver.users.listeners.iter();
        let retries = listeners.filter_map(|(_, listener)| listener.retry);
        let scan = (!self.channels.is_empty()).then_some(self.next_scan);
        let next = [self.session.poll_timeout(), scan, self.parked_deadline()]
            .into_iter()
            .flatten()
            .chain(retries)
            .fold(self.heartbeat.next(), Instant::min)
            .max(self.lenient_until);
        self.due = Some(next);
        if self.timer.poll(next, cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
