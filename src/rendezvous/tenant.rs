//! Separate networks on one server, told apart by the host that peers ask for. No IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use super::names::PublicName;

/// The largest number of tenants. Each tenant has its own lines in `/metrics`.
const MOST: usize = 256;
/// The longest name of a tenant, in bytes.
const MAX_NAME: usize = 32;

/// A separate network on a rendezvous: its peers hear of each other and reach each other, and never hear of other
/// peers.
///
/// A peer belongs to the tenant whose host it asks for. That is the host in its address, so the peer need not know of
/// tenants. A host separates networks, but it does not authorise: any peer that knows the host may ask for it.
/// [`Access`](super::Access) decides who may join, and [`Join::tenant`](super::Join::tenant) says in which tenant.
///
/// The text form is `NAME=HOST[,HOST…]`.
///
/// ```
/// use libp2p_websocket_star::rendezvous::{Config, Tenant};
///
/// let blue: Tenant = "blue=blue.example,192.0.2.1".parse()?;
/// let red: Tenant = "red=red.example".parse()?;
/// let config = Config::default().with_tenants([blue, red])?;
/// # Ok::<(), libp2p_websocket_star::rendezvous::TenantError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    name: Arc<str>,
    hosts: Vec<PublicName>,
}

/// Why a tenant is invalid, by itself or beside the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The text has no equals sign after a name.
    #[error("must be NAME=HOST[,HOST…]")]
    Form,
    /// The name is not valid.
    #[error(
        "the name of a tenant must have 1 to 32 of the characters a-z, 0-9, - and _, and must not be `default`"
    )]
    Name,
    /// It has no host, so no peer would belong to it.
    #[error("a tenant must have at least one host")]
    NoHost,
    /// A host is neither a DNS name nor an IP address.
    #[error("a host must be a DNS name or an IP address")]
    Host,
    /// There are too many tenants.
    #[error("there may be at most 256 tenants")]
    TooMany,
    /// Two tenants have the same name.
    #[error("there are two tenants with the name {0}")]
    SameName(Arc<str>),
    /// Two tenants have the same host.
    #[error("two tenants have the host {0}")]
    SameHost(PublicName),
}

impl Tenant {
    /// The name of the default tenant, to which peers belong that ask for a host of no other tenant.
    pub const DEFAULT: &str = "default";

    /// Creates a tenant with a name for the operator, and the hosts that its peers ask for. The name has 1 to 32
    /// characters of `a-z`, `0-9`, `-` and `_`.
    ///
    /// # Errors
    /// If the name is not valid, or there is no host.
    pub fn new(
        name: &str,
        hosts: impl IntoIterator<Item = PublicName>,
    ) -> Result<Self, TenantError> {
        let byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(byte);
        if !is_name || name == Tenant::DEFAULT {
            return Err(TenantError::Name);
        }
        let hosts: Vec<_> = hosts.into_iter().collect();
        match hosts.is_empty() {
            true => Err(TenantError::NoHost),
            false => Ok(Self {
                name: name.into(),
                hosts,
            }),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the hosts that its peers ask for.
    pub fn hosts(&self) -> impl Iterator<Item = &PublicName> {
        self.hosts.iter()
    }
}

impl FromStr for Tenant {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, TenantError> {
        let (name, hosts) = text.split_once('=').ok_or(TenantError::Form)?;
        if hosts.trim().is_empty() {
            return Err(TenantError::NoHost);
        }
        let hosts = hosts.split(',').map(|host| asked_for(host.trim()));
        let hosts: Option<Vec<_>> = hosts.collect();
        Self::new(name.trim(), hosts.ok_or(TenantError::Host)?)
    }
}

/// Returns the host that a request asks for, without its port, in upper or lower case, with or without a final dot.
pub(crate) fn asked_for(host: &str) -> Option<PublicName> {
    // A bare IPv6 address, as people write it.
    if let Ok(name) = host.parse() {
        return Some(name);
    }
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(ip, _)| ip.contains(':'))?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    host.strip_suffix('.').unwrap_or(host).parse().ok()
}

/// The number of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TenantId(pub(crate) usize);

/// The configured tenants.
#[derive(Debug, Clone, Default)]
pub(crate) struct TenantTable {
    tenants: Arc<[Tenant]>,
    hosts: Arc<BTreeMap<PublicName, TenantId>>,
}

impl TenantTable {
    pub(crate) fn new(tenants: impl IntoIterator<Item = Tenant>) -> Result<Self, TenantError> {
        let tenants: Vec<Tenant> = tenants.into_iter().collect();
        if tenants.len() > MOST {
            return Err(TenantError::TooMany);
        }
        let (mut names, mut hosts) = (BTreeSet::new(), BTreeMap::new());
        for (number, tenant) in tenants.iter().enumerate() {
            if !names.insert(tenant.name()) {
                return Err(TenantError::SameName(tenant.name.clone()));
            }
            for host in tenant.hosts() {
                let others = hosts.insert(host.clone(), TenantId(number));
                if others.is_some_and(|other| other != TenantId(number)) {
                    return Err(TenantError::SameHost(host.clone()));
                }
            }
        }
        Ok(Self {
            hosts: Arc::new(hosts),
            tenants: tenants.into(),
        })
    }

