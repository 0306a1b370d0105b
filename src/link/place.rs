//! Places for links that only dials ask for. A dial waits for a place, and another link may have to give way for it.

use std::sync::Mutex;

use libp2p_identity::PeerId;

use super::{
    Links,
    dial_links::{DialLinks, Open, gives_way},
};
use crate::{
    address::Rendezvous,
    error::Error,
    runtime::{now, sleep_apart},
    sync::lock,
};

/// The place of a dial that waits for its link. Dropping it gives up the place.
pub(super) struct Place<'a> {
    dial_links: &'a Mutex<DialLinks>,
    turn: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.dial_links).leave(self.turn);
    }
}

impl Links {
    /// Waits until a link to `rendezvous` may be opened, to dial `peer`.
    pub(super) async fn place(
        &self,
        rendezvous: &Rendezvous,
        peer: Option<PeerId>,
    ) -> Result<Place<'_>, Error> {
        let ip: Vec<_> = rendezvous.host().ip().into_iter().collect();
        let permitted = self.context.permitted(rendezvous, ip, |ip| ip);
        permitted.map_err(|error| Error::Link {
            rendezvous: rendezvous.to_string().into(),
            error,
        })?;
        let most = self.context.dial_links;
        let too_many = || Error::TooManyRendezvous { most };
        let turn = self.take_place(rendezvous, peer).ok_or_else(too_many)?;
        let place = Place {
            dial_links: &self.dial_links,
            turn,
        };
        loop {
            // The turn is read again, because other dials may have moved it back or taken its place. In a runtime
            // without timers the wait fails at once. Then the link cannot run either, and its end reports the error.
            let turn = lock(&self.dial_links).turn(place.turn);
            let turn = turn.ok_or_else(too_many)?;
            if turn <= now() || !sleep_apart(turn).await {
                return Ok(place);
            }
        }
    }

    fn take_place(&self, rendezvous: &Rendezvous, peer: Option<PeerId>) -> Option<u64> {
        let now = now();
        let open = self.open_for_dials();
        let take = |open: usize| lock(&self.dial_links).take_place(rendezvous, peer, open, now);
        take(open.len())
            .or_else(|| {
                self.give_way(gives_way(&open, now)?);
                take(self.open_for_dials().len())
            })
            .or_else(|| lock(&self.dial_links).displace(rendezvous, peer, now))
    }

    fn open_for_dials(&self) -> Vec<Open> {
        let mailboxes = lock(&self.mailboxes);
        let open = mailboxes.iter().filter(|(rendezvous, mailbox)| {
            !mailbox.is_closed() && !self.context.listening.at(rendezvous)
        });
        open.map(|(rendezvous, mailbox)| Open {
            rendezvous: rendezvous.clone(),
            standing: *lock(&mailbox.standing),
        })
        .collect()
    }

    fn give_way(&self, link: &Rendezvous) {
        // Lock order: a listener is added to `listening` before it asks for its link under this lock. So this function
        // sees the listener, or the listener finds this link closed and gets another one.
        let mailboxes = lock(&self.mailboxes);
        if let Some(mailbox) = mailboxes.get(link)
            && !self.context.listening.at(link)
        {
            tracing::debug!(rendezvous = %link, "a link is closed to make room for another one");
            mailbox.give_way();
            self.context.announcer.close(link);
        }
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
