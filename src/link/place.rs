//! Places for links that only dials ask for: a dial waits for one, and another link may have to give way for it.

use std::sync::Mutex;

use libp2p_identity::PeerId;

use super::{
    Links,
    dial_links::{DialLinks, Open, gives_way},
    lock,
};
use crate::{
    address::Rendezvous,
    error::Error,
    runtime::{now, sleep_apart},
};

/// The place of a dial that waits for its link, and is left with this.
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
            // Others may come before it meanwhile, or have taken its place. Where there are no timers there will be no link
            // either, whose end tells of it.
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
        // A listener is noted before it asks for its link under this lock: it gets another one then.
        let mailboxes = lock(&self.mailboxes);
        if let Some(mailbox) = mailboxes.get(link)
            && !self.context.listening.at(link)
        {
            tracing::debug!(rendezvous = %link, "a link gives way to another one");
            mailbox.give_way();
            self.context.announcer.close(link);
        }
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
