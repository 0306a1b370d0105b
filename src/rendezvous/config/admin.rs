//! The settings of the operator's page.

use super::Config;
use crate::rendezvous::operator::Admin;

impl Config {
    /// Answers `/admin` with the operator's page. It shows what the server does, now and over the last hour, the
    /// heaviest senders, and the peers that have joined; and it disconnects and bans peers. Off by default. It turns on
    /// the [counting of what each peer sends](Self::with_top_peers).
    ///
    /// The browser sends the token as it is. So let the server speak TLS, or a
    /// [trusted proxy](Self::with_trusted_proxies) that says so in `X-Forwarded-Proto`. Otherwise the log and the page
    /// show a warning, except on the server's own machine.
    ///
    /// Where there are [tenants](Self::with_tenants), the page is about all of them. It is answered at hosts that no
    /// tenant has, or, if [unknown hosts are refused](Self::with_known_hosts_only), at the host of every tenant.
    ///
    /// Banned peers are kept out before the [access](Self::with_access) is asked about them.
    ///
    /// A [`Service`](crate::rendezvous::Service) answers `/admin` with 404, but enforces the bans: an application has
    /// its own way to authenticate its operator, and only the application knows the path for its cookies.
    #[must_use]
    pub fn with_admin(mut self, admin: Admin) -> Self {
        self.pages.admin = Some(admin);
        self
    }

    pub(crate) fn admin(&self) -> Option<&Admin> {
        self.pages.admin.as_ref()
    }
}
