//! Which rendezvous an address means that a DNS transport has been at.
//!
//! `SwarmBuilder::with_dns` resolves the name in every address before this transport sees it. The address
//! then names a host that nobody has joined at, and whose certificate cannot be verified. What is left
//! is the port, the scheme and the IP address: they are compared with the names that are known.

use super::{Links, global::is_global, lock};
use crate::address::{Rendezvous, StarAddr};

/// How many names are looked up for one dial.
const MAX_LOOKUPS: usize = 4;

impl Links {
    /// The rendezvous through which to dial `to`: the one that it names, if a link is open there; the one that we listen
    /// at, if the peer was announced there at this address; one to which a link is open under another spelling, if we listen there
    /// or the dialled peer is said to be there, or else one of the names at which it is said to be; else the one that it names.
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
        let nobody = opened.is_empty() && opening.is_empty();
        if nobody && !self.context.allow_local && !is_global(ip) {
            // No name that has this address would be connected to.
            return wanted.clone();
        }
        let named: Vec<_> = named()
            .into_iter()
            .filter(|rendezvous| rendezvous.is_same_endpoint(wanted))
            .collect();
        // Anybody's name may have the address of another one's server.
        let is_vouched_for = |rendezvous: &Rendezvous| {
            self.context.listening.at(rendezvous)
                || named.contains(rendezvous)
                || named.iter().any(|named| named.is_same_server(rendezvous))
        };
        let here = opened.into_iter().filter(|(_, ips)| ips.contains(&ip));
        let here: Vec<_> = here.map(|(rendezvous, _)| rendezvous).collect();
        if let Some(found) = here.iter().find(|found| is_vouched_for(found)) {
            return found.clone();
        }
        let opening = opening.into_iter().map(|(rendezvous, _)| rendezvous);
        let opening = opening.filter(is_vouched_for);
        let looked_up = named.iter().cloned().chain(opening);
        // What a proxy is asked for is asked of nobody here.
        #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
        let looked_up = looked_up.filter(|named| !self.context.socket.is_proxied(named));
        let looked_up = looked_up.take(MAX_LOOKUPS);
        if let Some(found) = self.lookups.first_at(ip, looked_up.collect()).await {
            return self.same_server(found);
        }
        if !wanted.is_secure() {
            return wanted.clone();
        }
        // An address alone has no certificate: any name is better. Two resolvers may give two answers for one name.
        match (&named[..], here.first()) {
            ([only], _) => self.same_server(only.clone()),
            (_, Some(open)) => open.clone(),
            (_, None) => wanted.clone(),
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

#[cfg(test)]
#[path = "alias_tests.rs"]
mod tests;
