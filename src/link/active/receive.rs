//! The receiving side of an open link.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use web_time::Instant;

use super::{Active, MAX_ANSWERS};
use crate::{
    channel::Channel,
    error::{LinkError, ProtocolError},
    link::socket::{closed, read_error},
    protocol::{
        event::{StreamEvent, StreamName},
        session::Received,
        stream::{Refused, StreamError},
    },
    websocket::Message,
    words::Words,
};

/// The beginning of the answer to a heartbeat.
const PONG: &str = "3";
/// The number of messages read before the socket is written again.
const READ_BATCH: usize = 64;

/// Items on their way from the socket to their channels.
#[derive(Default)]
pub(super) struct Intake {
    /// The channel that the next binary frame is for. The inner `None` means that the channel is gone.
    expected: Option<Option<Arc<Channel>>>,
    parked: Option<Parked>,
}

/// An item that its connection has no room for. The link is not read while it waits.
struct Parked {
    channel: Arc<Channel>,
    item: Bytes,
    since: Instant,
    /// The time since which the item holds up other connections. There may have been none before.
    shared_since: Option<Instant>,
}

impl Parked {
    /// Extends the deadlines by a time in which the reader could not run.
    fn forgive(&mut self, time: Duration) {
        self.since += time;
        self.shared_since = self.shared_since.map(|since| since + time);
    }
}

impl Intake {
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Extends the deadlines by a time in which nothing could run.
    pub(super) fn forgive(&mut self, time: Duration) {
        if let Some(parked) = &mut self.parked {
            parked.forgive(time);
        }
    }
}

impl Active<'_> {
    /// Reads a batch of messages, unless an item is parked. Returns whether there may be more.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        for _ in 0..READ_BATCH {
            if self.intake.is_parked() {
                // Unread messages are lost, like data in the buffer of a broken socket.
                return match self.ws.lost() {
                    Some(error) => Err(LinkError::Io(Arc::new(error))),
                    None => Ok(false),
                };
            }
            let Poll::Ready(message) = self.ws.poll_next(cx) else {
                return Ok(false);
            };
            let message = message
                .ok_or(LinkError::Closed(None))?
                .map_err(read_error)?;
            if let Some(text) = message.as_text() {
                self.handle_text(text)?;
            } else if let Message::Binary(data) = message {
                self.handle_binary(data)?;
            } else if let Message::Close(close) = message {
                return Err(closed(close.as_ref()));
            }
        }
        Ok(true)
    }

    fn handle_text(&mut self, text: &str) -> Result<(), LinkError> {
        match self.session.handle_text(self.now, text)? {
            // Outputs are handled before the next message, which may be the end of a dial that this message has begun.
            Received::Handled => {
                self.note_answer(text);
                self.handle_outputs();
            }
            Received::Stream(stream, event) => self.handle_stream_event(stream, event),
            Received::Item(item) => self.handle_item(item),
            Received::Ping(pong) => self.answer_ping(pong)?,
            Received::Close => return Err(LinkError::Closed(None)),
        }
        Ok(())
    }

    /// Records the duration of a heartbeat if `text` is the answer to one.
    fn note_answer(&mut self, text: &str) {
        if let Some(pinged) = self.pinged.take_if(|_| text.starts_with(PONG)) {
            let took = self.now.saturating_duration_since(pinged);
            self.counts.answered(took);
        }
    }

    fn answer_ping(&mut self, pong: String) -> Result<(), LinkError> {
        if self.beats.len() >= MAX_ANSWERS {
            return Err(LinkError::Flooded);
        }
        self.beats.push_back(pong);
        Ok(())
    }

    fn handle_binary(&mut self, frame: Bytes) -> Result<(), ProtocolError> {
        if let Some(item) = self.session.handle_binary(frame)? {
            self.handle_item(item);
        }
        Ok(())
    }

    fn handle_item(&mut self, item: Bytes) {
        if let Some(channel) = self.intake.expected.take().flatten() {
            self.deliver(channel, item);
        }
    }

    fn deliver(&mut self, channel: Arc<Channel>, item: Bytes) {
        match channel.deliver(self.now, item) {
            Ok(()) => {}
            Err(Refused::Full(item)) => {
                let is_shared = self.channels.len() > 1;
                self.intake.parked = Some(Parked {
                    channel,
                    item,
                    since: self.now,
                    shared_since: is_shared.then_some(self.now),
                });
            }
            Err(Refused::CreditExceeded) => {
                let reason = "more was sent than granted";
                channel.abort(StreamError::CreditExceeded, reason);
            }
        }
    }

    /// Tries to deliver the parked item again. Gives up its connection when its deadline has passed.
    pub(super) fn retry_parked(&mut self) {
        let is_shared = self.channels.len() > 1;
        if let Some(parked) = &mut self.intake.parked {
            let since = parked.shared_since.unwrap_or(self.now);
            parked.shared_since = is_shared.then_some(since);
        }
        let deadline = self.parked_deadline();
        let Some(parked) = self.intake.parked.take() else {
            return;
        };
        match parked.channel.redeliver(parked.item) {
            Ok(()) => {
                if let Some(since) = parked.shared_since {
                    parked.channel.add_hold_up(since, self.now);
                }
            }
            Err(_)
                if deadline.is_some_and(|deadline| deadline <= self.now)
                    || self.ws.is_overfull() =>
            {
                tracing::debug!(dial_id = %parked.channel.dial_id(), "a reader stalls the link");
                let reason = "the reader stalled";
                parked.channel.abort(StreamError::ReaderStalled, reason);
            }
            Err(item) => self.intake.parked = Some(Parked { item, ..parked }),
        }
    }

    /// Returns the time at which the connection of the parked item is given up. It is much earlier if the item holds up
    /// other connections.
    pub(super) fn parked_deadline(&self) -> Option<Instant> {
        let parked = self.intake.parked.as_ref()?;
        let context = &self.driver.context;
        let alone = parked.since + context.stall_timeout;
        let Some(since) = parked.shared_since else {
            return Some(alone);
        };
        let held_up = parked.channel.held_up(since);
        let left = context.hold_up_timeout.saturating_sub(held_up);
        Some(alone.min(since + left))
    }

    fn handle_stream_event(&mut self, stream: StreamName<'_>, event: StreamEvent) {
        let channel = self.channels.get(stream.dial_id).cloned();
        let Some(channel) = channel else {
            // The event may have been on its way when we forgot the dial.
            tracing::trace!(stream = %Words(stream), "an event of an unknown stream");
            if event == StreamEvent::BinaryItem {
                self.intake.expected = Some(None);
            }
            return;
        };
        let ours = stream.sender == channel.side();
        match event {
            StreamEvent::BinaryItem => self.intake.expected = Some((!ours).then_some(channel)),
            StreamEvent::Item(item) if !ours => self.deliver(channel, item),
            StreamEvent::Accept(grant) if ours => channel.accepted(grant),
            StreamEvent::End(_) if ours => {
                channel.stopped();
                self.channels.forget_if_over(&channel);
            }
            StreamEvent::End(end) => {
                channel.ended(end);
                self.channels.forget_if_over(&channel);
            }
            StreamEvent::Malformed if !ours => {
                channel.abort(StreamError::MalformedItem, "malformed item");
            }
            StreamEvent::Item(_) | StreamEvent::Accept(_) | StreamEvent::Malformed => {}
        }
    }
}
