//! A join in progress: its proof is checked, the application may be asked about it, and the registry is told the
//! outcome.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use crate::{
    protocol::refusal::Refusal,
    rendezvous::{
        access::{Asked, Doorkeeper, Grant, Judging},
        challenge::{Check, Checked},
        hub::Member,
        outbox::CloseReason,
    },
    runtime::now,
    words::Words,
};

/// How far a join has come.
pub(super) enum Begun {
    /// The registry knows the outcome. If the link was refused too often, nothing may be read from it until this time.
    Told(Option<Instant>),
    Waits(Box<Joining>),
}

/// A join with a valid proof, on which the application has not decided yet.
#[derive(Debug)]
pub(super) struct Joining {
    /// The join; `None` once it is decided.
    checked: Option<Checked>,
    judging: Judging,
    round: u64,
}

/// Checks the proof of a join, and asks the application about the join if there is a doorkeeper.
pub(super) fn begin(member: &Member, check: Check) -> Begun {
    let checked = check.run();
    if let Some(address) = checked.proved() {
        tracing::Span::current().record("peer", tracing::field::display(Words(address)));
    }
    let Some(doorkeeper) = member.hub.doorkeeper() else {
        return Begun::Told(finish(member, checked));
    };
    let visit = member.visit.clone().unwrap_or_default();
    let Some(join) = checked.join(member.client, visit) else {
        return Begun::Told(finish(member, checked));
    };
    // The round is read before the application is asked, so that a change during the decision is noticed.
    let round = doorkeeper.rounds();
    match doorkeeper.ask(join, || member.claimant) {
        Asked::Judged(judged) => Begun::Told(decided(member, doorkeeper, checked, judged, round)),
        Asked::Waits(judging) => Begun::Waits(Box::new(Joining {
            checked: Some(checked),
            judging,
            round,
        })),
    }
}

impl Joining {
    /// Becomes ready once, when the join is decided and the registry knows; the output is that of [`Begun::Told`].
    pub(super) fn poll(&mut self, member: &Member, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        let judged = ready!(self.judging.poll(cx));
        let decided = match (self.checked.take(), member.hub.doorkeeper()) {
            (Some(checked), Some(doorkeeper)) => {
                decided(member, doorkeeper, checked, judged, self.round)
            }
            _ => None,
        };
        Poll::Ready(decided)
    }
}

/// Tells the registry the outcome of a join about which the application was asked in `round`.
fn decided(
    member: &Member,
    doorkeeper: &Doorkeeper,
    checked: Checked,
    judged: Result<Arc<Grant>, Refusal>,
    round: u64,
) -> Option<Instant> {
    let grant = judged.as_ref().ok().cloned();
    let rest = finish(member, checked.judged(judged));
    if let Some(grant) = grant
        && doorkeeper.rounds() != round
        && !doorkeeper.still_allows(grant.join())
    {
        member.outbox.close(CloseReason::NoLongerAllowed);
    }
    rest
}

/// Tells the registry the outcome of a join.
fn finish(member: &Member, checked: Checked) -> Option<Instant> {
    let (joined, rest) = member.hub.with(|registry| {
        registry.handle_checked(member.link, checked, now());
        (
            registry.has_joined(member.link),
            registry.poll_rest(member.link),
        )
    });
    member.set_joined(joined);
    rest
}
