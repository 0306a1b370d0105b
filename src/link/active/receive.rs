//! What comes over an open link.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;

use super::{Active, MAX_ANSWERS};
use crate::{
    error::{LinkError, ProtocolError},
    link::{
        channel::Channel,
        socket::{closed, read_error},
    },
    protocol::{
        event::{StreamEvent, StreamName},
        session::Received,
        stream::StreamError,
    },
    websocket::Message,
    words::Words,
};

/// Messages read before the socket is written again.
const READ_BATCH: usize = 64;

/// Items on their way from the socket to their channels.
#[derive(Default)]
pub(super) struct Intake {
    /// The channel that the next binary frame is for; `None` inside if it is gone.
    expected: Option<Option<Arc<Channel>>>,
    parked: Option<Parked>,
}

/// An item whose connection has no room for it. The link is not read meanwhile.
struct Parked {
    channel: Arc<Channel>,
    item: Bytes,
    deadline: Instant,
}

impl Intake {
    pub(super) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// When the connection of the parked item is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.parked.as_ref().map(|parked| parked.deadline)
    }
}

impl Active<'_> {
    /// Reads a batch of messages, unless an item is parked. Tells whether there may be more.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        for _ in 0..READ_BATCH {
            if self.intake.is_parked() {
                return Ok(false);
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
            // Before the next message: that may be the end of a dial that this one has begun.
            Received::Handled => self.handle_outputs(),
            Received::Stream(stream, event) => self.handle_stream_event(stream, event),
            Received::Item(item) => self.handle_item(item),
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
        if let Err(item) = channel.deliver(item) {
            let deadline = self.now + self.driver.context.stall_timeout;
            self.intake.parked = Some(Parked {
                channel,
                item,
                deadline,
            });
        }
    }

    /// Tries to get rid of the parked item; gives up its connection after the stall timeout.
    pub(super) fn retry_parked(&mut self) {
        let Some(parked) = self.intake.parked.take() else {
            return;
        };
        match parked.channel.deliver(parked.item) {
            Ok(()) => {}
            Err(_) if parked.deadline <= self.now => {
                tracing::debug!(dial_id = %parked.channel.dial_id(), "a reader stalls the link");
                parked
                    .channel
                    .abort(StreamError::ReaderStalled, "the reader stalled");
            }
            Err(item) => self.intake.parked = Some(Parked { item, ..parked }),
        }
    }

    fn handle_stream_event(&mut self, stream: StreamName<'_>, event: StreamEvent) {
        let channel = self.channels.get(stream.dial_id).cloned();
        let Some(channel) = channel else {
            // It may have been on its way when we forgot the dial.
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
            StreamEvent::Accept if ours => channel.accepted(),
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
            StreamEvent::Item(_) | StreamEvent::Accept | StreamEvent::Malformed => {}
        }
    }
}
