//! The rendezvous that have refused to let us join, from one link to the next. No IO, no clock.
//!
//! A listener itself remembers when to try again. A dial joins for itself where no listener has joined. Without this
//! record, each dial would open a link and ask again.

use std::time::Duration;

use web_time::Instant;

use super::{kept::Kept, users::LONGEST_OBEYED};
use crate::{address::Rendezvous, error::JoinError};

/// The time for which a permanent refusal that names no time is believed. The operator of the rendezvous may let us
/// join at any time.
const FOR_GOOD: Duration = Duration::from_secs(2 * 60);

#[derive(Debug)]
struct Refused {
    error: JoinError,
    until: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Refusals(Kept<Refused>);

impl Refusals {
    /// Records a failed join, if joining again soon would not help.
    pub(in crate::link) fn note(&mut self, at: &Rendezvous, error: &JoinError, now: Instant) {
        let time = match error.retry_after() {
            Some(after) => after.min(LONGEST_OBEYED),
            None if error.is_permanent() => FOR_GOOD,
            None => return,
        };
        let refused = Refused {
            error: error.clone(),
            until: now + time,
        };
        self.0.put(at, refused);
    }

    /// Forgets the refusal after a join has succeeded.
    pub(in crate::link) fn forget(&mut self, at: &Rendezvous) {
        self.0.take(at);
    }

    /// Returns why we would not be let in, with the remaining time if the rendezvous has named one.
    pub(in crate::link) fn of(&self, at: &Rendezvous, now: Instant) -> Option<JoinError> {
        let refused = self.0.get(at)?;
        let left = refused.until.checked_duration_since(now)?;
        (!left.is_zero()).then(|| refused.error.with_time_left(left))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::kept::{MAX_KEPT, tests::rendezvous},
        *,
    };

    fn refused(words: &str) -> JoinError {
        JoinError::Refused(words.to_owned())
    }

    #[test]
    fn a_refusal_is_kept_for_as_long_as_it_says_and_tells_what_is_left() {
        let (mut all, now) = (Refusals::default(), Instant::now());
        let (here, there) = (rendezvous(1), rendezvous(2));
        let second = Duration::from_secs(1);
        all.note(&here, &refused("Not allowed now, again in 90 s: full"), now);
        assert_eq!(all.of(&there, now), None);
        let later = now + Duration::from_millis(29_500);
        let left = refused("Not allowed now, again in 61 s: full");
        assert_eq!(all.of(&here, later), Some(left));
        assert!(all.of(&here, now + second * 89).is_some());
        assert_eq!(all.of(&here, now + second * 90), None);
        // The latest refusal counts, and one hour is the maximum.
        all.note(&here, &refused("Not allowed now, again in 86400 s"), now);
        assert!(all.of(&here, now + second * 3599).is_some());
        assert_eq!(all.of(&here, now + second * 3600), None);
        all.forget(&here);
        assert_eq!(all.of(&here, now), None);
    }

    #[test]
    fn a_refusal_for_good_is_believed_for_some_minutes_and_one_that_may_pass_is_not() {
        let (mut all, now) = (Refusals::default(), Instant::now());
        let (here, there) = (rendezvous(1), rendezvous(2));
        let banned = refused("Not allowed: banned");
        all.note(&here, &banned, now);
        assert_eq!(all.of(&here, now + FOR_GOOD / 2), Some(banned));
        assert_eq!(all.of(&here, now + FOR_GOOD), None);
        for passing in [
            refused("Too many joins a second"),
            JoinError::TimedOut(FOR_GOOD),
            JoinError::Displaced,
        ] {
            all.note(&there, &passing, now);
            assert_eq!(all.of(&there, now), None, "{passing}");
        }
    }

    #[test]
    fn as_many_are_kept_as_may_be() {
        let (mut all, now) = (Refusals::default(), Instant::now());
        for number in 0..10 * MAX_KEPT {
            all.note(&rendezvous(number), &refused("Not allowed"), now);
        }
        assert_eq!(all.0.len(), MAX_KEPT);
        assert!(all.of(&rendezvous(10 * MAX_KEPT - 1), now).is_some());
    }
}
