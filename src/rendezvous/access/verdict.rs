//! What an application answers when it is asked about a join.

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

/// How many bytes of the words of a refusal are told.
const MAX_WORDS: usize = 200;
/// The longest time after which somebody is told to come again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// An answer to a join, now or later.
pub enum Judgement {
    /// It is decided.
    Now(Verdict),
    /// It takes time. The future is polled when it is its turn, see
    /// [`Config::with_access_in_flight`](crate::rendezvous::Config::with_access_in_flight), and dropped when it has
    /// [taken too long](crate::rendezvous::Config::with_access_timeout) or the link is gone.
    Later(BoxFuture<'static, Verdict>),
}

impl Judgement {
    /// One that takes time.
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
    /// It may, with no other limits than everybody has; [`Allowed`] has more.
    pub fn allow() -> Self {
        Allowed::default().into()
    }

    /// It may not, and need not come again. It is told so, with these words, of which 200 bytes are told. A node of this
    /// crate closes its listener.
    pub fn refuse(words: impl AsRef<str>) -> Self {
        let words = tame(words.as_ref());
        Self(Decision::Refused(Refusal::NotAllowed(words)))
    }

    /// It may not now, and may come again after this time: whole seconds, at least one, and a day at most. A node of this
    /// crate waits as long, up to an hour, and up to a quarter of it longer.
    pub fn refuse_for(time: Duration, words: impl AsRef<str>) -> Self {
        Self(Decision::Refused(Refusal::NotAllowedNow {
            after: whole_seconds(time.min(LONGEST_WAIT)),
            words: tame(words.as_ref()),
        }))
    }

    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        matches!(self.0, Decision::Allowed(_))
    }

    /// What becomes of a join.
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

/// In one line, and not too long.
fn tame(words: &str) -> String {
    excerpt(&Words(words).to_string(), MAX_WORDS)
}

/// A peer may join, and this is what it may do then.
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Allowed, Verdict};
///
/// /// Tells the application when the peer has left.
/// struct Seat;
///
/// impl Drop for Seat {
///     fn drop(&mut self) {
///         println!("somebody has left");
///     }
/// }
///
/// let verdict: Verdict = Allowed::default().with_max_dials(10).with_guard(Seat).into();
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Allowed {
    max_dials: Option<usize>,
    guard: Option<Guard>,
}

impl Allowed {
    /// How many dials from its link may wait or be open at one time, if that is less than everybody
    /// [may have](crate::rendezvous::Limits::with_max_open_dials). Dials that others make to it do not count.
    #[must_use]
    pub fn with_max_dials(mut self, dials: usize) -> Self {
        self.max_dials = Some(dials);
        self
    }

    /// Something that is dropped when the join is over: the link is lost, the peer leaves, joins anew or joins elsewhere,
    /// or is cut off; or when the join comes to nothing. No lock is held then. It must not block, and a panic in it is
    /// logged and has no other effect.
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

/// What a join is allowed that was let in so.
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
