//! The state that a connection and its link share: a pair of streams, and the wakers of the tasks that wait for it.

mod channels;
mod hold_up;
mod pledges;
mod ready;
mod turns;

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use web_time::Instant;

pub(crate) use self::{channels::Channels, ready::Ready, turns::Turn};
use self::{
    hold_up::HoldUps,
    pledges::{Pledges, Share},
};
use crate::{
    metrics::{OpenStream, Reset},
    protocol::{
        credit::{FIRST, Grant},
        event::{DialId, End, Side, StreamName},
        stream::{Budgets, Pair, Read, Refused, StreamError, Transmit},
    },
    sync::lock,
};

#[derive(Debug)]
pub(crate) struct Channel {
    dial_id: DialId,
    /// Our side of the dial.
    side: Side,
    /// The text frame that goes before each item that we send.
    queue_header: Bytes,
    budgets: Budgets,
    state: Mutex<State>,
    ready: Arc<Ready<Self>>,
    counted: OpenStream,
}

/// The data that a channel sends in one turn.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) what: Transmit,
    /// The end of the turn.
    pub(crate) turn: turns::Ended,
    /// The number of bytes to send in the next turn.
    pub(crate) next_bytes: usize,
}

#[derive(Debug)]
struct State {
    pair: Pair,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether the channel is in the queue or with the link, so that it need not be queued again.
    scheduled: bool,
    /// The end of the channel's last turn.
    last_turn: turns::Ended,
    /// Whether the link is to ask the channel for a grant. The channel is then in the queue or with the link for
    /// that.
    granting: bool,
    /// Whether we have accepted the other peer's stream. Only then may we send further accepts.
    accepting: bool,
    /// The credit that we give back, and that the other peer does not know of yet.
    returned: u64,
    /// The amount that the other peer had used when it was first seen keeping credit, and the number of times that this
    /// was seen since.
    kept: Option<(u64, u32)>,
    /// The share of this channel as it is counted in the link's pledges.
    share: Share,
    /// Whether the link waits for room for an item.
    parked: bool,
    hold_ups: HoldUps,
    /// The time since which something waits for the other peer to accept our stream.
    unaccepted_since: Option<Instant>,
    our_end: OurEnd,
    /// Whether the connection is in use and was not reset yet.
    is_whole: bool,
}

/// The state of the end of our direction.
#[derive(Debug)]
enum OurEnd {
    /// The end was not sent yet, and may never be.
    Ahead,
    /// The link has the end, behind all written data.
    WithLink,
    /// The socket has the end.
    Flushed,
    /// The link was lost before the socket had the end.
    Lost(StreamError),
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Wakes the waiting writer if there is room for much data.
    fn wake_writer_for_room(&mut self, budgets: &Budgets) {
        let sink = &self.pair.sink;
        let has_room = sink.held() <= budgets.send / 2 && sink.room() > 0;
        // A task that waits for the end to be flushed is woken by the flush.
        let is_closing = matches!(self.our_end, OurEnd::WithLink);
        if !is_closing && (has_room || sink.is_over()) {
            self.wake_writer();
        }
    }

    fn wake_both(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    /// Updates `pledges` with the amount that is pledged to the other peer.
    fn account(&mut self, now: Instant, pledges: &mut Pledges) {
        let source = &self.pair.source;
        let share = Share::new(source.pledged(), source.in_use(now));
        pledges.change(std::mem::replace(&mut self.share, share), share);
    }
}

/// The methods for the connection.
impl Channel {
    /// Notes that the connection is in use.
    pub(crate) fn taken(&self) {
        lock(&self.state).is_whole = true;
    }

    pub(crate) fn poll_read(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        let mut state = lock(&self.state);
        let read = state.pair.source.read(buffer);
        if state.parked && state.pair.source.cost() <= self.budgets.receive / 2 {
            state.parked = false;
            self.ready.wake();
        }
        self.schedule_grant(&mut state);
        match read {
            Read::Data(n) => Poll::Ready(Ok(n)),
            Read::End => Poll::Ready(Ok(0)),
            Read::Reset(error) => Poll::Ready(Err(error)),
            Read::Pending => {
                store(&mut state.reader, cx);
                Poll::Pending
            }
        }
    }

    /// Writes as [`Sink::write`](crate::protocol::stream::Sink::write) does. The error is `Err(None)` after our own
    /// close.
    pub(crate) fn poll_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, Option<StreamError>>> {
        let mut state = lock(&self.state);
        match state.pair.sink.write(data)? {
            0 if !data.is_empty() => {
                store(&mut state.writer, cx);
                // The writer may not have flushed yet. The data that fills the budget must be sent all the same.
                state.pair.sink.flush();
                self.schedule(state);
                Poll::Pending
            }
            n => {
                self.schedule(state);
                Poll::Ready(Ok(n))
            }
        }
    }

    pub(crate) fn flush(self: &Arc<Self>) -> Result<(), StreamError> {
        let mut state = lock(&self.state);
        if let Some(error) = state.pair.sink.error() {
            return Err(error.clone());
        }
        state.pair.sink.flush();
        self.schedule(state);
        Ok(())
    }

