//! The networks on one server.

use std::net::IpAddr;

use super::{Config, Network, PublicNames};
use crate::rendezvous::tenant::{Directory, Tenant, TenantError, TenantId};

#[derive(Debug, Clone)]
pub(super) struct TenantSettings {
    directory: Directory,
    only_known: bool,
    operators: Vec<Network>,
}

impl Default for TenantSettings {
    fn default() -> Self {
        let this_machine = ["127.0.0.0/8", "::1"].map(|network| network.parse().ok());
        Self {
            directory: Directory::default(),
            only_known: false,
            operators: this_machine.into_iter().flatten().collect(),
        }
    }
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
    ///   refusals. Each tenant has its part of the [rate of announcements](super::Limits::with_announce_rate), by the number of
    ///   its links. What is remembered of announcements and of those who have left is shared evenly.
    /// - The page, `/health` and `/metrics` speak of the tenant of whoever asks. At a host of no tenant, those who
    ///   [look after the server](Self::with_operators) see `/metrics` of all.
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

    /// Whether a request for a link, the page, or the operator's page is refused with 421 if its host is that of no tenant.
    /// Default: no. It has no effect without [tenants](Self::with_tenants).
    #[must_use]
    pub fn with_known_hosts_only(mut self, only_known: bool) -> Self {
        self.tenants.only_known = only_known;
        self
    }

    /// From where those look at `/metrics` who look after the server. At a host that is no tenant's they see all tenants, each
    /// with its label `tenant`, and what the tenants share. Default: from this machine, `127.0.0.0/8` and `::1`. It has no effect
    /// without [tenants](Self::with_tenants): then everybody sees all.
    ///
    /// A proxy on this machine has to be one of the [trusted proxies](Self::with_trusted_proxies): or everybody
    /// who comes through it comes from this machine.
    #[must_use]
    pub fn with_operators(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.tenants.operators = networks.into_iter().collect();
        self
    }

    /// Whether somebody who asks from there may see what is counted of all tenants.
    pub(crate) fn is_operator(&self, client: IpAddr) -> bool {
        let networks = &self.tenants.operators;
        self.tenants.directory.is_empty() || networks.iter().any(|network| network.contains(client))
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
        config
    }

    /// How many there are, the default one included if there is one.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants().all().count() + usize::from(self.takes_unknown_hosts())
    }
}
