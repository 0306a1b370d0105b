//! An item's wait until the quotas let it pass.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use tokio::time::{Instant, Sleep};

use super::{
    Quotas,
    queue::{Queue, Taken, Ticket},
    settings::Spent,
};
use crate::{
    rendezvous::day::{Day, until_tomorrow},
    runtime::now,
};

/// An item that waits until it may pass. After it has passed, it holds its sender's turn until it is dropped. So a
/// sender of small items that has more of them is not passed over while it reads the next one.
#[derive(Debug)]
pub(in crate::rendezvous) struct Pass {
    quotas: Arc<Quotas>,
    ticket: Ticket,
    /// The queue's timer, if this item has it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pass {
    pub(super) fn new(quotas: Arc<Quotas>, ticket: Ticket) -> Self {
        Self {
            quotas,
            ticket,
            timer: None,
        }
    }

    /// Becomes ready once, when the item may pass, or when a daily quota is spent so that it may not pass today.
    pub(in crate::rendezvous) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Spent>> {
        loop {
            let ticket = self.ticket;
            let taken = run(
                &self.quotas,
                |_| (),
                |queue, woken| queue.poll(ticket, cx.waker(), woken),
            );
            let look = match taken {
                Taken::Passed(result) => {
                    self.timer = None;
                    let left = until_tomorrow(SystemTime::now());
                    return Poll::Ready(result.map_err(|whose| Spent::new(whose, left)));
                }
                Taken::Waits(look) => look,
            };
            let Some(look) = look else {
                self.timer = None;
                return Poll::Pending;
            };
            let at = Instant::from_std(look);
            let new = || Box::pin(tokio::time::sleep_until(at));
            let timer = self.timer.get_or_insert_with(new);
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

/// Applies `change` to the queue, lets items pass that may pass then, some at a time, and returns what `look` finds.
fn run<R>(
    quotas: &Quotas,
    change: impl FnOnce(&mut Queue),
    look: impl FnOnce(&mut Queue, &mut Vec<Waker>) -> R,
) -> R {
    let (now, today) = (now(), Day::of(SystemTime::now()));
    let mut change = Some(change);
    loop {
        let mut woken: Vec<Waker> = Vec::new();
        let mut queue = quotas.lock();
        if let Some(change) = change.take() {
            change(&mut queue);
        }
        if queue.run(now, today, &mut woken) {
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
            continue;
        }
        let found = look(&mut queue, &mut woken);
        drop(queue);
        woken.into_iter().for_each(Waker::wake);
        return found;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let ticket = self.ticket;
        run(&self.quotas, |queue| queue.leave(ticket), |_, _| ());
    }
}
