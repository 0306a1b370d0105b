//! Which rendezvous an address means that a DNS transport has been at.
//!
//! `SwarmBuilder::with_dns` resolves the name in every address before this transport sees it. The address
//! then names a host that nobody has joined at, and whose certificate cannot be verified. What is left
//! is the port, the scheme and the IP address: they are compared with the names that are known.

use std::{net::IpAddr, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{Links, lock, socket};
use crate::address::{Rendezvous, StarAddr};

/// How many names are looked up for one dial, and how long that may take in all.
const MAX_LOOKUPS: usize = 4;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

impl Links {
    /// The rendezvous through which to dial `to`: the one that it names, if a link is open there; the one that we listen
    /// at, if the peer was announced there at this address; one to which a link is open under another spelling, or one of the names at
    /// which the dialled peer is said to be; else the one that it names.
    pub(crate) async fn rendezvous_meant(
        &self,
        to: &StarAddr,
        named: impl FnOnce() -> Vec<Rendezvous>,
    ) -> Rendezvous {
        let wanted = to.rendezvous();
        if self.is_open(wanted) {
            return wanted.clone();
        }
        if let Some(rendezvous) = self.announced_at(to) {
            return rendezvous;
        }
        let mut open = self
            .open()
            .into_iter()
            .filter(|(rendezvous, _)| rendezvous.is_same_endpoint(wanted));
        let Some(ip) = wanted.host().ip().filter(|_| wanted.sni().is_none()) else {
            let same = open.find(|(rendezvous, _)| rendezvous.is_same_server(wanted));
            return same.map_or_else(|| wanted.clone(), |(rendezvous, _)| rendezvous);
        };
        let (opened, opening): (Vec<_>, Vec<_>) = open.partition(|(_, ips)| !ips.is_empty());
        if let Some((rendezvous, _)) = opened.iter().find(|(_, ips)| ips.contains(&ip)) {
            return rendezvous.clone();
        }
        let named: Vec<_> = named()
            .into_iter()
            .filter(|rendezvous| rendezvous.is_same_endpoint(wanted))
            .collect();
        let opening = opening.into_iter().map(|(rendezvous, _)| rendezvous);
        let looked_up = named.iter().cloned().chain(opening);
        if let Some(found) = first_at(ip, looked_up.take(MAX_LOOKUPS)).await {
            return self.same_server(found);
        }
        // Two resolvers may give two answers for one name.
        match &named[..] {
            [only] => self.same_server(only.clone()),
            _ => wanted.clone(),
        }
    }

    /// Where the peer was announced at this address: that names a host of the peer's choice, and is no place to
    /// connect to.
    ///
    /// Strangers may have chosen a rendezvous at which we do not listen. That one could announce whom it likes at the
    /// addresses of another one, and all dials would come to it.
    fn announced_at(&self, to: &StarAddr) -> Option<Rendezvous> {
        let mailboxes = lock(&self.mailboxes);
        let mut open = mailboxes.iter().filter(|(rendezvous, mailbox)| {
            !mailbox.is_closed() && self.context.listening.at(rendezvous)
        });
        let found = open.find(|(_, mailbox)| lock(&mailbox.spellings).has(to));
        found.map(|(rendezvous, _)| rendezvous.clone())
    }

    /// The same server as a link that is there has it.
    fn same_server(&self, rendezvous: Rendezvous) -> Rendezvous {
        let same = self
            .open()
            .into_iter()
            .find(|(open, _)| open.is_same_server(&rendezvous));
        same.map_or(rendezvous, |(open, _)| open)
    }
}

/// The first of the rendezvous whose name has the address `ip`.
///
/// A task of its own looks it up: in a runtime without timers or IO it panics there, and not in the swarm's.
async fn first_at(ip: IpAddr, rendezvous: impl Iterator<Item = Rendezvous>) -> Option<Rendezvous> {
    let rendezvous: Vec<_> = rendezvous.collect();
    if rendezvous.is_empty() {
        return None;
    }
    // Dropped with the dial, it ends the lookup.
    let mut lookup = JoinSet::new();
    lookup.spawn(async move {
        let search = async {
            for rendezvous in rendezvous {
                let found = socket::resolve(&rendezvous).await;
                if found.is_ok_and(|found| found.iter().any(|addr| addr.ip() == ip)) {
                    return Some(rendezvous);
                }
            }
            None
        };
        timeout(LOOKUP_TIMEOUT, search).await.ok()?
    });
    lookup.join_next().await?.ok()?
}

#[cfg(test)]
#[path = "alias_tests.rs"]
mod tests;
