//! Dials of those whose quota for the day is spent.

use std::ops::Bound;

use super::{Cut, DaySpent, ENDED_AT_ONCE, LinkId, Refusal, Refused, Registry};
use crate::{
    protocol::event::DialId,
    rendezvous::{quota::Whose, usage::Meter},
};

impl Registry {
    /// Whether neither of those who are to be dialled with each other has spent its quota for the day.
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

    /// What counts for a link, or for the peer with this meter on it, has reached the quota of the day: some of its dials
    /// end, those behind `last`. The last of those that were looked at, if there may be more.
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
                self.end_dial(dial_id, refusal, Cut::DaySpent(spent));
            }
        }
        let has_more = some.len() == ENDED_AT_ONCE;
        some.into_iter().next_back().filter(|_| has_more)
    }
}
