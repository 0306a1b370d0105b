//! The settings of the tenants of one server.

use std::net::IpAddr;

use super::{Config, Network, PublicNames};
use crate::rendezvous::tenant::{Tenant, TenantError, TenantId, TenantTable};

#[derive(Debug, Clone)]
pub(super) struct TenantSettings {
    directory: TenantTable,
    only_known: bool,
    operators: Vec<Network>,
}

impl Default for TenantSettings {
    fn default() -> Self {
        let this_machine = ["127.0.0.0/8", "::1"].map(|network| network.parse().ok());
        Self {
            directory: TenantTable::default(),
            only_known: false,
            operators: this_machine.into_iter().flatten().collect(),
        }
    }
}

impl Config {
    /// Makes each of these tenants a separate network. A peer that asks for a host of none of them belongs to the
    /// default tenant, unless [unknown hosts are refused](Self::with_known_hosts_only).
    ///
    /// - A peer joins only under the hosts of its tenant, and a peer of the default tenant under none of these hosts.
    ///   So no address leads from one tenant to another.
    /// - The host is that of the request: `Host`, or the host in the request line, if there is one. A proxy has to pass
    ///   it on. `X-Forwarded-Host` is always ignored.
    /// - Bounds for an origin hold for all tenants together: links, memory, and the rates of joins, dials and refusals.
    ///   Each tenant has its part of the [rate of announcements](super::Limits::with_announce_rate), by the number of
    ///   its links. The memory for announcements and for peers that have left is shared evenly.
    /// - The page, `/health` and `/metrics` show the tenant whose host was asked for. At a host that no tenant has,
    ///   [operators](Self::with_operators) see `/metrics` of all tenants.
    ///
    /// # Errors
    /// If there are more than 256, or two of them have the same name or the same host.
    pub fn with_tenants(
        mut self,
        tenants: impl IntoIterator<Item = Tenant>,
    ) -> Result<Self, TenantError> {
        self.tenants.directory = TenantTable::new(tenants)?;
        Ok(self)
    }

    /// Sets whether a request for a link, the page, or the operator's page is refused with 421 if no tenant has the
    /// host. Default: no. It has no effect without [tenants](Self::with_tenants).
    #[must_use]
    pub fn with_known_hosts_only(mut self, only_known: bool) -> Self {
        self.tenants.only_known = only_known;
        self
    }

    /// Sets the networks from which operators read `/metrics`. At a host that no tenant has, they see all tenants, each
    /// with its label `tenant`, and what the tenants share. Default: this machine, `127.0.0.0/8` and `::1`. It has no
    /// effect without [tenants](Self::with_tenants): then every client sees everything.
    ///
    /// A proxy on this machine has to be one of the [trusted proxies](Self::with_trusted_proxies). Otherwise every
    /// client that comes through it seems to come from this machine.
    #[must_use]
    pub fn with_operators(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.tenants.operators = networks.into_iter().collect();
        self
    }

    /// Returns whether a client at this address may see what is counted for all tenants.
    pub(crate) fn is_operator(&self, client: IpAddr) -> bool {
        let networks = &self.tenants.operators;
        self.tenants.directory.is_empty() || networks.iter().any(|network| network.contains(client))
    }

    pub(crate) fn tenants(&self) -> &TenantTable {
        &self.tenants.directory
    }

    /// Returns whether there is a default tenant.
    pub(crate) fn takes_unknown_hosts(&self) -> bool {
        !self.tenants.only_known || self.tenants.directory.is_empty()
    }

    /// Returns the configuration of one of the tenants, or of the default tenant.
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

    /// Returns the number of tenants, including the default tenant if there is one.
    pub(crate) fn tenant_count(&self) -> usize {
        self.tenants().all().count() + usize::from(self.takes_unknown_hosts())
    }
}