    /// Returns the tenants in the order of their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter()
    }

    /// Returns the numbers of the tenants.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TenantId> + use<> {
        (0..self.tenants.len()).map(TenantId)
    }

    /// Returns the name of one tenant.
    pub(crate) fn name(&self, TenantId(number): TenantId) -> Option<Arc<str>> {
        self.tenants.get(number).map(|tenant| tenant.name.clone())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Returns the tenant that has a host; `None` if no tenant has it.
    pub(crate) fn find(&self, host: &str) -> Option<TenantId> {
        if self.hosts.is_empty() {
            return None;
        }
        self.hosts.get(&asked_for(host)?).copied()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        for (number, host) in self.hosts.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(text: &str) -> Tenant {
        text.parse().expect("a tenant")
    }

    fn directory(texts: &[&str]) -> Result<TenantTable, TenantError> {
        TenantTable::new(texts.iter().map(|text| tenant(text)))
    }

    #[test]
    fn a_host_is_found_whatever_its_case_its_port_and_its_dot() {
        let directory = directory(&[
            "blue=Blue.example,192.0.2.1",
            "red=red.example.,[2001:db8::1]",
        ]);
        let directory = directory.expect("good ones");
        for (host, number) in [
            ("blue.example", 0),
            ("BLUE.Example:443", 0),
            ("blue.example.", 0),
            ("blue.example.:9090", 0),
            ("blue.example:", 0),
            ("192.0.2.1", 0),
            ("192.0.2.1:80", 0),
            ("[::ffff:192.0.2.1]:80", 0),
            ("red.example", 1),
            ("[2001:db8::1]", 1),
            ("[2001:0DB8:0::1]:443", 1),
        ] {
            assert_eq!(directory.find(host), Some(TenantId(number)), "{host}");
        }
        for host in [
            "",
            ".",
            ":443",
            "blue.example..",
            "sub.blue.example",
            "blue.example.evil",
            "blue.example:443:443",
            "blue.example:port",
            "blue.example:123456",
            "user@blue.example",
            "blue.example/",
            " blue.example",
            "[blue.example]evil",
            "[blue.example]",
            "[192.0.2.1]:80",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "192.0.2.10",
        ] {
            assert_eq!(directory.find(host), None, "{host:?}");
        }
    }

    #[test]
    fn a_tenant_has_a_plain_name_and_hosts() {
        let good = tenant("blue-1_a = blue.example , ::1");
        assert_eq!(good.to_string(), "blue-1_a=blue.example,::1");
        let long = format!("{}=a.example", "a".repeat(33));
        for (text, error) in [
            ("", TenantError::Form),
            ("blue", TenantError::Form),
            ("=a.example", TenantError::Name),
            ("Blue=a.example", TenantError::Name),
            ("bl ue=a.example", TenantError::Name),
            ("default=a.example", TenantError::Name),
            (&long, TenantError::Name),
            ("blue=", TenantError::NoHost),
            ("blue=a.example,", TenantError::Host),
            ("blue=*.example", TenantError::Host),
            ("blue=https://a.example", TenantError::Host),
        ] {
            assert_eq!(text.parse::<Tenant>(), Err(error), "{text:?}");
        }
        assert_eq!(Tenant::new("blue", []), Err(TenantError::NoHost));
    }

    #[test]
    fn no_two_tenants_have_one_name_or_one_host() {
        let error = directory(&["blue=a.example", "blue=b.example"]).err();
        assert_eq!(error, Some(TenantError::SameName("blue".into())));
        let error = directory(&["blue=a.example", "red=b.example,A.example:1"]).err();
        assert_eq!(
            error,
            Some(TenantError::SameHost("a.example".parse().expect("a name")))
        );
        assert!(directory(&["blue=a.example,a.example"]).is_ok());
        let many =
            |count| TenantTable::new((0..count).map(|n| tenant(&format!("t{n}=t{n}.example"))));
        assert!(many(256).is_ok());
        assert_eq!(many(257).err(), Some(TenantError::TooMany));
        assert!(directory(&[]).expect("none").is_empty());
    }

    proptest! {
        #[test]
        fn any_host_is_looked_for(host in "a?[a1.:\\[\\]@ -]{0,7}") {
            let directory = directory(&["blue=a"]).expect("good");
            let (name, port) = host.split_once(':').unwrap_or((&host, ""));
            let is_port = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            let is_blue = ["a", "a."].contains(&name) && is_port;
            prop_assert_eq!(directory.find(&host).is_some(), is_blue);
        }
    }
}
