//! Counters of the joins that are let in and refused, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use libp2p_websocket_star::rendezvous::AccessCount;

/// The name of a counter, and its description.
type Name = (&'static str, &'static str);

const ALLOWED: Name = (
    "allowed",
    "joins that were allowed, by the rule that allowed them",
);
const REFUSED: Name = (
    "refused",
    "joins that were refused, by the rule that refused them",
);
const FAILED: Name = (
    "failed_questions",
    "questions to the access service without a valid answer, by the kind of failure",
);
const RELOADS: Name = ("failed_reloads", "reloads of the access lists that failed");

/// Declares the variants, their counters and the list of all in one place.
macro_rules! counted {
    ($($(#[$doc:meta])* $variant:ident = $name:ident $by:literal,)*) => {
        /// An event that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counted {
            $($(#[$doc])* $variant,)*
        }

        impl Counted {
            const ALL: [(Name, &'static str); [$($by),*].len()] = [$(($name, $by)),*];
        }
    };
}

counted! {
    AllowedByPeers = ALLOWED "peers",
    AllowedByNetworks = ALLOWED "networks",
    AllowedByToken = ALLOWED "token",
    /// A cached answer of the service was still valid.
    AllowedByCache = ALLOWED "cache",
    AllowedByService = ALLOWED "service",
    /// The service gave no answer, and the operator has chosen to fail open.
    AllowedByFailOpen = ALLOWED "fail_open",
    /// No allow rule is configured, so everyone is let in who is not on a deny list.
    AllowedByDefault = ALLOWED "default",
    RefusedByPeers = REFUSED "peers",
    RefusedByNetworks = REFUSED "networks",
    /// No list lets the peer in, and there is no service.
    RefusedUnlisted = REFUSED "unlisted",
    RefusedByCache = REFUSED "cache",
    RefusedByService = REFUSED "service",
    /// The service gave no answer.
    RefusedUndecided = REFUSED "undecided",
    FailedLookup = FAILED "lookup",
    FailedConnect = FAILED "connect",
    FailedTls = FAILED "tls",
    FailedHttp = FAILED "http",
    FailedTimeout = FAILED "timeout",
    /// A status of 500 or more.
    FailedServer = FAILED "server_error",
    /// A status below 500 other than 200.
    FailedStatus = FAILED "status",
    FailedTooLong = FAILED "too_long",
    FailedAnswer = FAILED "answer",
    FailedReload = RELOADS "",
}

/// The number of times that each event has happened.
#[derive(Debug)]
pub struct Counts([AtomicU64; Counted::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counts {
    pub fn count(&self, counted: Counted) {
        if let Some(count) = self.0.get(counted as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns all counters, including those at zero.
    pub fn all(&self) -> Vec<AccessCount> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let all = Counted::ALL.into_iter().zip(counts);
        all.map(|(((name, help), by), count)| AccessCount::new(name, help, by, count))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_is_counted_apart() {
        let counts = Counts::default();
        for counted in [
            Counted::AllowedByPeers,
            Counted::RefusedByPeers,
            Counted::RefusedByPeers,
            Counted::FailedReload,
        ] {
            counts.count(counted);
        }
        let all = counts.all();
        let names: HashSet<_> = all.iter().map(|count| (count.name, count.by)).collect();
        assert_eq!(names.len(), Counted::ALL.len());
        let of = |name, by| {
            let mut found = all.iter().filter(|c| (c.name, c.by) == (name, by));
            found.next().map(|count| count.count)
        };
        assert_eq!(of("allowed", "peers"), Some(1));
        assert_eq!(of("refused", "peers"), Some(2));
        assert_eq!(of("failed_reloads", ""), Some(1));
        assert_eq!(of("allowed", "token"), Some(0));
    }
}
