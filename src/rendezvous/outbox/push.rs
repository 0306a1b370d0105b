//! Waiting for room in an outbox.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Closed, Inner, Outbox, Parcel, Ticket, wake};
use crate::rendezvous::registry::FlowId;

/// A parcel of a dial that waits for room. Dropping it gives up its place in line.
#[derive(Debug)]
pub(in crate::rendezvous) struct Push {
    outbox: Arc<Outbox>,
    flow: FlowId,
    parcel: Option<Parcel>,
    ticket: Option<Ticket>,
}

impl Push {
    pub(in crate::rendezvous) fn new(outbox: Arc<Outbox>, flow: FlowId, parcel: Parcel) -> Self {
        Self {
            outbox,
            flow,
            parcel: Some(parcel),
            ticket: None,
        }
    }

    /// Returns the number of bytes that wait for room.
    pub(in crate::rendezvous) fn cost(&self) -> usize {
        self.parcel.as_ref().map_or(0, Parcel::cost)
    }
}

impl Inner {
    /// Registers a push to be woken when there may be room for its data; returns its ticket.
    fn wait(&mut self, flow: FlowId, ticket: Option<Ticket>, cx: &Context<'_>) -> Ticket {
        let ticket = ticket.unwrap_or_else(|| {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.waiting += 1;
            ticket
        });
        if let Some((_, waker)) = self.line.iter_mut().find(|(other, _)| *other == ticket) {
            waker.clone_from(cx.waker());
        } else if !self.flows.wait(flow, ticket, cx.waker()) {
            self.line.push_back((ticket, cx.waker().clone()));
        }
        ticket
    }

    fn forget(&mut self, flow: FlowId, ticket: Ticket) {
        self.waiting = self.waiting.saturating_sub(1);
        self.flows.forget(flow, ticket);
        match self.line.front() {
            Some((first, _)) if *first == ticket => {
                self.line.pop_front();
            }
            _ => self.line.retain(|(other, _)| *other != ticket),
        }
    }
}

impl Future for Push {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let cost = this.cost();
        let mut inner = this.outbox.lock();
        if inner.is_closing() {
            return Poll::Ready(Err(Closed));
        }
        if !inner.has_room(this.flow, cost, this.outbox.limit, this.ticket) {
            this.ticket = Some(inner.wait(this.flow, this.ticket, cx));
            return Poll::Pending;
        }
        if let Some(ticket) = this.ticket.take() {
            inner.forget(this.flow, ticket);
        }
        let parcel = this.parcel.take();
        let writer = parcel.and_then(|parcel| inner.push_data(this.flow, parcel));
        // There may be room for the next push, too.
        let next = inner.first_in_line(this.outbox.limit);
        this.outbox.unlock(inner);
        wake(writer.into_iter().chain(next));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let mut inner = self.outbox.lock();
        inner.forget(self.flow, ticket);
        // The next push may fit where this one did not.
        let next = inner.first_in_line(self.outbox.limit);
        drop(inner);
        wake(next);
    }
}
