//! Decides when files are to be reloaded. No I/O, no clock.

use std::time::{Duration, Instant};

/// The number of checks in a row at which the files may differ from those that were read. Then they are read, even if
/// they are still being written.
const LOOKS: usize = 3;
/// How long to wait before unchanged files that could not be read are tried again. The wait doubles each time, from
/// `FIRST_RETRY` to `LONGEST_RETRY`.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// The history of some files. An `S` is a fingerprint of their state.
#[derive(Debug)]
pub struct Changes<S> {
    /// The state at which the files were last read.
    read: S,
    /// The state at the last check, if it differs from `read`.
    latest: Option<S>,
    looks: usize,
    /// The time at which unchanged files are read again, and the wait before it; `None` if that is of no use.
    retry: Option<(Instant, Duration)>,
}

impl<S: PartialEq> Changes<S> {
    /// Starts with files that have just been read.
    pub fn new(read: S) -> Self {
        Self {
            read,
            latest: None,
            looks: 0,
            retry: None,
        }
    }

    /// Takes the state of the files at a check, and returns whether they are to be read now.
    pub fn look(&mut self, files: S, now: Instant) -> bool {
        if files == self.read {
            (self.latest, self.looks) = (None, 0);
            return self.retry.is_some_and(|(at, _)| at <= now);
        }
        self.looks += 1;
        let is_settled = self.looks >= LOOKS || self.latest.as_ref() == Some(&files);
        self.latest = Some(files);
        is_settled
    }

    /// Records that the files were read, with their state just before. `may_pass` says that reading failed for a reason
    /// that may go away; then unchanged files are read again soon.
    pub fn read(&mut self, files: S, may_pass: bool, now: Instant) {
        let before = self.retry.take().filter(|_| files == self.read);
        (self.read, self.latest, self.looks) = (files, None, 0);
        if may_pass {
            let wait = before.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LONGEST_RETRY));
            self.retry = Some((now + wait, wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interval at which files are checked.
    const LOOK: Duration = Duration::from_millis(200);

    /// Checks these states one after the other, and returns for each whether the files were read.
    fn looks(changes: &mut Changes<u32>, now: &mut Instant, states: &[u32]) -> Vec<bool> {
        let look = |state: &u32| {
            *now += LOOK;
            let is_read = changes.look(*state, *now);
            if is_read {
                changes.read(*state, false, *now);
            }
            is_read
        };
        states.iter().map(look).collect()
    }

    #[test]
    fn what_has_changed_is_read_when_it_is_written_no_more_or_after_the_third_look() {
        let mut now = Instant::now();
        let mut changes = Changes::new(0);
        let mut looks = |states: &[u32]| looks(&mut changes, &mut now, states);
        assert_eq!(looks(&[0, 0, 0]), [false, false, false]);
        // Replaced at once: read at the second check, 400 ms later at most.
        assert_eq!(looks(&[1, 1, 1]), [false, true, false]);
        // Written in place, bit by bit.
        assert_eq!(looks(&[2, 3, 3, 3]), [false, false, true, false]);
        // Written without end: read 600 ms later at most, and then again.
        let endless = [4, 5, 6, 7, 8, 9];
        assert_eq!(looks(&endless), [false, false, true, false, false, true]);
        // Back to the state that was read.
        assert_eq!(looks(&[10, 9, 9]), [false, false, false]);
    }

    #[test]
    fn what_could_not_be_read_is_read_again_though_it_has_not_changed() {
        let start = Instant::now();
        let mut changes = Changes::new(0);
        let (mut now, mut tries) = (start, Vec::new());
        changes.read(1, true, now);
        while now < start + Duration::from_secs(60) {
            now += LOOK;
            if changes.look(1, now) {
                tries.push((now - start).as_millis());
                changes.read(1, true, now);
            }
        }
        assert_eq!(tries[..5], [200, 600, 1400, 3000, 6200]);
        assert!(tries.len() < 12, "{tries:?}");
        // Not tried again once it could be read.
        changes.read(1, false, now);
        assert!(!changes.look(1, now + LONGEST_RETRY * 2));
    }

    #[test]
    fn what_has_changed_since_it_could_not_be_read_is_tried_at_once() {
        let now = Instant::now();
        let mut changes = Changes::new(0);
        for _ in 0..10 {
            changes.read(1, true, now);
        }
        assert!(!changes.look(1, now + FIRST_RETRY));
        assert!(!changes.look(2, now + FIRST_RETRY));
        assert!(changes.look(2, now + FIRST_RETRY * 2));
        changes.read(2, true, now);
        assert!(changes.look(2, now + FIRST_RETRY), "the waits begin anew");
    }
}
