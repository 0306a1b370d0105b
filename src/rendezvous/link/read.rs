//! How a link reads, and what keeps it from reading on.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    Ended, Link,
    inbox::Handled,
    quota_wait::{self, Passed},
    registered::{Registered, Step},
    way::Waiting,
};
use crate::{
    runtime::now,
    websocket::{Input, Message, Output, ReadError},
};

/// The number of messages that are read before the link checks whether there is something to write.
const READS: usize = 32;

impl<S: Input + Output> Link<S> {
    /// Reads some messages. `writer` is the proof that the task is woken when there is something to write, or room for it.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        writer: Registered,
    ) -> Result<Step, Ended> {
        if let Some(spending) = &mut self.spending {
            if !spending.step(&self.member) {
                self.spending = None;
            }
            return Ok(Step::Again);
        }
        // This comes first, even while nothing is read: the pass may hold the queue's timer or a turn, and other
        // senders wait for both.
        let limited = Registered::unless_ready(self.poll_limited(cx)).err();
        if self.spending.is_some() {
            return Ok(Step::Again);
        }
        if let Some(rest) = &mut self.rest {
            if let Err(registered) = Registered::unless_ready(rest.as_mut().poll(cx)) {
                return Ok(Step::Sleep(registered));
            }
            self.rest = None;
        }
        if let Some(joining) = &mut self.joining {
            let rest = match Registered::unless_ready(joining.poll(&self.member, cx)) {
                Ok(rest) => rest,
                Err(registered) => {
                    self.poll_ahead(cx)?;
                    return Ok(Step::Sleep(registered));
                }
            };
            self.joining = None;
            if let Some(until) = rest {
                self.rest_until(until);
            }
            return Ok(Step::Again);
        }
        match Registered::unless_ready(self.poll_waiting(cx)) {
            Ok(()) => self.poll_messages(cx, writer, limited),
            Err(registered) => Ok(Step::Sleep(registered)),
        }
    }

    /// Reads some messages, while nothing but an item that waits for a quota keeps the link from it. `limited` is the
    /// proof that the task is woken when that item may pass.
    fn poll_messages(
        &mut self,
        cx: &mut Context<'_>,
        writer: Registered,
        limited: Option<Registered>,
    ) -> Result<Step, Ended> {
        for read in 0..READS {
            if self.member.outbox.is_clogged() {
                return Ok(Step::after(read, writer));
            }
            if let Some(limited) = limited.filter(|_| self.ahead.is_some()) {
                return Ok(Step::after(read, limited));
            }
            let message = match self.ahead.take() {
                Some(message) => *message,
                None => match Registered::unless_ready(self.poll_message(cx)) {
                    Ok(message) => message?,
                    Err(registered) => return Ok(Step::after(read, registered)),
                },
            };
            if let Some(limited) = limited.filter(|_| !self.inbox.may_overtake(&message)) {
                if matches!(message, Message::Close(_)) {
                    return Err(Ended::ByPeer);
                }
                self.ahead = Some(Box::new(message));
                return Ok(Step::after(read, limited));
            }
            self.handle(message)?;
            // The item may find no room at its destination, or a spent daily quota may end the link's dials.
            let has_passed = limited.is_some() || self.poll_limited(cx).is_ready();
            if !has_passed || !self.goes_on() {
                return Ok(Step::Again);
            }
        }
        Ok(Step::Again)
    }

    /// Deals with a message.
    fn handle(&mut self, message: Message) -> Result<(), Ended> {
        // The WebSocket answers a ping with a pong, which has to be flushed.
        self.unflushed |= matches!(message, Message::Ping(_));
        match self.inbox.handle(&self.member, message)? {
            Handled::Done => {}
            Handled::Ping(pong) => self.next_beat = Some(pong),
            Handled::Rest(until) => self.rest_until(until),
            Handled::Join(joining) => self.joining = Some(joining),
            Handled::Limit(limited) => {
                self.limited = Some(limited);
                // The sender has come back with its next item, so it needs the turn of the last one no longer.
                self.turn = None;
            }
            Handled::Wait(waiting) => self.wait(waiting),
        }
        Ok(())
    }

    /// Returns whether the next message may be read, apart from an item that waits for a quota.
    pub(super) fn goes_on(&self) -> bool {
        self.rest.is_none()
            && self.joining.is_none()
            && self.waiting.is_none()
            && self.spending.is_none()
    }

    fn wait(&mut self, waiting: Waiting) {
        let (taken, now) = (waiting.taken(), now());
        if self.holds.begin(waiting.to(), taken, now) && (waiting.goes_on() || self.has_one_dial())
        {
            self.holds.excuse(taken, now);
        }
        self.waiting = Some(waiting);
    }

    /// Becomes ready when no item waits for a quota.
    fn poll_limited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.limited.is_none() {
            return Poll::Ready(());
        }
        match ready!(quota_wait::poll(&mut self.limited, &self.member, cx)) {
            Passed::Relayed(waiting, turn) => {
                self.turn = Some(turn);
                if let Some(waiting) = waiting {
                    self.wait(waiting);
                }
            }
            Passed::Over => {}
            Passed::Spent(spending) => self.spending = Some(Box::new(spending)),
        }
        Poll::Ready(())
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Ended>> {
        let next = ready!(self.socket.poll_next(cx));
        Poll::Ready(match next {
            None => Err(Ended::ByPeer),
            Some(message) => message.map_err(|error| self.read_error(error)),
        })
    }

    /// Reads one message, and keeps it until its turn.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        if self.ahead.is_none()
            && let Poll::Ready(message) = self.poll_message(cx)
        {
            let message = message?;
            if matches!(message, Message::Close(_)) {
                return Err(Ended::ByPeer);
            }
            self.ahead = Some(Box::new(message));
        }
        Ok(())
    }

    /// Stops reading until then.
    fn rest_until(&mut self, until: std::time::Instant) {
        self.rest = Some(Box::pin(tokio::time::sleep_until(until.into())));
    }

    /// Becomes ready when nothing waits any more: the parcel has found room, or its dial is given up.
    ///
    /// During the wait, the link does not check whether the peer has hung up. What the peer sent before that still has
    /// to be delivered, and how long that may take depends on the destination.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else {
            return Poll::Ready(());
        };
        let is_over = waiting.is_over();
        let has_room = !is_over && Pin::new(&mut waiting.push).poll(cx).is_ready();
        if !is_over && !has_room {
            ready!(self.poll_patience(cx));
        }
        if let Some(waiting) = self.waiting.take() {
            self.holds.end(waiting.taken(), now());
            if has_room {
                // If the destination is gone, the registry is about to notify this link.
                self.inbox.handle_sent(&self.member, waiting);
            } else if !is_over {
                self.inbox.give_up(&self.member, waiting);
            }
        }
        Poll::Ready(())
    }

    /// Becomes ready when the parcel has waited for too long. The timer is kept from one wait to the next, because most
    /// waits are short.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(look) = self.holds.next_look() {
            let at = Instant::from_std(look);
            let new = || Box::pin(tokio::time::sleep_until(at));
            let timer = self.patience.get_or_insert_with(new);
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            ready!(timer.as_mut().poll(cx));
            self.patience = None;
            let now = now();
            // The timer may have been set for an earlier wait.
            if look <= now {
                self.look_at_holds(now);
                if self.holds.next_look().is_none_or(|next| next <= now) {
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    /// Records what the destination has taken, and clears its debt if it has held up no other dial.
    fn look_at_holds(&mut self, now: std::time::Instant) {
        let taken = self.waiting.as_ref().map_or(0, Waiting::taken);
        let stall_timeout = self.member.hub.config().limits().stall_timeout;
        let goes_on = self.waiting.as_ref().is_some_and(Waiting::goes_on);
        if goes_on || self.holds.waited(now) < stall_timeout && self.has_one_dial() {
            self.holds.excuse(taken, now);
        } else {
            self.holds.pay(taken, now);
        }
    }

    /// Returns whether there is no other dial to hold up. Everything that comes over a way goes to one link.
    fn has_one_dial(&self) -> bool {
        #[cfg(feature = "cluster")]
        if self.end == super::Partner::Way {
            return true;
        }
        self.member.hub.has_one_dial(self.member.link)
    }

    fn read_error(&self, error: ReadError) -> Ended {
        match error {
            ReadError::TooLong { .. } => Ended::TooLong(self.message_limit),
            ReadError::Io(error) => Ended::Lost(error),
            ReadError::Violation(error) => Ended::WebSocket(error),
        }
    }
}
