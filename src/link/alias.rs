//! Finds the rendezvous that an address means after a DNS transport has resolved its name.
//!
//! `SwarmBuilder::with_dns` resolves the name in every address before this transport sees the address. The address then
//! contains a host at which no peer has joined, and whose certificate cannot be verified. Only the port, the scheme and
//! the IP address are left. They are compared with the known names.

use super::{Links, global::is_global};
use crate::{
    address::{Rendezvous, StarAddr},
    sync::lock,
};

/// The maximum number of names that are looked up for one dial.
const MAX_LOOKUPS: usize = 4;

impl Links {
    /// Returns the rendezvous through which to dial `to`. The first match counts:
    ///
    /// 1. The rendezvous in `to`, if a link to it is open.
    /// 2. The rendezvous at which we listen and that announced the peer at this address.
    /// 3. A rendezvous to which a link is open under another spelling. If `to` contains an IP address, we must also
    ///    listen there, or the dialled peer must be said to be there.
    /// 4. One of the names at which the peer is said to be: one that has the IP address, or the only one if `to` is
    ///    secure.
    /// 5. If `to` is secure, a rendezvous to which a link is open and whose name has the IP address.
    /// 6. The rendezvous in `to`.
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
            // We would not connect to any name that has this address.
            return wanted.clone();
        }
        let named: Vec<_> = named()
            .into_iter()
            .filter(|rendezvous| rendezvous.is_same_endpoint(wanted))
            .collect();
        // The owner of any name can point it to the address of another server.
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
        // A proxy resolves these names itself, so they are not looked up here.
        #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
        let looked_up = looked_up.filter(|named| !self.context.socket.is_proxied(named));
        let looked_up = looked_up.take(MAX_LOOKUPS);
        if let Some(found) = self.lookups.first_at(ip, looked_up.collect()).await {
            return self.same_server(found);
        }
        if !wanted.is_secure() {
            return wanted.clone();
        }
        // A bare address has no certificate, so any name is better. Two resolvers may give two answers for one name.
        match (&named[..], here.first()) {
            ([only], _) => self.same_server(only.clone()),
            (_, Some(open)) => open.clone(),
            (_, None) => wanted.clone(),
        }
    }

    /// Returns the rendezvous that announced the peer at this address. The address contains a host of the peer's
    /// choice, and is no place to connect to.
    ///
    /// Only rendezvous at which we listen count. Strangers may have chosen any other one. It could announce any peer at
    /// the addresses of another rendezvous, and would get all dials to them.
    fn announced_at(&self, to: &StarAddr) -> Option<Rendezvous> {
        let mailboxes = lock(&self.mailboxes);
        let mut open = mailboxes.iter().filter(|(rendezvous, mailbox)| {
            !mailbox.is_closed() && self.context.listening.at(rendezvous)
        });
        let found = open.find(|(_, mailbox)| lock(&mailbox.spellings).has(to));
        found.map(|(rendezvous, _)| rendezvous.clone())
    }

    /// Returns the same server in the spelling of an open link, if there is one.
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