    pub(crate) fn poll_close(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let mut state = lock(&self.state);
        if let Some(error) = state.pair.sink.error() {
            return Poll::Ready(Err(error.clone()));
        }
        match &state.our_end {
            OurEnd::Flushed => return Poll::Ready(Ok(())),
            OurEnd::Lost(error) => return Poll::Ready(Err(error.clone())),
            OurEnd::Ahead | OurEnd::WithLink => {}
        }
        state.pair.sink.close();
        store(&mut state.writer, cx);
        self.schedule(state);
        Poll::Pending
    }

    pub(crate) fn dropped(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        state.pair.dropped();
        state.is_whole = false;
        (state.reader, state.writer) = (None, None);
        if std::mem::take(&mut state.parked) {
            self.ready.wake();
        }
        self.schedule(state);
    }
}

/// The methods for the link.
impl Channel {
    pub(crate) fn new(
        dial_id: DialId,
        side: Side,
        budgets: Budgets,
        ready: Arc<Ready<Self>>,
        counted: OpenStream,
    ) -> Arc<Self> {
        let stream = StreamName {
            dial_id: dial_id.as_str(),
            sender: side,
        };
        Arc::new(Self {
            queue_header: stream.queue_header().into(),
            dial_id,
            side,
            budgets,
            state: Mutex::new(State {
                pair: Pair::new(budgets),
                reader: None,
                writer: None,
                scheduled: false,
                last_turn: turns::Ended::default(),
                granting: false,
                accepting: false,
                returned: 0,
                kept: None,
                share: Share::default(),
                parked: false,
                hold_ups: HoldUps::default(),
                unaccepted_since: None,
                our_end: OurEnd::Ahead,
                is_whole: false,
            }),
            ready,
            counted,
        })
    }

    pub(crate) fn dial_id(&self) -> &DialId {
        &self.dial_id
    }

    pub(crate) fn queue_header(&self) -> Bytes {
        self.queue_header.clone()
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// Returns the name of the stream that `sender` sends.
    pub(crate) fn stream(&self, sender: Side) -> StreamName<'_> {
        StreamName {
            dial_id: self.dial_id.as_str(),
            sender,
        }
    }

    /// Delivers an item to the connection. If there is no room, returns the item; the link is woken when there is room.
    pub(crate) fn deliver(self: &Arc<Self>, now: Instant, item: Bytes) -> Result<(), Refused> {
        let len = item.len();
        let mut state = lock(&self.state);
        let result = state.pair.source.receive(now, item);
        if result.is_ok() {
            self.counted.received(len);
        }
        state.parked = matches!(result, Err(Refused::Full(_)));
        state.wake_reader();
        self.schedule_grant(&mut state);
        result
    }

    /// Delivers an item that was returned before.
    pub(crate) fn redeliver(&self, item: Bytes) -> Result<(), Bytes> {
        let len = item.len();
        let mut state = lock(&self.state);
        let result = state.pair.source.push(item);
        if result.is_ok() {
            self.counted.received(len);
        }
        state.parked = result.is_err();
        state.wake_reader();
        result
    }

    /// Returns for how long the link was held up by now because this channel had no room.
    pub(crate) fn held_up(&self, now: Instant) -> Duration {
        lock(&self.state).hold_ups.held(now)
    }

    /// Records that this channel held up the link.
    pub(crate) fn add_hold_up(&self, since: Instant, until: Instant) {
        lock(&self.state).hold_ups.add(since, until);
    }

    /// Handles an accept of our stream, or a further grant for it.
    pub(crate) fn accepted(self: &Arc<Self>, grant: Option<Grant>) {
        let mut state = lock(&self.state);
        match grant {
            Some(grant) => state.pair.granted(grant),
            None => state.pair.accepted(),
        }
        state.wake_writer_for_room(&self.budgets);
        self.schedule_grant(&mut state);
        self.schedule(state);
    }

    /// Notes that we have accepted the other peer's stream.
    pub(crate) fn accepting(&self) {
        lock(&self.state).accepting = true;
    }

    /// Returns the grant to send for the other peer's stream, if there is one. The total pledge is at most `most`.
    pub(crate) fn poll_grant(
        &self,
        now: Instant,
        pledges: &mut Pledges,
        most: u64,
    ) -> Option<Grant> {
        let mut state = lock(&self.state);
        state.granting = false;
        if !state.accepting {
            return None;
        }
        let allowance = pledges.allowance(state.share, most);
        let grant = Grant {
            credit: state.pair.source.poll_grant(now, allowance).unwrap_or(0),
            returned: std::mem::take(&mut state.returned),
        };
        state.account(now, pledges);
        (grant != Grant::default()).then_some(grant)
    }

