//! What was refused because it went over a bound, counted by reason.

use std::fmt;

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Bound {
    /// A link, because the server has as many as it may.
    Links,
    /// A link, because its remote address has as many as it may.
    LinksPerIp,
    /// A join, because its link has as many addresses as it may.
    Joins,
    /// A dial, because its link dials too often.
    DialRate,
    /// A dial, because its link has as many pending or open ones as it may.
    Dials,
    /// A dial, because the dialled peer has as many pending or open ones as it may.
    PeerDials,
    /// A dial, because the dialled peer did not answer it in time.
    DialTimeout,
    /// A link that sent a message that is too long.
    Message,
    /// A link that did not read the answers to its requests.
    Answers,
    /// A link that took nothing of what was sent to it for too long.
    Stall,
    /// A link that gave no sign of life for too long.
    Silence,
    /// A link that did not join in time.
    JoinTimeout,
}

impl Bound {
    /// All of them.
    const ALL: [Self; 12] = [
        Self::Links,
        Self::LinksPerIp,
        Self::Joins,
        Self::DialRate,
        Self::Dials,
        Self::PeerDials,
        Self::DialTimeout,
        Self::Message,
        Self::Answers,
        Self::Stall,
        Self::Silence,
        Self::JoinTimeout,
    ];
}

impl fmt::Display for Bound {
    /// A short name, as a metric's label would have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Links => "links",
            Self::LinksPerIp => "links_per_ip",
            Self::Joins => "joins",
            Self::DialRate => "dial_rate",
            Self::Dials => "dials",
            Self::PeerDials => "peer_dials",
            Self::DialTimeout => "dial_timeout",
            Self::Message => "message",
            Self::Answers => "answers",
            Self::Stall => "stall",
            Self::Silence => "silence",
            Self::JoinTimeout => "join_timeout",
        })
    }
}

/// How often each bound was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds([u64; Bound::ALL.len()]);

impl Bounds {
    /// How often this one was.
    pub fn get(&self, reason: Bound) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// All, those that were never reached included.
    pub fn iter(&self) -> impl Iterator<Item = (Bound, u64)> {
        let bounds = *self;
        let all = Bound::ALL.into_iter();
        all.map(move |reason| (reason, bounds.get(reason)))
    }

    /// Both together.
    pub(super) fn merged(mut self, other: Self) -> Self {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
        self
    }

    pub(super) fn count(&mut self, reason: Bound) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_counted_apart_under_a_name_of_its_own() {
        let mut bounds = Bounds::default();
        for (n, reason) in (1..).zip(Bound::ALL) {
            for _ in 0..n {
                bounds.count(reason);
            }
        }
        let names: std::collections::HashSet<_> = Bound::ALL.iter().map(Bound::to_string).collect();
        assert_eq!(names.len(), Bound::ALL.len());
        assert!((1..).zip(bounds.iter()).all(|(n, (_, count))| n == count));
    }
}
