//! The time that nodes write into nonces.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::node::NodeId;
use crate::protocol::nonce::Stamp;

/// How far the clock of another node may be ahead of ours. A nonce with a later time is refused. Otherwise an attacker
/// who controls the node could keep a peer for as long as they like.
pub(in crate::rendezvous) const MAX_AHEAD: Duration = Duration::from_secs(30);

/// Gives each nonce a later time than all times that this node has heard of. So a join that comes later at this node
/// also has a later time, whatever the clocks of other nodes say. The clock goes at most half as far ahead as other nodes
/// accept, whatever others ask for; from there on, nonces have the same time.
#[derive(Debug, Clone)]
pub(in crate::rendezvous) struct Clock {
    tag: [u8; super::node::TAG],
    latest: Arc<AtomicU64>,
}

/// Returns the milliseconds since 1970.
pub(in crate::rendezvous) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the latest time that our clock shows. It goes only half as far ahead as another clock may be. Otherwise nodes
/// whose clocks are behind would refuse the nonces made here.
fn furthest(now: SystemTime) -> u64 {
    millis(now + MAX_AHEAD / 2)
}

impl Clock {
    pub(in crate::rendezvous) fn new(node: &NodeId) -> Self {
        Self {
            tag: node.tag(),
            latest: Arc::default(),
        }
    }

    /// Returns the clock of another node, which always shows the same time as this one.
    #[cfg(test)]
    pub(in crate::rendezvous) fn of(&self, node: &NodeId) -> Self {
        Self {
            tag: node.tag(),
            latest: self.latest.clone(),
        }
    }

    /// Returns the stamp for a new nonce.
    pub(in crate::rendezvous) fn stamp(&self, now: SystemTime) -> Stamp {
        let most = furthest(now);
        let now = millis(now);
        let later = |latest: u64| latest.saturating_add(1).clamp(now, most);
        let before = self
            .latest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| {
                Some(later(latest))
            })
            .unwrap_or_default();
        Stamp {
            time: later(before),
            node: self.tag,
        }
    }

    /// Notes that another node has made a nonce at that time. Returns `false` if that is too far in the future.
    pub(in crate::rendezvous) fn hear(&self, time: u64, now: SystemTime) -> bool {
        if time > millis(now + MAX_AHEAD) {
            return false;
        }
        let time = time.min(furthest(now));
        self.latest.fetch_max(time, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_stamp_is_later_than_all_that_was_heard_of() {
        let clock = Clock::new(&"a".parse().expect("a name"));
        assert_eq!(clock.stamp(at(1000)).time, 1000);
        assert_eq!(clock.stamp(at(1000)).time, 1001);
        assert!(clock.hear(5000, at(1000)));
        assert_eq!(clock.stamp(at(1001)).time, 5001);
        assert!(clock.hear(4000, at(1000)));
        assert_eq!(clock.stamp(at(9000)).time, 9000);
    }

    #[test]
    fn the_future_is_refused_and_forgotten() {
        let clock = Clock::new(&"a".parse().expect("a name"));
        assert!(clock.hear(31_000, at(1000)));
        assert!(!clock.hear(31_001, at(1000)));
        assert!(!clock.hear(u64::MAX, at(1000)));
        // A time that is far ahead does not move our clock all the way either.
        assert_eq!(clock.stamp(at(1000)).time, 16_000);
    }

    #[test]
    fn many_nonces_do_not_lead_the_clock_away() {
        let clock = Clock::new(&"a".parse().expect("a name"));
        for _ in 0..50_000 {
            clock.stamp(at(1000));
        }
        assert_eq!(clock.stamp(at(1000)).time, 16_000);
        // The machine's clock was ahead, and was put right.
        clock.stamp(at(3_600_000));
        assert_eq!(clock.stamp(at(1000)).time, 16_000);
        assert_eq!(clock.stamp(at(20_000)).time, 20_000);
    }
}
