//! The dials of peers whose daily quota is spent.

use std::ops::Bound;

use super::{DaySpent, DialEnd, ENDED_AT_ONCE, LinkId, Refusal, Refused, Registry};
use crate::{
    protocol::event::DialId,
    rendezvous::{quota::Whose, usage::Meter},
};

impl Registry {
    /// Checks that neither peer of a new dial has spent a daily quota.
    pub(super) fn check_day(
        &self,
        dialer: (LinkId, &str),
        listener: (LinkId, &str),
    ) -> Result<(), Refusal> {
        let Some(quotas) = &self.quotas else {
            return Ok(());
        };
        for (link, address) in [dialer, listener] {
            if let Some(link) = self.links.get(&link)
                && let Some(spent) =
                    quotas.spent(&link.claimant, self.peers.meter(address).as_ref())
            {
                return Err(Refusal::day_spent(spent.after, spent.whose));
            }
        }
        Ok(())
    }

    /// Ends some dials of a link because a daily quota is spent that applies to the link, or to the peer with this
    /// meter on it. Begins behind `last`. Returns the last dial that was looked at, if there may be more.
    pub(crate) fn handle_day_spent(
        &mut self,
        link: LinkId,
        meter: &Meter,
        spent: DaySpent,
        last: Option<&DialId>,
    ) -> Option<DialId> {
        let state = self.links.get(&link)?;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let dials = state.dials.range::<DialId, _>((from, Bound::Unbounded));
        let some: Vec<_> = dials.take(ENDED_AT_ONCE).cloned().collect();
        for dial_id in &some {
            let is_own = self.dials.is_counted(dial_id, link, meter);
            if spent.whose != Whose::Peer || is_own {
                let refusal = Refusal::day_spent(spent.after, spent.whose);
                if !self.dials.is_pending(dial_id) {
                    self.refusals.count(Refused::DaySpent);
                }
                self.end_dial(dial_id, refusal, DialEnd::DaySpent(spent));
            }
        }
        let has_more = some.len() == ENDED_AT_ONCE;
        some.into_iter().next_back().filter(|_| has_more)
    }
}
