//! The decision about a join, from the lists and from the access service.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use libp2p_websocket_star::rendezvous::{Access, AccessCount, Join, Judgement, Verdict};

use super::{
    callout::Callout,
    counts::{Counted, Counts},
    lists::{AllowList, DenyList, Opinion},
    rules::Rules,
};

/// How long a peer that no list lets in is told to wait before it tries again: the list may have been read while it was
/// being written.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Policy {
    rules: RwLock<Arc<Rules>>,
    callout: Option<Arc<Callout>>,
    counts: Arc<Counts>,
}

impl Policy {
    pub fn new(rules: Rules, callout: Option<Callout>, counts: Arc<Counts>) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            callout: callout.map(Arc::new),
            counts,
        }
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read();
        rules.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses these lists from now on.
    pub fn replace(&self, rules: Rules) {
        let rules = Arc::new(rules);
        let mut current = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, rules);
        drop(current);
        // The old lists may be long, so they are dropped without the lock.
        drop(old);
    }

    /// Counts a reload that failed.
    pub fn count_failed_reload(&self) {
        self.counts.count(Counted::FailedReload);
    }

    /// Clears the cached answers, so that the service is asked again about every join from now on.
    pub fn forget_answers(&self) {
        if let Some(callout) = &self.callout {
            callout.forget();
        }
    }
}

impl Access for Policy {
    fn judge(&self, join: &Join) -> Judgement {
        let rules = self.rules();
        let (counted, verdict) = match (rules.opinion(join), &self.callout) {
            (Opinion::Yes(list), _) => (allowed_by(list), Verdict::allow()),
            (Opinion::No(list), _) => (refused_by(list), Verdict::refuse(list.denies())),
            (Opinion::Unlisted(_), Some(callout)) => return callout.judge(join),
            (Opinion::Unlisted(_), None) if rules.are_open_for(join) => {
                (Counted::AllowedByDefault, Verdict::allow())
            }
            (Opinion::Unlisted(words), None) => {
                (Counted::RefusedUnlisted, Verdict::refuse_for(AGAIN, words))
            }
        };
        self.counts.count(counted);
        verdict.into()
    }

    fn still_allows(&self, join: &Join) -> bool {
        let rules = self.rules();
        match (rules.opinion(join), &self.callout) {
            (Opinion::Yes(_), _) => true,
            (Opinion::No(_), _) => false,
            // The service is asked only when a peer joins. A peer that a list had let in, and that is no longer on it,
            // is disconnected; it may join again, and then the service is asked.
            (Opinion::Unlisted(_), Some(callout)) => callout.has_let_in(join),
            (Opinion::Unlisted(_), None) => rules.are_open_for(join),
        }
    }

    fn counts(&self) -> Vec<AccessCount> {
        self.counts.all()
    }
}

fn allowed_by(list: AllowList) -> Counted {
    match list {
        AllowList::Peers => Counted::AllowedByPeers,
        AllowList::Networks => Counted::AllowedByNetworks,
        AllowList::Tokens => Counted::AllowedByToken,
    }
}

fn refused_by(list: DenyList) -> Counted {
    match list {
        DenyList::Networks => Counted::RefusedByNetworks,
        DenyList::Peers => Counted::RefusedByPeers,
    }
}
