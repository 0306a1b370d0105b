//! Items that wait for a quota, and the end of a link's dials when a daily quota is spent.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::way::{Delivery, Waiting, put};
use crate::{
    protocol::event::DialId,
    rendezvous::{
        hub::Member,
        quota::{Pass, Spent},
        usage::Meter,
    },
};

/// An item that waits until the quotas let it pass.
#[derive(Debug)]
pub(super) struct QuotaWait {
    pub(super) pass: Pass,
    pub(super) meter: Arc<Meter>,
    pub(super) delivery: Delivery,
}

/// The outcome of an item's wait.
#[derive(Debug)]
pub(super) enum Passed {
    /// The item is relayed, or waits for room at its destination now. The pass holds the sender's turn. It is to be
    /// kept until the link sends its next item or does not go on.
    Relayed(Option<Waiting>, Pass),
    /// The item's stream is over, and the item is dropped.
    Over,
    /// A daily quota is spent, so the item may not pass today.
    Spent(Spending),
}

impl QuotaWait {
    /// Returns the number of bytes that wait.
    pub(super) fn cost(&self) -> usize {
        self.delivery.parcel.cost()
    }

    /// Returns whether the item's stream has ended meanwhile.
    fn is_over(&self) -> bool {
        let Delivery {
            destination, sent, ..
        } = &self.delivery;
        sent.is_over(&destination.route)
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Spent>>> {
        if self.is_over() {
            return Poll::Ready(None);
        }
        self.pass.poll(cx).map(Some)
    }
}

/// Relays the item in `slot` when it may pass.
pub(super) fn poll(
    slot: &mut Option<Box<QuotaWait>>,
    member: &Member,
    cx: &mut Context<'_>,
) -> Poll<Passed> {
    let Some(limited) = slot else {
        return Poll::Ready(Passed::Over);
    };
    let result = ready!(limited.poll_pass(cx));
    let Some(limited) = slot.take() else {
        return Poll::Ready(Passed::Over);
    };
    let QuotaWait {
        pass,
        meter,
        delivery,
    } = *limited;
    Poll::Ready(match result {
        None => Passed::Over,
        Some(Ok(())) => Passed::Relayed(put(member, delivery), pass),
        Some(Err(spent)) => Passed::Spent(Spending {
            spent,
            meter,
            last: None,
        }),
    })
}

/// The end of a link's dials, some at a time, because a daily quota is spent.
#[derive(Debug)]
pub(super) struct Spending {
    spent: Spent,
    meter: Arc<Meter>,
    last: Option<DialId>,
}

impl Spending {
    /// Ends some dials; returns whether there may be more.
    pub(super) fn step(&mut self, member: &Member) -> bool {
        let Self { spent, meter, last } = self;
        *last = member
            .hub
            .with(|registry| registry.handle_day_spent(member.link, meter, *spent, last.as_ref()));
        self.last.is_some()
    }
}
