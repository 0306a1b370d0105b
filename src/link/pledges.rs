//! What the connections of a link, and those of the process, have granted to their peers and may have to hold.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::credit::{Allowance, FIRST};

/// What all links of the process pledge at most, beside the first credit of each connection.
const PROCESS: u64 = 64 * 1024 * 1024;
/// The same for one link.
const LINK: u64 = 16 * 1024 * 1024;

/// What the connections of a link need in all while they are in use. It stands before whatever else comes over the link: a
/// millisecond of what a fast one carries.
const IN_USE: u64 = 1280 * 1024;
/// What one of them needs of that at most.
const MOST_IN_USE: u64 = 512 * 1024;
/// What one of them has of that at least. With less, grants and small items cost a quarter of the rate.
const LEAST_IN_USE: u64 = 64 * 1024;

static PLEDGED: AtomicU64 = AtomicU64::new(0);

/// What the connections of one link have pledged beside their first credits.
#[derive(Debug, Default)]
pub(super) struct Pledges {
    link: u64,
}

impl Pledges {
    /// What a connection may pledge that has pledged `own` beside its first credit, and wants no more than `most`.
    ///
    /// It gets as much as it leaves: so there is always something left for others, however many have taken their part.
    pub(super) fn allowance(&self, own: u64, most: u64) -> Allowance {
        let share = |total: u64, pledged: u64| {
            let others = pledged.saturating_sub(own);
            total.saturating_sub(others) / 2
        };
        let process = share(PROCESS, PLEDGED.load(Ordering::Relaxed));
        let beside = share(LINK, self.link).min(process);
        let in_use = FIRST.saturating_add(share(IN_USE, self.link));
        Allowance {
            most: FIRST.saturating_add(beside).min(most),
            in_use: in_use.clamp(LEAST_IN_USE, MOST_IN_USE),
        }
    }

    #[cfg(test)]
    pub(super) fn link(&self) -> u64 {
        self.link
    }

    /// A connection pledges `now` instead of `before`.
    pub(super) fn change(&mut self, before: u64, now: u64) {
        self.link = self.link.saturating_sub(before).saturating_add(now);
        change(|pledged| pledged.saturating_sub(before).saturating_add(now));
    }
}

impl Drop for Pledges {
    fn drop(&mut self) {
        change(|pledged| pledged.saturating_sub(self.link));
    }
}

/// Below nothing there is nothing: a sum that is wrong by a little is better than one that has wrapped.
fn change(by: impl Fn(u64) -> u64) {
    let _ = PLEDGED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pledged| {
        Some(by(pledged))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 8 * 1024 * 1024;

    #[test]
    fn connections_that_take_all_they_can_share_and_leave_something_to_the_next_one() {
        let mut pledges = Pledges::default();
        assert_eq!(pledges.allowance(0, MOST).most, MOST);
        assert_eq!(pledges.allowance(0, u64::MAX).most, FIRST + LINK / 2);
        let mut owns = [0; 15];
        for _ in 0..100 {
            for own in &mut owns {
                let now = pledges.allowance(*own, MOST).most - FIRST;
                pledges.change(*own, now);
                *own = now;
            }
        }
        let share = LINK / 16;
        assert!(owns.iter().all(|own| own.abs_diff(share) < 16), "{owns:?}");
        let next = pledges.allowance(0, MOST).most - FIRST;
        assert!(next.abs_diff(share / 2) < 256, "{next}");
    }

    #[test]
    fn those_that_are_in_use_need_hardly_more_in_all_than_one_alone() {
        let alone = Pledges::default().allowance(0, MOST).in_use;
        assert_eq!(alone, MOST_IN_USE);
        for count in [2, 4, 16] {
            let (mut pledges, mut owns) = (Pledges::default(), vec![0; count]);
            for _ in 0..100 {
                for own in &mut owns {
                    let now = pledges.allowance(*own, MOST).in_use - FIRST;
                    pledges.change(*own, now);
                    *own = now;
                }
            }
            let share = IN_USE / (count as u64 + 1);
            assert!(owns.iter().all(|own| own.abs_diff(share) < 16), "{owns:?}");
        }
        let mut pledges = Pledges::default();
        pledges.change(0, LINK);
        assert_eq!(pledges.allowance(0, MOST).in_use, LEAST_IN_USE);
    }

    #[test]
    fn what_a_link_has_pledged_is_free_when_it_is_gone() {
        let mut first = Pledges::default();
        for _ in 0..4 {
            first.change(0, LINK / 4);
        }
        assert_eq!(first.allowance(0, MOST).most, FIRST);
        drop(first);
        assert_eq!(Pledges::default().allowance(0, MOST).most, MOST);
    }
}
