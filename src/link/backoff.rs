//! The wait between two attempts to open a link.

use std::time::Duration;

/// An exponential back-off: the wait doubles from the first to the longest. Each wait is shortened at random by up to
/// half, so that the peers of a restarted rendezvous do not all reconnect at the same time.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new((first, longest): (Duration, Duration)) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns the wait before the next attempt.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait / 2 + up_to(wait / 2)
    }

    /// Returns a wait as after many failed attempts.
    pub(super) fn longest_wait(&mut self) -> Duration {
        self.next = self.longest;
        self.wait()
    }

    /// Starts over after a link that was up for `lifetime`, unless the link was lost again at once.
    pub(super) fn was_up(&mut self, lifetime: Duration) {
        if lifetime >= self.next {
            self.next = self.first;
        }
    }
}

/// Returns a random duration of at most `most`.
pub(super) fn up_to(most: Duration) -> Duration {
    most / 0xffff * u32::from(rand::random::<u16>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_lasting_link() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new((second, second * 6));
        for longest in [1, 2, 4, 6, 6] {
            let wait = backoff.wait();
            assert!(
                wait >= second * longest / 2 && wait <= second * longest,
                "{wait:?}"
            );
        }
        backoff.was_up(second);
        assert!(backoff.wait() >= second * 3);
        backoff.was_up(second * 6);
        assert!(backoff.wait() <= second);
    }
}
