//! The credit that the connections of a link, and those of the process, have granted to their peers and may have to
//! hold.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::credit::{Allowance, FIRST};

/// The maximum that all links of the process pledge, in bytes, in addition to the first credit of each connection.
const PROCESS: u64 = 64 * 1024 * 1024;
/// The same maximum for one link, in bytes.
const LINK: u64 = 16 * 1024 * 1024;

/// The amount that the connections in use on a link need together, in bytes. Everything else that comes over the link
/// waits behind it. It takes a fast link a millisecond.
const IN_USE: u64 = 1152 * 1024;
/// The maximum that one of these connections needs of it, in bytes.
const MOST_IN_USE: u64 = 512 * 1024;
/// The minimum that one of these connections has of it, in bytes. With less, grants and small items cost a quarter of
/// the rate.
const LEAST_IN_USE: u64 = 64 * 1024;

static PLEDGED: AtomicU64 = AtomicU64::new(0);

/// The amounts that a connection takes of the shared limits, in addition to its first credit, which every connection
/// has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    /// The amount that may have to be held.
    pledged: u64,
    /// The amount that may be on its way over the link, in bytes. For a connection with a long round trip, this is more
    /// than what the others wait behind.
    in_use: u64,
}

impl Share {
    /// Returns the share of a connection with these pledged and in-use amounts.
    pub(crate) fn new(pledged: u64, in_use: u64) -> Self {
        Self {
            pledged: pledged.saturating_sub(FIRST),
            in_use: in_use.min(MOST_IN_USE).saturating_sub(FIRST),
        }
    }
}

/// The shares of the connections of one link, added up.
#[derive(Debug, Default)]
pub(crate) struct Pledges(Share);

impl Pledges {
    /// Returns what a connection with the share `own` may pledge, at most `most`.
    ///
    /// A connection gets at most as much as it leaves free. So something is always left for others, however many
    /// connections have taken their share.
    pub(crate) fn allowance(&self, own: Share, most: u64) -> Allowance {
        let share = |total: u64, taken: u64, own: u64| {
            let others = taken.saturating_sub(own);
            total.saturating_sub(others) / 2
        };
        let process = share(PROCESS, PLEDGED.load(Ordering::Relaxed), own.pledged);
        let pledged = share(LINK, self.0.pledged, own.pledged).min(process);
        let in_use = FIRST.saturating_add(share(IN_USE, self.0.in_use, own.in_use));
        Allowance {
            most: FIRST.saturating_add(pledged).min(most),
            in_use: in_use.clamp(LEAST_IN_USE, MOST_IN_USE),
        }
    }

    #[cfg(test)]
    pub(crate) fn link(&self) -> u64 {
        self.0.pledged
    }

    /// Replaces a connection's share `before` with `now`.
    pub(crate) fn change(&mut self, before: Share, now: Share) {
        let by =
            |taken: u64, before: u64, now: u64| taken.saturating_sub(before).saturating_add(now);
        self.0.pledged = by(self.0.pledged, before.pledged, now.pledged);
        self.0.in_use = by(self.0.in_use, before.in_use, now.in_use);
        change(|pledged| by(pledged, before.pledged, now.pledged));
    }
}

impl Drop for Pledges {
    fn drop(&mut self) {
        change(|pledged| pledged.saturating_sub(self.0.pledged));
    }
}

/// Changes the total of the process. It saturates at zero: a sum that is slightly wrong is better than one that has
/// wrapped.
fn change(by: impl Fn(u64) -> u64) {
    let _ = PLEDGED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pledged| {
        Some(by(pledged))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 8 * 1024 * 1024;
    const NONE: Share = Share {
        pledged: 0,
        in_use: 0,
    };

    /// Lets `count` connections take all that they can, and returns their shares.
    fn busy(pledges: &mut Pledges, count: usize, take: impl Fn(Allowance) -> Share) -> Vec<Share> {
        let mut owns = vec![NONE; count];
        for _ in 0..100 {
            for own in &mut owns {
                let now = take(pledges.allowance(*own, MOST));
                pledges.change(*own, now);
                *own = now;
            }
        }
        owns
    }

    #[test]
    fn connections_that_take_all_they_can_share_and_leave_something_to_the_next_one() {
        let mut pledges = Pledges::default();
        assert_eq!(pledges.allowance(NONE, MOST).most, MOST);
        assert_eq!(pledges.allowance(NONE, u64::MAX).most, FIRST + LINK / 2);
        let owns = busy(&mut pledges, 15, |allowance| Share::new(allowance.most, 0));
        let share = LINK / 16;
        let is_even = |own: &Share| own.pledged.abs_diff(share) < 16;
        assert!(owns.iter().all(is_even), "{owns:?}");
        let next = pledges.allowance(NONE, MOST).most - FIRST;
        assert!(next.abs_diff(share / 2) < 256, "{next}");
    }

    #[test]
    fn sixteen_have_three_times_as_much_under_way_as_one_and_no_more_than_1_4_mib() {
        let in_use = |count| {
            let mut pledges = Pledges::default();
            let take = |allowance: Allowance| Share::new(allowance.in_use, allowance.in_use);
            let owns = busy(&mut pledges, count, take);
            owns.iter().map(|own| own.in_use + FIRST).sum::<u64>() / 1024
        };
        assert_eq!([1, 2, 4, 16].map(in_use), [512, 800, 985, 1340]);
        assert_eq!(in_use(100), 6400, "64 KiB each");
    }

    #[test]
    fn what_only_has_to_be_held_or_has_a_long_way_takes_little_of_what_others_use() {
        let mut pledges = Pledges::default();
        // Data that five slow readers have not read.
        for _ in 0..5 {
            pledges.change(NONE, Share::new(256 * 1024, FIRST));
        }
        assert_eq!(pledges.allowance(NONE, MOST).in_use, MOST_IN_USE);
        pledges.change(NONE, Share::new(MOST, MOST));
        let beside = pledges.allowance(NONE, MOST).in_use;
        assert!(beside >= 320 * 1024, "{beside}");
    }

    #[test]
    fn what_a_link_has_pledged_is_free_when_it_is_gone() {
        let mut first = Pledges::default();
        for _ in 0..4 {
            first.change(NONE, Share::new(FIRST + LINK / 4, 0));
        }
        assert_eq!(first.allowance(NONE, MOST).most, FIRST);
        drop(first);
        assert_eq!(Pledges::default().allowance(NONE, MOST).most, MOST);
    }
}
