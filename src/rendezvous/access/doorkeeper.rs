//! Asks the application about joins. Limits how many verdicts are in progress, and how long each may take.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Sleep;

use super::{
    Access, AccessCount, Grant, Join, Judgement, Verdict,
    line::{Line, Turn},
};
use crate::{log_limit::LogLimit, protocol::refusal::Refusal, rendezvous::origin::Claimant};

/// The application's answer to a join, or a question that is still open.
#[derive(Debug)]
pub(crate) enum Asked {
    Judged(Result<Arc<Grant>, Refusal>),
    Waits(Judging),
}

#[derive(Debug)]
pub(crate) struct Doorkeeper {
    access: Arc<dyn Access>,
    line: Arc<Line>,
    timeout: Duration,
    /// The number of rounds: how often a check of all joined peers, or the disconnection of a peer, has begun.
    rounds: AtomicU64,
    panicked: LogLimit,
}

impl Doorkeeper {
    pub(crate) fn new(access: Arc<dyn Access>, in_flight: usize, timeout: Duration) -> Self {
        Self {
            access,
            line: Line::new(in_flight),
            timeout,
            rounds: AtomicU64::new(0),
            panicked: LogLimit::default(),
        }
    }

    /// Asks whether a peer may join.
    pub(crate) fn ask(&self, join: Join, claimant: impl FnOnce() -> Claimant) -> Asked {
        match self.access.judge(&join) {
            Judgement::Now(verdict) => Asked::Judged(verdict.of(join)),
            Judgement::Later(verdict) => Asked::Waits(Judging {
                join: Some(join),
                verdict,
                turn: self.line.enter(&claimant()),
                deadline: Box::pin(tokio::time::sleep(self.timeout)),
            }),
        }
    }

    /// Asks whether a joined peer may stay. A panic in the application counts as no, so that the peers after this one
    /// are still checked.
    pub(crate) fn still_allows(&self, join: &Join) -> bool {
        let asked = catch_unwind(AssertUnwindSafe(|| self.access.still_allows(join)));
        asked.unwrap_or_else(|_| {
            if let Some(left_out) = self.panicked.admit(Instant::now()) {
                tracing::error!(
                    left_out,
                    "the access check panicked while it decided whether a peer may stay"
                );
            }
            false
        })
    }

    /// Returns the application's own counters.
    pub(crate) fn counts(&self) -> Vec<AccessCount> {
        self.access.counts()
    }

    /// Notes that a round begins: all joined peers are checked again, or a peer is disconnected.
    pub(crate) fn begin_round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the number of rounds so far. A round may miss a peer that was judged before the round began and is let
    /// in after that. The caller has to check such a peer again.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }
}

/// A join about which the application has not decided yet.
pub(crate) struct Judging {
    /// The join; `None` once it has been judged.
    join: Option<Join>,
    // Declared before the turn, so that it is dropped first: the drop of the turn lets another verdict begin.
    verdict: BoxFuture<'static, Verdict>,
    turn: Turn,
    deadline: Pin<Box<Sleep>>,
}

impl std::fmt::Debug for Judging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judging")
            .field("join", &self.join)
            .finish_non_exhaustive()
    }
}

impl Judging {
    /// Polls for the verdict. Ready once, with the grant or the refusal. Refuses the join after the timeout.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Grant>, Refusal>> {
        if self.deadline.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(Refusal::Undecided));
        }
        ready!(self.turn.poll(cx));
        let verdict = ready!(self.verdict.poll_unpin(cx));
        Poll::Ready(match self.join.take() {
            Some(join) => verdict.of(join),
            None => Err(Refusal::Undecided),
        })
    }
}
