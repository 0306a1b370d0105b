//! The operator's page.

use super::Config;
use crate::rendezvous::admin::Admin;

impl Config {
    /// Has `/admin` answered with the operator's page: what the server does, now and over the last hour, who sends most, and
    /// who is there; and it disconnects and bans peers. Off by default. It has [who sends most](Self::with_top_peers) counted.
    ///
    /// The token goes to the server as it is. So have the server, or a
    /// [trusted proxy](Self::with_trusted_proxies) that says so in `X-Forwarded-Proto`, speak TLS. Otherwise the log and the page
    /// warn of it, but on the server's own machine.
    ///
    /// Where there are [tenants](Self::with_tenants), it is about all of them, and is answered at hosts of none, or at each host
    /// if [others are refused](Self::with_known_hosts_only).
    ///
    /// Those who are banned are kept out before the [access](Self::with_access) is asked about them.
    ///
    /// A [`Service`](crate::rendezvous::Service) answers `/admin` with 404, and keeps to the bans: an application has its own way to
    /// know its operator, and only it knows under which path its cookies are to be.
    #[must_use]
    pub fn with_admin(mut self, admin: Admin) -> Self {
        self.pages.admin = Some(admin);
        self
    }

    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.pages.admin.as_ref()
    }
}
