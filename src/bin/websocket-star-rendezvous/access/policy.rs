//! What is decided about a join, from the lists and from the service that is asked.

use std::sync::{Arc, PoisonError, RwLock};

use libp2p_websocket_star::rendezvous::{Access, Join, Judgement, Verdict};

use super::{
    callout::Callout,
    lists::{Lists, Opinion},
};

#[derive(Debug)]
pub struct Policy {
    lists: RwLock<Arc<Lists>>,
    callout: Option<Arc<Callout>>,
}

impl Policy {
    pub fn new(lists: Lists, callout: Option<Callout>) -> Self {
        Self {
            lists: RwLock::new(Arc::new(lists)),
            callout: callout.map(Arc::new),
        }
    }

    fn lists(&self) -> Arc<Lists> {
        let lists = self.lists.read();
        lists.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has these lists decide from now on.
    pub fn replace(&self, lists: Lists) {
        let lists = Arc::new(lists);
        let mut current = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, lists);
        drop(current);
        // It may be long.
        drop(old);
    }
}

impl Access for Policy {
    fn judge(&self, join: &Join) -> Judgement {
        let lists = self.lists();
        match (lists.opinion(join), &self.callout) {
            (Opinion::Yes, _) => Verdict::allow().into(),
            (Opinion::No(words), _) => Verdict::refuse(words).into(),
            (Opinion::Unlisted(_), Some(callout)) => callout.judge(join),
            (Opinion::Unlisted(_), None) if lists.are_open() => Verdict::allow().into(),
            (Opinion::Unlisted(words), None) => Verdict::refuse(words).into(),
        }
    }

    fn still_allows(&self, join: &Join) -> bool {
        let lists = self.lists();
        match (lists.opinion(join), &self.callout) {
            (Opinion::Yes, _) => true,
            (Opinion::No(_), _) => false,
            // It is asked when a peer joins. One that a list has let in, and that is not on it any more, may come back and
            // have it asked.
            (Opinion::Unlisted(_), Some(callout)) => callout.has_let_in(join),
            (Opinion::Unlisted(_), None) => lists.are_open(),
        }
    }
}
