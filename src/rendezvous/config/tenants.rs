//! The networks on one server.

use super::{Config, PublicNames};
use crate::rendezvous::tenant::{Directory, Tenant, TenantError, TenantId};

#[derive(Debug, Clone, Default)]
pub(super) struct TenantSettings {
    directory: Directory,
    only_known: bool,
}

impl Config {
    /// Has each of these tenants be a network of its own. Whoever asks for a host of none of them belongs to the default
    /// tenant, unless [unknown hosts are refused](Self::with_known_hosts_only).
    ///
    /// - A peer joins under the hosts of its tenant only, and one of the default tenant under none of theirs. So no address
    ///   leads from one tenant to another.
    /// - The host is that of the request: `Host`, or what a request line names in its place. A proxy has to pass it on. Nobody's
    ///   `X-Forwarded-Host` is looked at.
    /// - What an origin may have at most it has in all tenants together: links, memory, and the rates of joins, dials and
    ///   refusals. [`Limits::with_announce_rate`](super::Limits::with_announce_rate), and the 4 MiB of announcements that
    ///   are kept, are shared evenly by the tenants, the default one included.
    /// - At a tenant's host, the page, `/health` and `/metrics` speak of this tenant alone; elsewhere, `/health` and
    ///   `/metrics` speak of all.
    ///
    /// # Errors
    /// If there are more than 256, or two of them have one name or one host.
    pub fn with_tenants(
        mut self,
        tenants: impl IntoIterator<Item = Tenant>,
    ) -> Result<Self, TenantError> {
        self.tenants.directory = Directory::new(tenants)?;
        Ok(self)
    }

    /// Whether a request for a link, or for the page, is refused with 421 if its host is that of no tenant. Default: no. It has
    /// no effect without [tenants](Self::with_tenants).
    #[must_use]
    pub fn with_known_hosts_only(mut self, only_known: bool) -> Self {
        self.tenants.only_known = only_known;
        self
    }

    pub(crate) fn tenants(&self) -> &Directory {
        &self.tenants.directory
    }

    /// Whether there is a default tenant.
    pub(crate) fn takes_unknown_hosts(&self) -> bool {
        !self.tenants.only_known || self.tenants.directory.is_empty()
    }

    /// What holds for one of the tenants, or for the default one.
    pub(crate) fn of_tenant(&self, tenant: Option<TenantId>) -> Self {
        let directory = self.tenants();
        let hosts_of = |tenant: &Tenant| tenant.hosts().cloned().collect::<Vec<_>>();
        let tenant = tenant.and_then(|TenantId(number)| directory.all().nth(number));
        let names: PublicNames = match tenant {
            Some(tenant) => hosts_of(tenant).into_iter().collect(),
            None => {
                let others = directory.all().flat_map(hosts_of);
                self.public_names.clone().without(others)
            }
        };
        let mut config = self.clone();
        config.public_names = names;
        config.limits.announce_rate = (config.limits.announce_rate / self.tenant_count()).max(1);
        config
    }

    /// How many there are, the default one included if there is one.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants().all().count() + usize::from(self.takes_unknown_hosts())
    }
}
