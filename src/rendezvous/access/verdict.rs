//! The application's answer to the question whether a peer may join.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{Grant, Join, grant::Guard};
use crate::{
    protocol::{
        excerpt,
        refusal::{Refusal, whole_seconds},
    },
    words::Words,
};

/// The maximum length of the words in a refusal, in bytes.
const MAX_WORDS: usize = 200;
/// The longest time after which a refused peer is asked to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a join, at once or later.
#[non_exhaustive]
pub enum Judgement {
    /// The verdict is known.
    Now(Verdict),
    /// The verdict takes time. The future is polled when its turn comes, see
    /// [`Config::with_access_in_flight`](crate::rendezvous::Config::with_access_in_flight). It is dropped when it has
    /// [taken too long](crate::rendezvous::Config::with_access_timeout) or the link is gone.
    Later(BoxFuture<'static, Verdict>),
}

impl Judgement {
    /// Creates an answer that takes time.
    pub fn later(verdict: impl Future<Output = Verdict> + Send + 'static) -> Self {
        Self::Later(Box::pin(verdict))
    }
}

impl From<Verdict> for Judgement {
    fn from(verdict: Verdict) -> Self {
        Self::Now(verdict)
    }
}

impl fmt::Debug for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(verdict) => f.debug_tuple("Now").field(verdict).finish(),
            Self::Later(_) => f.debug_tuple("Later").finish_non_exhaustive(),
        }
    }
}

/// Whether a peer may join.
#[derive(Debug)]
pub struct Verdict(Decision);

#[derive(Debug)]
enum Decision {
    Allowed(Allowed),
    Refused(Refusal),
}

impl Verdict {
    /// Allows the join, with no limits other than those for every peer. [`Allowed`] can set further limits.
    pub fn allow() -> Self {
        Allowed::default().into()
    }

    /// Refuses the join for good. The peer gets these words, of which 200 bytes are sent. A node of this crate closes
    /// its listener.
    pub fn refuse(words: impl AsRef<str>) -> Self {
        let words = tame(words.as_ref());
        Self(Decision::Refused(Refusal::NotAllowed(words)))
    }

    /// Refuses the join for now. The peer may come again after this time, which is sent in whole seconds: at least one,
    /// and a day at most. A node of this crate waits that long, but no longer than an hour, and then up to a quarter of
    /// the time more.
    pub fn refuse_for(time: Duration, words: impl AsRef<str>) -> Self {
        Self(Decision::Refused(Refusal::NotAllowedNow {
            after: whole_seconds(time.min(LONGEST_WAIT)),
            words: tame(words.as_ref()),
        }))
    }

    /// Returns whether the peer may join.
    pub fn is_allowed(&self) -> bool {
        matches!(self.0, Decision::Allowed(_))
    }

    /// Turns the verdict into a grant or a refusal of this join.
    pub(super) fn of(self, join: Join) -> Result<Arc<Grant>, Refusal> {
        match self.0 {
            Decision::Allowed(allowed) => {
                let Allowed { max_dials, guard } = allowed;
                Ok(Arc::new(Grant::new(join, max_dials, guard)))
            }
            Decision::Refused(refusal) => Err(refusal),
        }
    }
}

/// Returns the words as one line, cut to the maximum length.
fn tame(words: &str) -> String {
    excerpt(&Words(words).to_string(), MAX_WORDS)
}

/// The permission to join, with the limits of the join.
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Allowed, Verdict};
///
/// /// Tells the application when the peer has left.
/// struct CountedJoin;
///
/// impl Drop for CountedJoin {
///     fn drop(&mut self) {
///         println!("somebody has left");
///     }
/// }
///
/// let verdict: Verdict = Allowed::default().with_max_dials(10).with_guard(CountedJoin).into();
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Allowed {
    max_dials: Option<usize>,
    guard: Option<Guard>,
}

impl Allowed {
    /// Limits how many dials from the peer's link may wait or be open at one time, if that is less than [every peer may
    /// have](crate::rendezvous::Limits::with_max_open_dials). Dials from other peers to this one do not count.
    #[must_use]
    pub fn with_max_dials(mut self, dials: usize) -> Self {
        self.max_dials = Some(dials);
        self
    }

    /// Attaches a value that is dropped when the join is over: when the link is lost or cut off, when the peer leaves,
    /// joins anew or joins elsewhere, or when the join fails after all. No lock is held then. The drop must not block.
    /// A panic in it is logged and has no other effect.
    #[must_use]
    pub fn with_guard(mut self, guard: impl Send + 'static) -> Self {
        self.guard = Some(Guard::new(guard));
        self
    }
}

impl From<Allowed> for Verdict {
    fn from(allowed: Allowed) -> Self {
        Self(Decision::Allowed(allowed))
    }
}

/// Returns the grant of a join with this permission.
#[cfg(test)]
pub(crate) fn granted(allowed: Allowed) -> Arc<Grant> {
    let join = Join::new(libp2p_identity::PeerId::random(), [127, 0, 0, 1].into());
    Verdict::from(allowed).of(join).expect("allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verdict: Verdict) -> String {
        let id = libp2p_identity::PeerId::random();
        let join = Join::new(id, [127, 0, 0, 1].into());
        verdict.of(join).expect_err("refused").to_string()
    }

    #[test]
    fn a_refusal_says_whether_it_is_for_good() {
        assert_eq!(told(Verdict::refuse("no")), "Not allowed: no");
        assert_eq!(told(Verdict::refuse("")), "Not allowed");
        let in_time = |time, words| told(Verdict::refuse_for(time, words));
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (u64::MAX, 86_400)] {
            let told = in_time(Duration::from_millis(millis), "busy");
            let expected = format!("Not allowed now, again in {seconds} s: busy");
            assert_eq!(told, expected);
        }
        let told = in_time(Duration::MAX, "");
        assert_eq!(told, "Not allowed now, again in 86400 s");
    }

    #[test]
    fn the_words_of_a_refusal_are_one_short_line() {
        let rogue = told(Verdict::refuse("a\r\nb\u{1b}[2J"));
        assert_eq!(rogue, "Not allowed: a\\r\\nb\\u{1b}[2J");
        let long = told(Verdict::refuse("é".repeat(10_000)));
        assert_eq!(long.len(), "Not allowed: ".len() + MAX_WORDS);
    }
}
