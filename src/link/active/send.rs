//! The sending side of an open link.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::Active;
use crate::{
    channel::{Channel, Turn},
    error::LinkError,
    link::socket::GATHERED,
    protocol::{
        event::{End, Event, Side, StreamEvent},
        stream::Transmit,
    },
    websocket::Message,
};

impl Active<'_> {
    /// Writes what waits: heartbeats, then events and grants, then the items of the channels in turn. Returns whether
    /// everything is written.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        self.channels.take_ready(&self.driver.mailbox.ready);
        // Ends are flushed before more is written. Under load there is always more, and a connection that closes would
        // wait for all of it.
        if self.channels.has_ending() && !self.poll_flush(cx)? {
            return Ok(false);
        }
        loop {
            if self.ws.queued() >= GATHERED && !self.poll_flush(cx)? {
                return Ok(false);
            }
            if let Some(text) = self.next_text() {
                self.ws.send(Message::text(text));
            } else if let Some((channel, turn)) = self.channels.next_turn() {
                self.send_of_channel(channel, turn);
            } else {
                break;
            }
        }
        self.poll_flush(cx)
    }

    fn next_text(&mut self) -> Option<String> {
        let most = self.driver.context.window;
        let text = self.beats.pop_front();
        text.or_else(|| self.session.poll_transmit())
            .or_else(|| self.channels.poll_grant(self.now, most))
    }

    /// Flushes the socket, and returns whether everything is written.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        match self.ws.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.channels.handle_flushed();
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(LinkError::Io(Arc::new(error))),
            Poll::Pending => Ok(false),
        }
    }

    fn send_of_channel(&mut self, channel: Arc<Channel>, turn: Turn) {
        let Some(sent) = channel.transmit(turn) else {
            return self.channels.forget_if_over(&channel);
        };
        match sent.what {
            Transmit::Item(item) => {
                self.ws.send(Message::Text(channel.queue_header()));
                self.ws.send_buffer(item);
            }
            Transmit::End(reason) => {
                self.ws.send(end(&channel, channel.side(), reason));
                self.channels.push_ending(channel.clone());
            }
            Transmit::Stop => {
                let reason = End::Error("not read any more".to_owned());
                self.ws.send(end(&channel, channel.side().other(), reason));
            }
        }
        self.channels.end_turn(channel, sent.turn, sent.next_bytes);
    }
}

/// Returns the event that ends the stream of `sender`.
fn end(channel: &Channel, sender: Side, end: End) -> Message {
    let event = Event::Stream {
        stream: channel.stream(sender),
        event: StreamEvent::End(end),
    };
    Message::text(event.encode(None))
}
