//! Items that wait for a quota, and what becomes of a link whose quota for the day is spent.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    inbox::Handled,
    way::{Delivery, put},
};
use crate::{
    protocol::event::DialId,
    rendezvous::{
        hub::Member,
        quota::{Pass, Spent},
        usage::Meter,
    },
};

/// An item that waits until it may pass.
#[derive(Debug)]
pub(super) struct Limited {
    pub(super) pass: Pass,
    pub(super) meter: Arc<Meter>,
    pub(super) delivery: Delivery,
}

/// What has become of an item that waited.
#[derive(Debug)]
pub(super) enum Passed {
    /// It is handed on, or waits for room now. With it comes its turn, which is to be kept until the link sends the next
    /// one or does not go on.
    On(Handled, Pass),
    /// Its stream is over, and it is dropped.
    Over,
    /// It may not pass today.
    Spent(Spending),
}

impl Limited {
    /// How many bytes wait.
    pub(super) fn cost(&self) -> usize {
        self.delivery.parcel.cost()
    }

    /// Whether its stream has ended meanwhile.
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

/// Hands an item on when it may pass.
pub(super) fn poll(
    slot: &mut Option<Box<Limited>>,
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
    let Limited {
        pass,
        meter,
        delivery,
    } = *limited;
    Poll::Ready(match result {
        None => Passed::Over,
        Some(Ok(())) => Passed::On(put(member, delivery), pass),
        Some(Err(spent)) => Passed::Spent(Spending {
            spent,
            meter,
            last: None,
        }),
    })
}

/// The end of the dials of a link, some at a time, because a quota for the day is spent.
#[derive(Debug)]
pub(super) struct Spending {
    spent: Spent,
    meter: Arc<Meter>,
    last: Option<DialId>,
}

impl Spending {
    /// Ends some; whether there may be more.
    pub(super) fn step(&mut self, member: &Member) -> bool {
        let Self { spent, meter, last } = self;
        *last = member
            .hub
            .with(|registry| registry.handle_day_spent(member.link, meter, *spent, last.as_ref()));
        self.last.is_some()
    }
}