    /// Gives back the credit that our stream does not need. The caller calls this every few seconds. Returns how many
    /// times in a row the other peer has kept credit that it does not need: in that time it has used less than a first
    /// credit.
    pub(crate) fn give_back(self: &Arc<Self>, now: Instant, pledges: &mut Pledges) -> u32 {
        let mut state = lock(&self.state);
        state.account(now, pledges);
        if let Some(returned) = state.pair.give_back() {
            state.returned = state.returned.saturating_add(returned);
        }
        // More may be grantable now than when the link last asked.
        self.schedule_grant(&mut state);
        state.kept = match (state.pair.source.kept(), state.kept) {
            (Some(used), Some((before, times))) if used < before + FIRST => {
                Some((before, times + 1))
            }
            (used, _) => used.map(|used| (used, 0)),
        };
        let times = state.kept.map_or(0, |(_, times)| times);
        self.schedule(state);
        times
    }

    /// Releases the pledge of a channel that is over and that the link has forgotten.
    pub(crate) fn forgotten(&self, pledges: &mut Pledges) {
        let share = std::mem::take(&mut lock(&self.state).share);
        pledges.change(share, Share::default());
    }

    pub(crate) fn ended(&self, end: End) {
        let mut state = lock(&self.state);
        if matches!(end, End::Error(_)) {
            self.count_reset(&mut state, Some(Reset::ByPeer));
        }
        state.pair.ended(end);
        state.wake_both();
    }

    pub(crate) fn stopped(&self) {
        let mut state = lock(&self.state);
        state.pair.stopped();
        state.wake_writer();
    }

    pub(crate) fn reset(&self, error: StreamError) {
        let mut state = lock(&self.state);
        if matches!(state.our_end, OurEnd::WithLink) {
            state.our_end = OurEnd::Lost(error.clone());
        }
        self.count_reset(&mut state, Reset::of(&error));
        state.pair.reset(error);
        state.returned = 0;
        state.parked = false;
        state.wake_both();
    }

    /// Counts a reset once, unless the connection was over or is not in use.
    fn count_reset(&self, state: &mut State, reason: Option<Reset>) {
        let is_whole = std::mem::take(&mut state.is_whole) && !state.pair.is_over();
        if let Some(reason) = reason.filter(|_| is_whole) {
            self.counted.reset(reason);
        }
    }

    /// Resets both directions, and tells the other peer the reason.
    pub(crate) fn abort(self: &Arc<Self>, error: StreamError, reason: &str) {
        let mut state = lock(&self.state);
        self.count_reset(&mut state, Reset::of(&error));
        state.pair.abort(error, reason);
        state.parked = false;
        state.wake_both();
        self.schedule(state);
    }

    /// Returns the next thing to send in this turn. `None` removes the channel from the schedule.
    pub(crate) fn transmit(&self, turn: Turn) -> Option<Sent> {
        let mut state = lock(&self.state);
        let transmit = state.pair.poll_transmit();
        state.scheduled = transmit.is_some();
        if transmit == Some(Transmit::End(End::Finished)) {
            state.our_end = OurEnd::WithLink;
        }
        state.wake_writer_for_room(&self.budgets);
        let what = transmit?;
        let bytes = match &what {
            Transmit::Item(item) => item.len(),
            Transmit::End(_) | Transmit::Stop => 0,
        };
        // The first byte of an item is its type.
        self.counted.sent(bytes.saturating_sub(1));
        state.last_turn = turn.end(bytes);
        Some(Sent {
            what,
            turn: state.last_turn,
            next_bytes: state.pair.sink.next_bytes(),
        })
    }

    /// Returns the end of the channel's last turn, and the number of bytes that it sends in the next one.
    pub(crate) fn next_turn(&self) -> (turns::Ended, usize) {
        let state = lock(&self.state);
        (state.last_turn, state.pair.sink.next_bytes())
    }

    /// Handles that the socket has everything that [`transmit`](Self::transmit) returned.
    pub(crate) fn flushed(&self) {
        let mut state = lock(&self.state);
        if matches!(state.our_end, OurEnd::WithLink) {
            state.our_end = OurEnd::Flushed;
            state.wake_writer();
        }
    }

    /// Returns whether our stream has been waiting to be accepted for `timeout` at `now`.
    pub(crate) fn is_unaccepted_for(&self, timeout: Duration, now: Instant) -> bool {
        let mut state = lock(&self.state);
        if !state.pair.sink.is_waiting_for_accept() {
            state.unaccepted_since = None;
            return false;
        }
        let since = *state.unaccepted_since.get_or_insert(now);
        now.saturating_duration_since(since) >= timeout
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).pair.is_over()
    }

    /// Puts the channel in the queue if there is a grant or returned credit to send to the other peer.
    fn schedule_grant(self: &Arc<Self>, state: &mut State) {
        let is_due = state.pair.source.is_grant_due() || state.returned > 0;
        if is_due && !std::mem::replace(&mut state.granting, true) {
            self.ready.push_granting(self.clone());
        }
    }

    /// Puts the channel in the queue if it has something to send and is not there yet.
    fn schedule(self: &Arc<Self>, mut state: std::sync::MutexGuard<'_, State>) {
        if !state.scheduled && state.pair.is_ready() {
            state.scheduled = true;
            drop(state);
            self.ready.push_sending(self.clone());
        }
    }
}

fn store(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
