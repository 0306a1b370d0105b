//! Asks the application about joins, within bounds.

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
use crate::{limited::Limited, protocol::refusal::Refusal, rendezvous::origin::Claimant};

/// The application's answer, or the way to it.
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
    /// How often those who were let in were judged anew.
    rounds: AtomicU64,
    panicked: Limited,
}

impl Doorkeeper {
    pub(crate) fn new(access: Arc<dyn Access>, in_flight: usize, timeout: Duration) -> Self {
        Self {
            access,
            line: Line::new(in_flight),
            timeout,
            rounds: AtomicU64::new(0),
            panicked: Limited::default(),
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

    /// Asks whether a peer that was let in may stay. If that panics it may not, and those behind it are asked about all the
    /// same.
    pub(crate) fn still_allows(&self, join: &Join) -> bool {
        let asked = catch_unwind(AssertUnwindSafe(|| self.access.still_allows(join)));
        asked.unwrap_or_else(|_| {
            if let Some(left_out) = self.panicked.admit(Instant::now()) {
                tracing::error!(
                    left_out,
                    "a panic while it was asked whether a peer may stay"
                );
            }
            false
        })
    }

    /// What the application has counted.
    pub(crate) fn counts(&self) -> Vec<AccessCount> {
        self.access.counts()
    }

    /// Those who were let in are about to be judged anew.
    pub(crate) fn begin_round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was. Whoever was judged before a round began, and is let in after it has begun, may have been
    /// passed over by it.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }
}

/// A join about which the application has not decided yet.
pub(crate) struct Judging {
    /// Until it is judged.
    join: Option<Join>,
    // Dropped before the turn is: others begin when it is gone.
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
    /// Ready once, with what becomes of the join.
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
